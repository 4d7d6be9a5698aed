//! Resolving names: from the cache while that is valid, else from peers or DNS.

use std::time::{Duration, SystemTime};

use tokio::{
    sync::mpsc,
    time::{self, Instant, timeout_at},
};

use super::{IpnsNames, dnslink::DnsLink};
use crate::{
    DnsFailure, Domain, IpnsName, MutableName, ResolveError, command::SwarmCommand, online::Online,
    routing::ipns,
};

/// After the first answer, how long other peers have to send a newer one.
const GRACE_PERIOD: Duration = Duration::from_millis(500);

/// The value of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// `/ipfs/<cid>...` or `/ipns/<name>...`.
    pub value: String,
    /// Whether no peer could be queried or answered: it is the last known value.
    pub stale: bool,
}

impl Resolved {
    fn fresh(value: String) -> Self {
        Self { value, stale: false }
    }
}

impl IpnsNames {
    /// See [`crate::Node::resolve`].
    pub async fn resolve(
        &self,
        online: Option<&Online>,
        name: &MutableName,
        timeout: Duration,
    ) -> Result<Resolved, ResolveError> {
        let joins = online.map_or(0, |online| *online.peers.joins().borrow());
        if let Some(known) = self.known(name, joins) {
            return Ok(known);
        }
        let (resolved, ttl) = self.query(online, name, timeout).await?;
        if resolved.stale {
            tracing::warn!(name = %name, "no answer for this name; using the last known value");
        }
        self.0.cache.put(name.clone(), resolved.clone(), ttl, joins, Instant::now());
        Ok(resolved)
    }

    /// See [`crate::Node::resolve_uncached`].
    pub async fn resolve_uncached(
        &self,
        online: Option<&Online>,
        name: &MutableName,
        timeout: Duration,
    ) -> Result<Resolved, ResolveError> {
        if let Some(own) = self.published_here(name) {
            return Ok(own);
        }
        let joins = online.map_or(0, |online| *online.peers.joins().borrow());
        let query = async {
            let asked = self.query(online, name, timeout).await;
            let is_answered = asked.as_ref().is_ok_and(|(resolved, _)| !resolved.stale);
            (asked, is_answered)
        };
        match self.0.refreshes.query(name, Instant::now, query).await {
            None => self.resolve(online, name, timeout).await,
            Some(Ok((resolved, ttl))) if !resolved.stale => {
                self.0.cache.put(name.clone(), resolved.clone(), ttl, joins, Instant::now());
                Ok(resolved)
            }
            // Silence does not invalidate a valid cache entry.
            Some(asked) => match self.known(name, joins) {
                Some(known) => Ok(known),
                None => asked.map(|(resolved, _)| resolved),
            },
        }
    }

    async fn query(
        &self,
        online: Option<&Online>,
        name: &MutableName,
        timeout: Duration,
    ) -> Result<(Resolved, Duration), ResolveError> {
        match name {
            MutableName::Key(name) => self.resolve_key(online, name, timeout).await,
            MutableName::Domain(domain) => self.resolve_domain(domain, timeout).await,
        }
    }

    /// Queries peers for the newest record.
    async fn resolve_key(
        &self,
        online: Option<&Online>,
        name: &IpnsName,
        timeout: Duration,
    ) -> Result<(Resolved, Duration), ResolveError> {
        let (peer, start) = (*name.peer(), Instant::now());
        let seen = match self.0.subscriptions.is_followed(&peer) {
            true => self.0.subscriptions.record(&peer),
            false => {
                let seen = self.blocking(move |names| Ok(names.0.record_store.seen(&peer)?)).await?;
                seen.and_then(|bytes| {
                    ipns::Record::verify(peer, bytes, self.valid_at(SystemTime::now())).ok()
                })
            }
        };
        let asked = online.map_or(0, |online| online.peers.list().len());
        let found = match online {
            Some(online) => self.newest(&online.routing, name, start + timeout).await,
            None => None,
        };
        let is_stale = found.as_ref().is_none_or(|found| found.until() <= SystemTime::now());
        let is_new = found > seen;
        // An own record that expired while this node was off.
        let own = || self.own(name);
        let best = found.max(seen).or_else(own).ok_or(ResolveError::NoRecord {
            name: *name,
            asked,
            waited: start.elapsed(),
        })?;
        if is_new {
            let bytes = best.bytes().to_vec();
            let see = move |names: &IpnsNames| {
                // The name may be followed, or the record signed elsewhere under an own key.
                names.ingest(peer, bytes.clone(), SystemTime::now())?;
                match names.0.subscriptions.is_followed(&peer) {
                    true => Ok(()),
                    false => Ok(names.0.record_store.put_seen(&peer, &bytes)?),
                }
            };
            self.blocking(see).await?;
        }
        Ok((Resolved { value: best.text(), stale: is_stale }, best.ttl()))
    }

