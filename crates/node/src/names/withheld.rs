//! Records that a node signed and does not tell: they lead to what its peers are not to know of.

use std::{path::Path, time::SystemTime};

use libp2p::identity::Keypair;

use super::{Name, Names};
use crate::{Blocks, Cid, Error, routing::ipns};

impl Names {
    /// Takes the own record of a key out of those that are told, unless peers may have the root that it leads to. It is
    /// neither told nor signed again until something else is published under the key.
    pub(super) fn withhold(&self, key: &Keypair, blocks: &dyn Blocks) -> Result<(), Error> {
        let name = Name::of(key);
        let Some(root) = self.own(&name).as_ref().and_then(root) else { return Ok(()) };
        if blocks.size(&root).map_err(Error::names)?.is_none()
            && let Some(record) = self.0.own.forget(name.peer())
            && record.until() > SystemTime::now()
        {
            tracing::warn!(
                %name,
                value = record.text(),
                expires = %chrono::DateTime::<chrono::Utc>::from(record.until()).format("%FT%TZ"),
                "pushes are no longer shared: what was published before is not told again, but peers know it until its \
                 record expires"
            );
        }
        Ok(())
    }
}

/// The root that a record leads to, where that is a CID.
fn root(record: &ipns::Record) -> Option<Cid> {
    let text = record.text();
    text.strip_prefix("/ipfs/")?.split('/').next()?.parse().ok()
}

/// Forgets, in a node directory, what the names of a network meant: own records are not told again, although their
/// sequences count on, and nothing is remembered of others' names.
pub fn leave_network(data_dir: &Path, identity: &Keypair) -> Result<(), Error> {
    let names = Names::offline(data_dir, identity)?;
    for name in names.0.own.names() {
        let foreign = names.foreign(&name).ok().flatten();
        if let Some(own) = names.own(&Name::from(name)).filter(|own| foreign.as_ref() < Some(own)) {
            names.0.kept.see_foreign(&name, own.bytes())?;
        }
    }
    Ok(names.0.kept.forget_records()?)
}

#[cfg(test)]
mod tests {
    use std::{io, time::Duration};

    use bytes::Bytes;

    use libp2p::PeerId;

    use super::*;
    use crate::Options;

    const ROOT: &str = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy";

    /// A store whose one block peers may know of, or not.
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
    fn an_ipns_record_of_hidden_content_is_not_signed_or_told_again_until_it_is_published_again() {
        let (dir, key) = (tempfile::tempdir().unwrap(), Keypair::generate_ed25519());
        let (name, now) = (Name::of(&key), SystemTime::now());
        let ttl = Duration::from_secs(60);
        let value = format!("/ipfs/{ROOT}");
        Names::offline(dir.path(), &key).unwrap().sign(&key, value.clone().into(), ttl, now).unwrap();
        let open = |unshared_key: Option<&str>, is_shown| {
            let options =
                Options { unshared_key: unshared_key.map(String::from), ..Options::new(dir.path()) };
            Names::open(&options, &key, &One(is_shown)).unwrap()
        };
        let later = now + super::super::LIFETIME * 2 / 3;
        let told = |names: &Names| names.due(later).unwrap().into_iter().find_map(|(_, record)| record);
        assert!(told(&open(None, false)).is_some());
        assert!(told(&open(Some("self"), true)).is_some());
        let hidden = open(Some("self"), false);
        assert!(told(&hidden).is_none() && hidden.own(&name).is_none());
        assert!(!hidden.renew(&key, None, later).unwrap());
        assert_eq!(hidden.sign(&key, "/ipfs/other".into(), ttl, now).unwrap().sequence(), 1);
        assert!(told(&hidden).is_some());
    }

    #[test]
    fn a_network_that_is_left_takes_its_records_with_it_and_sequences_count_on() {
        let (dir, key) = (tempfile::tempdir().unwrap(), Keypair::generate_ed25519());
        let (name, other, now) = (Name::of(&key), PeerId::random(), SystemTime::now());
        let ttl = Duration::from_secs(60);
        {
            let names = Names::offline(dir.path(), &key).unwrap();
            for value in ["/ipfs/a", "/ipfs/b"] {
                names.sign(&key, value.into(), ttl, now).unwrap();
            }
            names.0.kept.follow(&other).unwrap();
            names.0.kept.set_head(&other, &[1]).unwrap();
            names.0.kept.see(&other, &[1]).unwrap();
        }
        leave_network(dir.path(), &key).unwrap();
        let names = Names::offline(dir.path(), &key).unwrap();
        assert!(names.own(&name).is_none());
        let kept = &names.0.kept;
        assert_eq!((kept.followed().unwrap(), kept.head(&other).unwrap()), (vec![other], None));
        assert_eq!(kept.seen(&other).unwrap(), None);
        assert_eq!(names.sign(&key, "/ipfs/b".into(), ttl, now).unwrap().sequence(), 2);
    }
}
