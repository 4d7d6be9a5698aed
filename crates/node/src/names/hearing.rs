//! What is heard of names: of those that are followed, the newest record is kept; of own ones, see `own`.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Mutex,
    time::SystemTime,
};

use libp2p::PeerId;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{
    Name, Names, Pointer, Resolved,
    pubsub::{Heard, Verdict},
};
use crate::{Error, Node, behaviour::Command, locked, routing::ipns};

/// What a followed name means, by the newest record that was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// `/ipfs/<cid>...` or `/ipns/<name>...`.
    pub value: String,
    /// Counts up with each change.
    pub sequence: u64,
    /// The record has expired, and nobody told another.
    pub stale: bool,
}

/// The names that are listened for.
#[derive(Default)]
pub struct Hearing {
    /// Followed names and their newest records.
    heads: Mutex<BTreeMap<PeerId, Option<ipns::Record>>>,
    /// Counts changes of `heads`.
    changed: watch::Sender<u64>,
}

impl Hearing {
    /// Adds a name with what it meant last; false if it was there.
    pub fn add(&self, name: PeerId, head: Option<ipns::Record>) -> bool {
        let mut heads = locked(&self.heads);
        let is_new = !heads.contains_key(&name);
        if is_new {
            heads.insert(name, head);
            self.changed.send_modify(|n| *n += 1);
        }
        is_new
    }

    pub fn remove(&self, name: &PeerId) {
        locked(&self.heads).remove(name);
        self.changed.send_modify(|n| *n += 1);
    }

    pub fn is_followed(&self, name: &PeerId) -> bool {
        locked(&self.heads).contains_key(name)
    }

    /// The newest record of a followed name.
    pub fn head(&self, name: &PeerId) -> Option<ipns::Record> {
        locked(&self.heads).get(name).cloned().flatten()
    }

    /// Followed names.
    pub fn names(&self) -> Vec<PeerId> {
        locked(&self.heads).keys().copied().collect()
    }

