//! Followed names and the records received for them: the newest one is kept. For own names see `own`.

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

use super::{IpnsNames, Resolved};
use crate::{
    IpnsName, MutableName, RecordError,
    command::{ReceivedRecord, SwarmCommand, Verdict},
    locked,
    online::Online,
    routing::ipns,
};

/// The newest record of a followed name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowedRecord {
    /// `/ipfs/<cid>...` or `/ipns/<name>...`.
    pub value: String,
    /// Increases with each change.
    pub sequence: u64,
    /// Whether the record has expired, and no newer one was received.
    pub stale: bool,
}

/// The followed names.
#[derive(Default)]
pub struct Subscriptions {
    /// Followed names and their newest records.
    records: Mutex<BTreeMap<PeerId, Option<ipns::Record>>>,
    /// Counts changes of `records`.
    changed: watch::Sender<u64>,
}

impl Subscriptions {
    /// Adds a name with its last known record. Returns false if it was followed already.
    pub fn add(&self, name: PeerId, last_known: Option<ipns::Record>) -> bool {
        let mut records = locked(&self.records);
        let is_new = !records.contains_key(&name);
        if is_new {
            records.insert(name, last_known);
            self.changed.send_modify(|n| *n += 1);
        }
        is_new
    }

    pub fn remove(&self, name: &PeerId) {
        locked(&self.records).remove(name);
        self.changed.send_modify(|n| *n += 1);
    }

    pub fn is_followed(&self, name: &PeerId) -> bool {
        locked(&self.records).contains_key(name)
    }

    /// Returns the newest record of a followed name.
    pub fn record(&self, name: &PeerId) -> Option<ipns::Record> {
        locked(&self.records).get(name).cloned().flatten()
    }

    /// Returns the followed names.
    pub fn names(&self) -> Vec<PeerId> {
        locked(&self.records).keys().copied().collect()
    }

