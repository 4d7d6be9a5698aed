//! Records that a node signed and does not tell: they lead to what its peers are not to know of.

use std::{collections::HashMap, path::Path, time::SystemTime};

use libp2p::{PeerId, identity::Keypair};

use super::{Names, dnslink, keys, once_valid};
use crate::{Blocks, Cid, Error, routing::ipns};

/// Takes the record of the key `word` out of `own`, unless peers may have the root that it leads to. It is neither told
/// nor signed again until something else is published under the key.
pub fn withhold(
    own: &mut HashMap<PeerId, ipns::Record>,
    key: &Keypair,
    blocks: &dyn Blocks,
) -> Result<(), Error> {
    let name = key.public().to_peer_id();
    let Some(root) = own.get(&name).and_then(root) else { return Ok(()) };
    if blocks.size(&root).map_err(Error::names)?.is_none()
        && let Some(record) = own.remove(&name)
        && record.until() > SystemTime::now()
    {
        tracing::warn!(
            name = %super::Name::from(name),
            value = record.text(),
            expires = %chrono::DateTime::<chrono::Utc>::from(record.until()).format("%FT%TZ"),
            "pushes are no longer shared: what was published before is not told again, but peers know it until its \
             record expires"
        );
    }
    Ok(())
}

/// The root that a record leads to, where that is a CID.
fn root(record: &ipns::Record) -> Option<Cid> {
    let text = record.text();
    text.strip_prefix("/ipfs/")?.split('/').next()?.parse().ok()
}

/// Forgets, in a node directory, what the names of a network meant: own records are not told again, although their
/// sequences count on, and nothing is remembered of others' names.
pub fn leave_network(data_dir: &Path, identity: &Keypair) -> Result<(), Error> {
    let names = Names::with(data_dir, identity, dnslink::Resolver::offline(), |_| Ok(()))?;
    for (name, bytes) in names.0.kept.all_own()? {
        let own = once_valid(name, Some(bytes));
        if let Some(own) = own.filter(|own| names.foreign(&name).ok().flatten().as_ref() < Some(own)) {
            names.0.kept.see_foreign(&name, own.bytes())?;
        }
    }
    Ok(names.0.kept.forget_records()?)
}

impl Names {
    /// The key that `word` is the name of.
    pub(super) fn key_of(data_dir: &Path, identity: &Keypair, word: &str) -> Result<Keypair, Error> {
        if word == "self" { Ok(identity.clone()) } else { keys::load(data_dir, word) }
    }
}

#[cfg(test)]
mod tests {
    use std::{io, time::Duration};

    use bytes::Bytes;

    use super::*;
    use crate::{Options, names::Name};

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
