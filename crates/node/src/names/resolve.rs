//! What a name means: from here where that is fresh enough, else from whoever knows.

use std::time::{Duration, SystemTime};

use tokio::{
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};

use super::{Domain, Name, Names, Pointer, dnslink::Link};
use crate::{Error, Node, behaviour::Command, routing::ipns};

/// After one answer the others have so long to bring a newer one.
const GRACE: Duration = Duration::from_millis(500);

/// What a name means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// `/ipfs/<cid>...` or `/ipns/<name>...`.
    pub value: String,
    /// Nobody could be asked, or nobody answered: it is what was seen last.
    pub stale: bool,
}

impl Resolved {
    fn fresh(value: String) -> Self {
        Self { value, stale: false }
    }
}

impl Node {
    /// What a name means: from here while that is fresh enough, else from peers or DNS; where none answers within `patience`,
    /// what was seen last. Where nobody answered just now, nobody is asked again for a while.
    pub async fn resolve(&self, pointer: &Pointer, patience: Duration) -> Result<Resolved, Error> {
        let joins = self.online().map_or(0, |online| *online.peers.joins().borrow());
        if let Some(known) = self.names().known(pointer, joins) {
            return Ok(known);
        }
        let (resolved, ttl) = self.ask(pointer, patience).await?;
        if resolved.stale {
            tracing::warn!(name = %pointer, "nobody answered for it, so it is taken for what it was");
        }
        self.names().0.cache.put(pointer.clone(), resolved.clone(), ttl, joins, Instant::now());
        Ok(resolved)
    }

    /// Resolves a name by asking peers or DNS although the last answer may still be used: for a caller that misses
    /// something there.
    ///
    /// A name is asked for at most once a second, or once in half a minute where there is no answer; callers that come in
    /// between get the last answer, and those that come meanwhile wait for this one. What this node publishes itself needs
    /// no asking.
    pub async fn resolve_afresh(&self, pointer: &Pointer, patience: Duration) -> Result<Resolved, Error> {
        if let Some(own) = self.names().known_own(pointer) {
            return Ok(own);
        }
        let joins = self.online().map_or(0, |online| *online.peers.joins().borrow());
        let asking = async {
            let asked = self.ask(pointer, patience).await;
            let is_answered = asked.as_ref().is_ok_and(|(resolved, _)| !resolved.stale);
            (asked, is_answered)
        };
        match self.names().0.afresh.ask(pointer, Instant::now, asking).await {
            None => self.resolve(pointer, patience).await,
            Some(Ok((resolved, ttl))) if !resolved.stale => {
                self.names().0.cache.put(pointer.clone(), resolved.clone(), ttl, joins, Instant::now());
                Ok(resolved)
            }
            // Silence does not outdate what may still be used.
            Some(asked) => match self.names().known(pointer, joins) {
                Some(known) => Ok(known),
                None => asked.map(|(resolved, _)| resolved),
            },
        }
    }

    async fn ask(&self, pointer: &Pointer, patience: Duration) -> Result<(Resolved, Duration), Error> {
        match pointer {
            Pointer::Key(name) => self.resolve_key(name, patience).await,
            Pointer::Domain(domain) => self.resolve_domain(domain, patience).await,
        }
    }

    /// Asks peers for the newest record.
    async fn resolve_key(&self, name: &Name, patience: Duration) -> Result<(Resolved, Duration), Error> {
        let (peer, start) = (*name.peer(), Instant::now());
        let seen = match self.names().0.hearing.is_followed(&peer) {
            true => self.names().0.hearing.head(&peer),
            false => {
                let seen = self.names().blocking(move |names| Ok(names.0.kept.seen(&peer)?)).await?;
                seen.and_then(|bytes| ipns::Record::verify(peer, bytes, SystemTime::now()).ok())
            }
        };
        let asked = self.peers().len();
        let found = match self.online() {
            Some(online) => newest(&online.routing, name, start + patience).await,
            None => None,
        };
        let is_stale = found.is_none();
        let is_new = found > seen;
        // An own one that expired while nobody was here to sign it anew.
        let own = || self.names().own(name);
        let best = found.max(seen).or_else(own).ok_or(Error::NoRecord {
            name: *name,
            asked,
            waited: start.elapsed(),
        })?;
        if is_new {
            let bytes = best.bytes().to_vec();
            let see = move |names: &Names| {
                // It may be of a name that is followed, or signed elsewhere under an own key.
                names.hear(peer, bytes.clone(), SystemTime::now())?;
                match names.0.hearing.is_followed(&peer) {
                    true => Ok(()),
                    false => Ok(names.0.kept.see(&peer, &bytes)?),
                }
            };
            self.names().blocking(see).await?;
        }
        Ok((Resolved { value: best.text(), stale: is_stale }, best.ttl()))
    }

