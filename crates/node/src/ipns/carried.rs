//! Records that are carried to a network whose peers cannot reach the publisher.

use std::time::SystemTime;

use super::{IpnsNames, verify_ignoring_expiry};
use crate::{IpnsName, RecordError, command::SwarmCommand, online::Online, routing::ipns};

/// A record as its owner signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedRecord {
    /// `/ipfs/<cid>...` or `/ipns/<name>...`.
    pub value: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// What became of a record that was carried here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CarriedRecord {
    /// It is the newest that is known.
    Newest,
    /// One that is as new was known.
    Known,
    /// The key of the name did not sign it.
    Invalid,
}

impl IpnsNames {
    /// See [`crate::Node::newest_record`].
    pub async fn newest_record(&self, name: IpnsName) -> Result<Option<SignedRecord>, RecordError> {
        let newest = self.blocking(move |names| names.newest_known(&name)).await?;
        Ok(newest.map(|record| SignedRecord { value: record.text(), bytes: record.bytes().to_vec() }))
    }

    /// See [`crate::Node::carry_record`].
    pub async fn carry_record(
        &self,
        online: Option<&Online>,
        name: IpnsName,
        bytes: Vec<u8>,
    ) -> Result<CarriedRecord, RecordError> {
        let record = bytes.clone();
        let carried = self.blocking(move |names| names.carry(&name, record)).await?;
        let valid_at = self.valid_at(SystemTime::now());
        let is_valid = ipns::Record::verify(*name.peer(), bytes.clone(), valid_at).is_ok();
        if let Some(online) = online.filter(|_| is_valid && carried == CarriedRecord::Newest) {
            // For peers that fetch it here.
            online.send(SwarmCommand::Store(name.record(bytes))).await?;
        }
        Ok(carried)
    }

    fn newest_known(&self, name: &IpnsName) -> Result<Option<ipns::Record>, RecordError> {
        let peer = *name.peer();
        let seen = verify_ignoring_expiry(peer, self.0.record_store.seen(&peer)?);
        let followed = self.0.subscriptions.record(&peer).max(self.last_followed_record(&peer)?);
        Ok(self.own(name).max(seen).max(followed))
    }

    fn carry(&self, name: &IpnsName, bytes: Vec<u8>) -> Result<CarriedRecord, RecordError> {
        let peer = *name.peer();
        // On the other side of a gap a record may have expired, or the clock may be wrong: it is the last known value then.
        let record = Some(bytes).filter(|bytes| bytes.len() <= ipns::MAX_BYTES);
        let Some(record) = verify_ignoring_expiry(peer, record) else { return Ok(CarriedRecord::Invalid) };
        if self.newest_known(name)?.is_some_and(|known| known >= record) {
            return Ok(CarriedRecord::Known);
        }
        if record.until() > SystemTime::now() {
            self.ingest(peer, record.bytes().to_vec(), SystemTime::now())?;
        } else {
            self.ingest_followed(peer, &record)?;
        }
        if !self.0.subscriptions.is_followed(&peer) {
            self.0.record_store.put_seen(&peer, record.bytes())?;
        }
        Ok(CarriedRecord::Newest)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use libp2p::identity::Keypair;

    use super::*;
    use crate::{
        ipns::fixtures::{machine, member, signed, verdict},
        routing::ipns::tests::record,
    };

    #[tokio::test]
    async fn a_carried_record_is_kept_if_it_is_the_newest_of_its_name() {
        let [(_one, writer), (_other, other)] = [machine(), machine()];
        let key = Keypair::generate_ed25519();
        let name = IpnsName::of(&key);
        let [first, second] = ["/ipfs/a", "/ipfs/b"].map(|value| signed(&writer, &key, value));
        let expected = SignedRecord { value: "/ipfs/b".into(), bytes: second.clone() };
        assert_eq!(writer.newest_record(name).await.unwrap(), Some(expected.clone()));
        assert_eq!(other.newest_record(name).await.unwrap(), None);
        let mut lie = second.clone();
        *lie.last_mut().unwrap() ^= 1;
        for (bytes, expected) in [
            (lie, CarriedRecord::Invalid),
            (b"nonsense".to_vec(), CarriedRecord::Invalid),
            (first.clone(), CarriedRecord::Newest),
            (second.clone(), CarriedRecord::Newest),
            (second.clone(), CarriedRecord::Known),
            (first, CarriedRecord::Known),
        ] {
            assert_eq!(other.carry_record(None, name, bytes).await.unwrap(), expected);
        }
        assert_eq!(other.newest_record(name).await.unwrap(), Some(expected));
    }

    #[tokio::test]
    async fn an_expired_record_is_carried_as_the_last_known_value_of_a_followed_name() {
        let (_dir, follower) = machine();
        let key = Keypair::generate_ed25519();
        let name = IpnsName::of(&key);
        follower.0.subscriptions.add(*name.peer(), None);
        let expired = record(&key, 7, SystemTime::now() - Duration::from_secs(60));
        let carried = follower.carry_record(None, name, expired).await.unwrap();
        assert_eq!(carried, CarriedRecord::Newest);
        let known = follower.followed_record(&name).unwrap();
        assert!(known.stale && known.sequence == 7, "{known:?}");
    }

    #[test]
    fn in_a_private_swarm_an_expired_record_is_used_until_a_newer_one_comes() {
        let [(_one, member), (_other, stranger)] = [member(), machine()];
        let key = Keypair::generate_ed25519();
        let name = IpnsName::of(&key);
        let years_ago = SystemTime::now() - Duration::from_secs(3 * 365 * 24 * 60 * 60);
        let [first, second] = [1, 2].map(|sequence| record(&key, sequence, years_ago));
        for names in [&member, &stranger] {
            names.0.subscriptions.add(*name.peer(), None);
        }
        assert_eq!(verdict(&stranger, *name.peer(), &second), "ignore");
        for (bytes, expected, sequence) in
            [(&first, "accept", 1), (&second, "accept", 2), (&first, "ignore", 2)]
        {
            assert_eq!(verdict(&member, *name.peer(), bytes), expected);
            let known = member.followed_record(&name).unwrap();
            assert!(known.stale && known.sequence == sequence, "{known:?}");
        }
        // The clock of the publisher is put right: the sequence decides, not the time.
        let right = record(&key, 3, SystemTime::now() + Duration::from_secs(60));
        assert_eq!(verdict(&member, *name.peer(), &right), "accept");
        assert!(!member.followed_record(&name).unwrap().stale);
    }
}