    /// Follows what followed names mean.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

impl Names {
    /// Judges what is heard, and keeps what is newer.
    pub async fn hear_all(self, mut heard: mpsc::Receiver<Heard>, commands: mpsc::Sender<Command>) {
        let mut passed_on = HashMap::new();
        while let Some(Heard { name, record, from, message }) = heard.recv().await {
            let bytes = record.clone();
            let hearing = self.blocking(move |names| names.judge(name, bytes, SystemTime::now()));
            let (verdict, known) = hearing.await.unwrap_or_else(|error| {
                tracing::warn!(%error, "what was heard of a name is not kept");
                (Verdict::Ignore, None)
            });
            let is_right = matches!(verdict, Verdict::Accept);
            let verdict = match known {
                Some(known) if is_right && message.is_some() => once(&mut passed_on, name, known),
                _ => verdict,
            };
            // Others may ask for it here.
            let keep = is_right.then(|| Command::Keep(Name::from(name).record(record)));
            for command in [Command::Judge(from, message, verdict)].into_iter().chain(keep) {
                if commands.send(command).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Takes a record as a peer told it, and says whether it is the newest that is known.
    pub fn hear(&self, name: PeerId, bytes: Vec<u8>, now: SystemTime) -> Result<Verdict, Error> {
        self.judge(name, bytes, now).map(|(verdict, _)| verdict)
    }

    /// The same with the record, if it is one.
    fn judge(
        &self,
        name: PeerId,
        bytes: Vec<u8>,
        now: SystemTime,
    ) -> Result<(Verdict, Option<ipns::Record>), Error> {
        if bytes.len() > ipns::MAX_BYTES {
            return Ok((Verdict::Reject, None));
        }
        let record = match ipns::Record::verify(name, bytes, now) {
            Ok(record) => record,
            // True once, so whoever passes it on is behind, and no liar.
            Err(ipns::Error::Expired) => return Ok((Verdict::Ignore, None)),
            Err(ipns::Error::Invalid(_)) => return Ok((Verdict::Reject, None)),
        };
        let followed = self.hear_followed(name, &record)?;
        let keys = self.own_keys()?;
        let key = keys.iter().find(|key| key.public().to_peer_id() == name);
        let own = key.map(|key| self.hear_own(key, &record, now)).transpose()?;
        Ok((own.or(followed).unwrap_or(Verdict::Ignore), Some(record)))
    }

    fn hear_followed(&self, name: PeerId, record: &ipns::Record) -> Result<Option<Verdict>, Error> {
        let mut heads = locked(&self.0.hearing.heads);
        let Some(head) = heads.get_mut(&name) else { return Ok(None) };
        if head.as_ref() == Some(record) {
            return Ok(Some(Verdict::Accept));
        }
        if head.as_ref().is_some_and(|head| ipns::select([head, record]) == Some(head)) {
            return Ok(Some(Verdict::Ignore));
        }
        // Also where it says the same with another sequence: who follows it compares sequences.
        *head = Some(record.clone());
        drop(heads);
        let resolved = Resolved { value: record.text(), stale: false };
        self.0.cache.put(Pointer::Key(Name::from(name)), resolved, record.ttl(), 0, Instant::now());
        self.0.hearing.changed.send_modify(|n| *n += 1);
        self.0.kept.set_head(&name, record.bytes())?;
        Ok(Some(Verdict::Accept))
    }
}

/// Passes a record on unless it, or a newer one of its name, was passed on before.
///
/// The newest one may have come by another way first, and peers behind this node wait for it all the same.
fn once(passed_on: &mut HashMap<PeerId, ipns::Record>, name: PeerId, record: ipns::Record) -> Verdict {
    if passed_on.get(&name).is_some_and(|passed| *passed >= record) {
        return Verdict::Ignore;
    }
    passed_on.insert(name, record);
    Verdict::Accept
}

impl Node {
    /// Hears of what a name means from now on, until it is followed no more.
    pub async fn follow(&self, name: Name) -> Result<(), Error> {
        let head = self.names().blocking(move |names| names.last_head(name.peer())).await?;
        if self.names().0.hearing.add(*name.peer(), head)
            && let Some(online) = self.online()
        {
            online.routing.send(Command::Listen(name.key())).await.map_err(|_| Error::Stopped)?;
        }
        Ok(())
    }

    /// Follows a name, also after a restart, behind those that are followed so; false if it was one of them.
    pub async fn follow_for_good(&self, name: Name) -> Result<bool, Error> {
        let is_new = self.names().blocking(move |names| Ok(names.0.kept.follow(name.peer())?)).await?;
        self.follow(name).await?;
        Ok(is_new)
    }

    /// Follows a name no more; false if it was not followed for good.
    pub async fn unfollow(&self, name: Name) -> Result<bool, Error> {
        if !self.names().blocking(move |names| Ok(names.0.kept.unfollow(name.peer())?)).await? {
            return Ok(false);
        }
        self.names().0.hearing.remove(name.peer());
        if let Some(online) = self.online() {
            online.routing.send(Command::ListenNoMore(name.key())).await.map_err(|_| Error::Stopped)?;
        }
        Ok(true)
    }

    /// The names that are followed for good, in their order.
    pub async fn followed_for_good(&self) -> Result<Vec<Name>, Error> {
        let names = self.names().blocking(|names| Ok(names.0.kept.followed()?)).await?;
        Ok(names.into_iter().map(Name::from).collect())
    }

    /// What a followed name means, by the newest record that was heard.
    pub fn head(&self, name: &Name) -> Option<Head> {
        let head = self.names().0.hearing.head(name.peer())?;
        let stale = head.until() <= SystemTime::now();
        Some(Head { value: head.text(), sequence: head.sequence(), stale })
    }

    /// Changes when a followed name means something else, and when one is followed or no more.
    pub fn heads(&self) -> watch::Receiver<u64> {
        self.names().0.hearing.changes()
    }

    /// Own names that another node writes too, and the sequence that it has reached.
    pub fn rivals(&self) -> Vec<(Name, u64)> {
        self.names().0.own.rivals()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use libp2p::identity::Keypair;

    use super::*;
    use crate::names::fixtures::{machine, signed, verdict};

    #[test]
    fn of_a_followed_name_the_newest_record_counts_and_nothing_else_changes_it() {
        let [(_one, writer), (_other, follower)] = [machine(), machine()];
        let key = Keypair::generate_ed25519();
        let name = key.public().to_peer_id();
        let [first, second] = ["/ipfs/a", "/ipfs/b"].map(|value| signed(&writer, &key, value));
        assert_eq!(verdict(&follower, name, &second), "ignore", "nobody follows it");
        follower.0.hearing.add(name, None);
        let changes = follower.0.hearing.changes();
        let before = *changes.borrow();
        for (record, says) in
            [(&first, "accept"), (&second, "accept"), (&second, "accept"), (&first, "ignore")]
        {
            assert_eq!(verdict(&follower, name, record), says);
        }
        let mut lie = second.clone();
        *lie.last_mut().unwrap() ^= 1;
        let other = signed(&writer, &Keypair::generate_ed25519(), "/ipfs/c");
        for lie in [lie, other, b"nonsense".to_vec(), vec![0; ipns::MAX_BYTES + 1]] {
            assert_eq!(verdict(&follower, name, &lie), "reject");
        }
        assert_eq!(follower.0.hearing.head(&name).unwrap().value(), b"/ipfs/b");
        assert_eq!(follower.0.kept.head(&name).unwrap(), Some(second.clone()));
        assert_eq!(*changes.borrow() - before, 2);
        let mut passed_on = HashMap::new();
        let mut pass = |bytes: &[u8]| {
            let record = ipns::Record::verify(name, bytes.to_vec(), SystemTime::now()).unwrap();
            matches!(once(&mut passed_on, name, record), Verdict::Accept)
        };
        assert_eq!([&first, &second, &second, &first].map(|record| pass(record)), [true, true, false, false]);
        let late = SystemTime::now() + Duration::from_secs(3 * 24 * 60 * 60);
        assert!(matches!(follower.hear(name, second, late), Ok(Verdict::Ignore)), "it has expired");
    }
}
