//! Withholding own records whose content peers must not learn of.

use std::{path::Path, time::SystemTime};

use libp2p::identity::Keypair;

use super::IpnsNames;
use crate::{Blocks, Cid, IpnsName, RecordError, routing::ipns};

impl IpnsNames {
    /// Removes the own record of a key from the published ones, unless its root is shared with peers. It is neither
    /// published nor renewed until another value is published under the key.
    pub(super) fn withhold(&self, key: &Keypair, blocks: &dyn Blocks) -> Result<(), RecordError> {
        let name = IpnsName::of(key);
        let Some(root) = self.own(&name).as_ref().and_then(root) else { return Ok(()) };
        if blocks.size(&root).map_err(RecordError::Blocks)?.is_none()
            && let Some(record) = self.0.own.remove(name.peer())
            && record.until() > SystemTime::now()
        {
            tracing::warn!(
                %name,
                value = record.text(),
                expires = %chrono::DateTime::<chrono::Utc>::from(record.until()).format("%FT%TZ"),
                "pushes are no longer shared: the last record is not republished, but peers know it until it \
                 expires"
            );
        }
        Ok(())
    }
}

/// Returns the root CID of a record, if its value is an `/ipfs/` path.
fn root(record: &ipns::Record) -> Option<Cid> {
    let text = record.text();
    text.strip_prefix("/ipfs/")?.split('/').next()?.parse().ok()
}

/// Deletes the IPNS state of a network in a node directory: own records are not republished, although their sequences
/// continue, and other names are forgotten.
pub fn leave_network(data_dir: &Path, identity: &Keypair) -> Result<(), RecordError> {
    let names = IpnsNames::offline(data_dir, identity)?;
    for name in names.0.own.names() {
        let foreign = names.foreign(&name).ok().flatten();
        if let Some(own) = names.own(&IpnsName::from(name)).filter(|own| foreign.as_ref() < Some(own)) {
            names.0.record_store.put_foreign(&name, own.bytes())?;
        }
    }
    Ok(names.0.record_store.delete_records()?)
}

#[cfg(test)]
mod tests {
    use std::{io, time::Duration};

    use bytes::Bytes;

    use libp2p::PeerId;

    use super::*;
    use crate::Options;

    const ROOT: &str = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy";

    /// A store with one block, which is shared with peers or not.
    struct One(bool);

    impl Blocks for One {
        fn size(&self, _: &Cid) -> io::Result<Option<u64>> {
            Ok(self.0.then_some(1))
        }

        fn get(&self, _: &Cid) -> io::Result<Option<Bytes>> {
            Ok(None)
        }
    }

    #[test]
    fn a_withheld_ipns_record_is_not_republished_until_a_new_publication() {
        let (dir, key) = (tempfile::tempdir().unwrap(), Keypair::generate_ed25519());
        let (name, now) = (IpnsName::of(&key), SystemTime::now());
        let ttl = Duration::from_secs(60);
        let value = format!("/ipfs/{ROOT}");
        IpnsNames::offline(dir.path(), &key).unwrap().sign(&key, value.clone().into(), ttl, now).unwrap();
        let open = |unshared_key: Option<&str>, is_shown| {
            let options =
                Options { unshared_key: unshared_key.map(String::from), ..Options::new(dir.path()) };
            IpnsNames::open(&options, &key, &One(is_shown)).unwrap()
        };
        let later = now + super::super::RECORD_LIFETIME * 2 / 3;
        let published =
            |names: &IpnsNames| names.due(later).unwrap().into_iter().find_map(|(_, record)| record);
        assert!(published(&open(None, false)).is_some());
        assert!(published(&open(Some("self"), true)).is_some());
        let hidden = open(Some("self"), false);
        assert!(published(&hidden).is_none() && hidden.own(&name).is_none());
        assert!(!hidden.renew(&key, None, later).unwrap());
        assert_eq!(hidden.sign(&key, "/ipfs/other".into(), ttl, now).unwrap().sequence(), 1);
        assert!(published(&hidden).is_some());
    }

    #[test]
    fn leaving_a_network_deletes_its_records_and_continues_sequences() {
        let (dir, key) = (tempfile::tempdir().unwrap(), Keypair::generate_ed25519());
        let (name, other, now) = (IpnsName::of(&key), PeerId::random(), SystemTime::now());
        let ttl = Duration::from_secs(60);
        {
            let names = IpnsNames::offline(dir.path(), &key).unwrap();
            for value in ["/ipfs/a", "/ipfs/b"] {
                names.sign(&key, value.into(), ttl, now).unwrap();
            }
            names.0.record_store.follow(&other).unwrap();
            names.0.record_store.put_followed_record(&other, &[1]).unwrap();
            names.0.record_store.put_seen(&other, &[1]).unwrap();
        }
        leave_network(dir.path(), &key).unwrap();
        let names = IpnsNames::offline(dir.path(), &key).unwrap();
        assert!(names.own(&name).is_none());
        let record_store = &names.0.record_store;
        assert_eq!(
            (record_store.followed().unwrap(), record_store.followed_record(&other).unwrap()),
            (vec![other], None)
        );
        assert_eq!(record_store.seen(&other).unwrap(), None);
        assert_eq!(names.sign(&key, "/ipfs/b".into(), ttl, now).unwrap().sequence(), 2);
    }
}
