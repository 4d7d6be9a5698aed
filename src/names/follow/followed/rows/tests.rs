use std::collections::BTreeSet;

use multihash_codetable::{Code, MultihashDigest};
use ocipfs_node::Keypair;

use super::*;

fn cid(n: u8) -> Cid {
    Cid::new_v1(0x70, Code::Sha2_256.digest(&[n]))
}

fn version(n: u8) -> RepositoryVersion {
    RepositoryVersion { directory: cid(n), depth: Depth::Manifests, is_sparse: false, since: 7 }
}

fn retained(database: &Database) -> BTreeSet<Cid> {
    let is_retained = |n: &u8| database.read(|read| crate::content::is_retained(read, &cid(*n))).unwrap();
    (0..20).filter(is_retained).map(cid).collect()
}

#[test]
fn followed_name_retains_its_served_version_and_releases_earlier_ones() {
    let dir = tempfile::tempdir().unwrap();
    let database = Arc::new(Database::open(&dir.path().join("index.redb")).unwrap());
    let (rows, name) = (FollowedRows::new(database.clone()), IpnsName::of(&Keypair::generate_ed25519()));
    assert!(rows.version(&name, "app").unwrap().is_none() && rows.root(&name).unwrap().is_none());
    assert!(!rows.begin_root(&name, &cid(0)).unwrap());
    for (repository, n) in [("app", 1), ("app/sub", 2), ("apple", 3), ("team/app", 4)] {
        rows.serve_version(&name, repository, version(n)).unwrap();
    }
    let root = FollowedRoot { directory: cid(0), depth: Depth::Manifests, sequence: 5, since: 7 };
    rows.set_complete_root(&name, root).unwrap();
    assert!(!rows.begin_root(&name, &cid(10)).unwrap(), "it is served still");
    assert!(rows.serve_version(&name, "app", version(11)).unwrap());
    assert_eq!(rows.version(&name, "app").unwrap(), Some(version(11)));
    assert_eq!(retained(&database), [0, 2, 3, 4, 10, 11].map(cid).into());
    assert!(rows.set_complete_root(&name, FollowedRoot { directory: cid(10), ..root }).unwrap());
    assert!(rows.remove(&name, "app", |_| false).unwrap());
    assert_eq!(retained(&database), [3, 4, 10].map(cid).into());
    let page = |last: &str, most| {
        let page = rows.repositories(&name, last, most).unwrap();
        page.into_iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!((page("", 1), page("apple", 9)), (vec!["apple".into()], vec!["team/app".into()]));
    assert_eq!((rows.count(&name).unwrap(), rows.names().unwrap()), (2, vec![name]));
    assert!(!rows.is_unfinished(&name).unwrap());
    rows.begin_root(&name, &cid(12)).unwrap();
    assert!(rows.is_unfinished(&name).unwrap());
    assert!(rows.forget(&name).unwrap() && retained(&database).is_empty() && page("", 9).is_empty());
    // A walk that went on meanwhile.
    assert!(
        !rows.serve_version(&name, "app", version(1)).unwrap()
            && !rows.set_complete_root(&name, root).unwrap()
    );
    assert!(retained(&database).is_empty() && page("", 9).is_empty());
}