    /// Queries DNS for the DNSLink.
    async fn resolve_domain(
        &self,
        domain: &Domain,
        timeout: Duration,
    ) -> Result<(Resolved, Duration), ResolveError> {
        let query = time::timeout(timeout, self.0.dns.look_up(domain)).await;
        let silent = || {
            let why = DnsFailure::TimedOut(timeout);
            Err(ResolveError::Dns { domain: domain.clone(), why })
        };
        let key = domain.clone();
        match query.unwrap_or_else(|_| silent()) {
            Ok(DnsLink { value, ttl }) => {
                let link = value.clone();
                let see = move |names: &IpnsNames| Ok(names.0.record_store.put_link(&key, &link)?);
                self.blocking(see).await?;
                Ok((Resolved::fresh(value), ttl))
            }
            Err(error @ ResolveError::Dns { .. }) => {
                let seen = self.blocking(move |names| Ok(names.0.record_store.link(&key)?));
                let value = seen.await?.ok_or(error)?;
                Ok((Resolved { value, stale: true }, Duration::ZERO))
            }
            Err(error) => Err(error),
        }
    }
}

impl IpnsNames {
    /// Returns the newest valid record that peers have.
    pub(super) async fn newest(
        &self,
        routing: &mpsc::Sender<SwarmCommand>,
        name: &IpnsName,
        deadline: Instant,
    ) -> Option<ipns::Record> {
        self.best_of(&mut query_peers(routing, name).await?, name, deadline).await
    }

    /// Returns the newest valid record among the answers.
    pub(super) async fn best_of(
        &self,
        values: &mut Answers,
        name: &IpnsName,
        mut deadline: Instant,
    ) -> Option<ipns::Record> {
        let mut best: Option<ipns::Record> = None;
        while let Ok(Some(value)) = timeout_at(deadline, values.recv()).await {
            let valid_at = self.valid_at(SystemTime::now());
            let Ok(record) = ipns::Record::verify(*name.peer(), value, valid_at) else { continue };
            deadline = deadline.min(Instant::now() + GRACE_PERIOD);
            best = best.max(Some(record));
        }
        best
    }

    /// Returns the value that is known without a query or the disk.
    fn known(&self, name: &MutableName, joins: usize) -> Option<Resolved> {
        self.published_here(name).or_else(|| self.0.cache.get(name, joins, Instant::now()))
    }

    /// Returns the value that this node publishes.
    fn published_here(&self, name: &MutableName) -> Option<Resolved> {
        let MutableName::Key(name) = name else { return None };
        let own = self.own(name).filter(|record| record.until() > SystemTime::now())?;
        Some(Resolved::fresh(own.text()))
    }
}

/// A stream of answers from peers.
pub type Answers = mpsc::UnboundedReceiver<Vec<u8>>;

/// Queries connected peers and the routing system for the record of a name.
pub async fn query_peers(routing: &mpsc::Sender<SwarmCommand>, name: &IpnsName) -> Option<Answers> {
    let (out, values) = mpsc::unbounded_channel();
    routing.send(SwarmCommand::FetchValues(name.key(), out.clone())).await.ok()?;
    routing.send(SwarmCommand::FindValues(name.key(), out)).await.ok()?;
    Some(values)
}

/// Queries connected peers only.
pub async fn query_connected(routing: &mpsc::Sender<SwarmCommand>, name: &IpnsName) -> Option<Answers> {
    let (out, values) = mpsc::unbounded_channel();
    routing.send(SwarmCommand::FetchValues(name.key(), out)).await.ok()?;
    Some(values)
}

/// Queries the routing system only.
pub async fn query_routing(routing: &mpsc::Sender<SwarmCommand>, name: &IpnsName) -> Option<Answers> {
    let (out, values) = mpsc::unbounded_channel();
    routing.send(SwarmCommand::FindValues(name.key(), out)).await.ok()?;
    Some(values)
}