    /// Returns a channel that changes with the followed names and their records.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

impl IpnsNames {
    /// Verifies the received records, and stores the newest of each name.
    pub async fn ingest_received(
        self,
        mut received: mpsc::Receiver<ReceivedRecord>,
        commands: mpsc::Sender<SwarmCommand>,
    ) {
        let mut forwarded = HashMap::new();
        while let Some(ReceivedRecord { name, record, from, message }) = received.recv().await {
            let bytes = record.clone();
            let validated =
                self.blocking(move |names| names.ingest_validated(name, bytes, SystemTime::now()));
            let (verdict, known) = validated.await.unwrap_or_else(|error| {
                tracing::warn!(%error, "cannot store a received IPNS record");
                (Verdict::Ignore, None)
            });
            let is_right = matches!(verdict, Verdict::Accept);
            let verdict = match known {
                Some(known) if is_right && message.is_some() => forward_once(&mut forwarded, name, known),
                _ => verdict,
            };
            // Stored for peers that fetch it here.
            let keep = is_right.then(|| SwarmCommand::Store(IpnsName::from(name).record(record)));
            for command in [SwarmCommand::ReportValidation(from, message, verdict)].into_iter().chain(keep) {
                if commands.send(command).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Validates a received record and stores it if it is newer. Returns whether to forward it.
    pub fn ingest(&self, name: PeerId, bytes: Vec<u8>, now: SystemTime) -> Result<Verdict, RecordError> {
        self.ingest_validated(name, bytes, now).map(|(verdict, _)| verdict)
    }

    /// Like [`Self::ingest`]; also returns the record if it is valid.
    fn ingest_validated(
        &self,
        name: PeerId,
        bytes: Vec<u8>,
        now: SystemTime,
    ) -> Result<(Verdict, Option<ipns::Record>), RecordError> {
        if bytes.len() > ipns::MAX_BYTES {
            return Ok((Verdict::Reject, None));
        }
        let record = match ipns::Record::verify(name, bytes, self.valid_at(now)) {
            Ok(record) => record,
            // It was valid once: the sender is out of date, not hostile.
            Err(ipns::Error::Expired) => return Ok((Verdict::Ignore, None)),
            Err(ipns::Error::Invalid(_)) => return Ok((Verdict::Reject, None)),
        };
        let followed = self.ingest_followed(name, &record)?;
        let keys = self.own_keys()?;
        let key = keys.iter().find(|key| key.public().to_peer_id() == name);
        let own = key.map(|key| self.ingest_own(key, &record, now)).transpose()?;
        Ok((own.or(followed).unwrap_or(Verdict::Ignore), Some(record)))
    }

    /// Stores a record of a followed name if it is newer; none if the name is not followed.
    pub(super) fn ingest_followed(
        &self,
        name: PeerId,
        record: &ipns::Record,
    ) -> Result<Option<Verdict>, RecordError> {
        let mut records = locked(&self.0.subscriptions.records);
        let Some(newest) = records.get_mut(&name) else { return Ok(None) };
        if newest.as_ref() == Some(record) {
            return Ok(Some(Verdict::Accept));
        }
        if newest.as_ref().is_some_and(|newest| ipns::select([newest, record]) == Some(newest)) {
            return Ok(Some(Verdict::Ignore));
        }
        if record.until() <= SystemTime::now() {
            let (name, sequence) = (IpnsName::from(name), record.sequence());
            tracing::warn!(%name, sequence, "the newest known record has expired by the clock of this machine; it is used: is the clock right?");
        }
        // Also if only the sequence changed: followers compare sequences.
        *newest = Some(record.clone());
        drop(records);
        let resolved = Resolved { value: record.text(), stale: false };
        self.0.cache.put(MutableName::Key(IpnsName::from(name)), resolved, record.ttl(), 0, Instant::now());
        // Wakes the tasks that wait on `followed_changes` (the program's `names/follow/prefetch.rs`): they fetch what the record names.
        self.0.subscriptions.changed.send_modify(|n| *n += 1);
        self.0.record_store.put_followed_record(&name, record.bytes())?;
        Ok(Some(Verdict::Accept))
    }
}

/// Forwards a record unless it, or a newer one of its name, was forwarded before.
///
/// The newest record may have been fetched first; peers that are connected only through this node still need it.
fn forward_once(
    forwarded: &mut HashMap<PeerId, ipns::Record>,
    name: PeerId,
    record: ipns::Record,
) -> Verdict {
    if forwarded.get(&name).is_some_and(|passed| *passed >= record) {
        return Verdict::Ignore;
    }
    forwarded.insert(name, record);
    Verdict::Accept
}

impl IpnsNames {
    /// Follows a name until it is unfollowed or the process ends.
    pub async fn follow(&self, online: Option<&Online>, name: IpnsName) -> Result<(), RecordError> {
        let last_known = self.blocking(move |names| names.last_followed_record(name.peer())).await?;
        if self.0.subscriptions.add(*name.peer(), last_known)
            && let Some(online) = online
        {
            online.send(SwarmCommand::Subscribe(name.key())).await?;
        }
        Ok(())
    }

    /// Follows a name, also after a restart, after those followed before. Returns false if it was followed already.
    pub async fn follow_persistently(
        &self,
        online: Option<&Online>,
        name: IpnsName,
    ) -> Result<bool, RecordError> {
        let is_new = self.blocking(move |names| Ok(names.0.record_store.follow(name.peer())?)).await?;
        self.follow(online, name).await?;
        Ok(is_new)
    }

    /// Stops following a name. Returns false if it was not followed persistently.
    pub async fn unfollow(&self, online: Option<&Online>, name: IpnsName) -> Result<bool, RecordError> {
        if !self.blocking(move |names| Ok(names.0.record_store.unfollow(name.peer())?)).await? {
            return Ok(false);
        }
        self.0.subscriptions.remove(name.peer());
        if let Some(online) = online {
            online.send(SwarmCommand::Unsubscribe(name.key())).await?;
        }
        Ok(true)
    }

    /// Returns the persistently followed names in order.
    pub async fn persistently_followed(&self) -> Result<Vec<IpnsName>, RecordError> {
        let names = self.blocking(|names| Ok(names.0.record_store.followed()?)).await?;
        Ok(names.into_iter().map(IpnsName::from).collect())
    }

    /// Returns the newest record of a followed name.
    pub fn followed_record(&self, name: &IpnsName) -> Option<FollowedRecord> {
        let record = self.0.subscriptions.record(name.peer())?;
        let stale = record.until() <= SystemTime::now();
        Some(FollowedRecord { value: record.text(), sequence: record.sequence(), stale })
    }

    /// Returns a channel that changes when a followed name has a new record, and when a name is followed or unfollowed.
    pub fn followed_changes(&self) -> watch::Receiver<u64> {
        self.0.subscriptions.changes()
    }

    /// Returns the own names under which another node publishes too, with its last sequence.
    pub fn conflicting_writers(&self) -> Vec<(IpnsName, u64)> {
        self.0.own.conflicting_writers()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use libp2p::identity::Keypair;

    use super::*;
    use crate::{
        ipns::fixtures::{machine, signed, verdict},
        routing::ipns::tests::v2_only,
    };

    #[test]
    fn a_record_with_version_2_only_is_accepted_and_forwarded() {
        let (_dir, follower) = machine();
        let (key, now) = (Keypair::generate_ed25519(), SystemTime::now());
        let name = key.public().to_peer_id();
        follower.0.subscriptions.add(name, None);
        let bytes = v2_only(&key, now + Duration::from_secs(3600));
        assert_eq!(verdict(&follower, name, &bytes), "accept");
        assert_eq!(follower.0.record_store.followed_record(&name).unwrap(), Some(bytes.clone()));
        let record = ipns::Record::verify(name, bytes, now).unwrap();
        assert!(matches!(forward_once(&mut HashMap::new(), name, record), Verdict::Accept));
    }

    #[test]
    fn only_a_newer_valid_ipns_record_changes_a_followed_name() {
        let [(_one, writer), (_other, follower)] = [machine(), machine()];
        let key = Keypair::generate_ed25519();
        let name = key.public().to_peer_id();
        let [first, second] = ["/ipfs/a", "/ipfs/b"].map(|value| signed(&writer, &key, value));
        assert_eq!(verdict(&follower, name, &second), "ignore", "it is not followed");
        follower.0.subscriptions.add(name, None);
        let changes = follower.0.subscriptions.changes();
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
        assert_eq!(follower.0.subscriptions.record(&name).unwrap().value(), b"/ipfs/b");
        assert_eq!(follower.0.record_store.followed_record(&name).unwrap(), Some(second.clone()));
        assert_eq!(*changes.borrow() - before, 2);
        let mut forwarded = HashMap::new();
        let mut pass = |bytes: &[u8]| {
            let record = ipns::Record::verify(name, bytes.to_vec(), SystemTime::now()).unwrap();
            matches!(forward_once(&mut forwarded, name, record), Verdict::Accept)
        };
        assert_eq!([&first, &second, &second, &first].map(|record| pass(record)), [true, true, false, false]);
        let late = SystemTime::now() + Duration::from_secs(3 * 24 * 60 * 60);
        assert!(matches!(follower.ingest(name, second, late), Ok(Verdict::Ignore)), "it has expired");
    }
}