    /// Asks DNS for the link.
    async fn resolve_domain(
        &self,
        domain: &Domain,
        patience: Duration,
    ) -> Result<(Resolved, Duration), Error> {
        let asking = timeout(patience, self.names().0.dns.look_up(domain)).await;
        let silent = || {
            let why = format!("no server answered within {:.1} s", patience.as_secs_f64());
            Err(Error::Dns { domain: domain.clone(), why })
        };
        let key = domain.clone();
        match asking.unwrap_or_else(|_| silent()) {
            Ok(Link { value, ttl }) => {
                let link = value.clone();
                let see = move |names: &Names| names.0.kept.see_link(&key, &link).map_err(Error::names);
                self.names().blocking(see).await?;
                Ok((Resolved::fresh(value), ttl))
            }
            Err(error @ Error::Dns { .. }) => {
                let seen = self.names().blocking(move |names| names.0.kept.link(&key).map_err(Error::names));
                let value = seen.await?.ok_or(error)?;
                Ok((Resolved { value, stale: true }, Duration::ZERO))
            }
            Err(error) => Err(error),
        }
    }
}

impl Names {
    /// What is known without asking anybody, and without the disk.
    fn known(&self, pointer: &Pointer, joins: usize) -> Option<Resolved> {
        self.known_own(pointer).or_else(|| self.0.cache.get(pointer, joins, Instant::now()))
    }

    /// What this node publishes under the name.
    fn known_own(&self, pointer: &Pointer) -> Option<Resolved> {
        let Pointer::Key(name) = pointer else { return None };
        let own = self.own(name).filter(|record| record.until() > SystemTime::now())?;
        Some(Resolved::fresh(own.text()))
    }
}

/// The newest valid record that peers have.
pub async fn newest(routing: &mpsc::Sender<Command>, name: &Name, deadline: Instant) -> Option<ipns::Record> {
    best_of(&mut ask_peers(routing, name).await?, name, deadline).await
}

/// What peers answer, as it comes.
pub type Answers = mpsc::UnboundedReceiver<Vec<u8>>;

/// Asks connected peers and the routing system for the record of a name.
pub async fn ask_peers(routing: &mpsc::Sender<Command>, name: &Name) -> Option<Answers> {
    let (out, values) = mpsc::unbounded_channel();
    routing.send(Command::Fetch(name.key(), out.clone())).await.ok()?;
    routing.send(Command::Values(name.key(), out)).await.ok()?;
    Some(values)
}

/// Asks connected peers alone.
pub async fn ask_connected(routing: &mpsc::Sender<Command>, name: &Name) -> Option<Answers> {
    let (out, values) = mpsc::unbounded_channel();
    routing.send(Command::Fetch(name.key(), out)).await.ok()?;
    Some(values)
}

/// Asks the routing system alone.
pub async fn ask_routing(routing: &mpsc::Sender<Command>, name: &Name) -> Option<Answers> {
    let (out, values) = mpsc::unbounded_channel();
    routing.send(Command::Values(name.key(), out)).await.ok()?;
    Some(values)
}

/// Waits for the newest valid record of what peers answer.
pub async fn best_of(values: &mut Answers, name: &Name, mut deadline: Instant) -> Option<ipns::Record> {
    let mut best: Option<ipns::Record> = None;
    while let Ok(Some(value)) = timeout_at(deadline, values.recv()).await {
        let Ok(record) = ipns::Record::verify(*name.peer(), value, SystemTime::now()) else { continue };
        deadline = deadline.min(Instant::now() + GRACE);
        best = best.max(Some(record));
    }
    best
}
