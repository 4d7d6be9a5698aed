use std::sync::{Arc, Mutex};

use super::*;
use crate::content::{
    Readers, SharePolicy, SignatureCheck, View, Viewer,
    store::{
        index::{GcRoot, Index, release_root, retain_root},
        note_from_peers,
    },
};

/// One who sees these repositories; as readers, what all see.
#[derive(Default)]
struct Sees {
    repositories: Mutex<Vec<&'static str>>,
    peers_see_all: bool,
}

impl Viewer for Sees {
    fn sees(&self, repository: &str) -> bool {
        self.repositories.lock().unwrap().contains(&repository)
    }

    fn sees_unsigned(&self, repository: &str) -> bool {
        !repository.starts_with("signed/")
    }
}

impl Readers for Sees {
    fn all_see(&self, repository: &str) -> bool {
        self.sees(repository)
    }

    fn hides_nothing(&self) -> bool {
        false
    }

    fn peers_see_all(&self) -> bool {
        self.peers_see_all
    }
}

/// A check by which these digests are signed.
#[derive(Default)]
struct Signed(Mutex<Vec<Digest>>);

impl SignatureCheck for Arc<Signed> {
    fn covers(&self, repository: &str) -> bool {
        repository.starts_with("signed/")
    }

    fn covers_anything(&self) -> bool {
        true
    }

    fn passes(&self, _: &Store, repository: &str, digest: &Digest) -> Result<bool, Error> {
        assert!(self.covers(repository));
        Ok(self.0.lock().unwrap().contains(digest))
    }
}

/// Whether a viewer of these repositories sees the root, a leaf, the file and the blob.
fn seen(store: &Store, dag: &Dag, content: &Bytes, repositories: &[&'static str]) -> [bool; 4] {
    let viewer = Sees { repositories: Mutex::new(repositories.to_vec()), ..Sees::default() };
    View::of(Some(Arc::new(viewer))).enter(|| {
        [
            store.is_visible(&dag.root()).unwrap(),
            store.is_visible(&dag.leaves[0].0.cid).unwrap(),
            store.is_visible_file(&dag.root()).unwrap(),
            store.is_visible_blob(&Digest::sha256_of(content)).unwrap(),
        ]
    })
}

#[test]
fn pushed_content_is_visible_to_those_who_see_a_repository_that_holds_it() {
    for length in [1000, 3 * MIB] {
        let (_dir, store) = temp();
        let (database, index) = (store.database(), Index::new(store.database()));
        let content = bytes(1, length);
        let dag = Dag::new(Profile::UnixfsV1, &content);
        // What is not here is hidden from none.
        assert_eq!(seen(&store, &dag, &content, &[]), [true; 4]);
        put(&store, &content, &[&dag]);
        let root = dag.root();
        let hold = |key: &'static str| database.write(|write| retain_root(write, key, &root)).unwrap();
        let see = |repositories: &[&'static str]| seen(&store, &dag, &content, repositories);
        assert_eq!(see(&["team/app"]), [false; 4]);
        hold("repository/team/app/blobs/sha256:00");
        hold("follow/k51");
        assert_eq!((see(&["team/app"]), see(&["team"]), see(&["app"])), ([true; 4], [false; 4], [false; 4]));
        hold("repository/other/manifests/sha256:00");
        assert_eq!(see(&["other"]), [true; 4]);
        database.write(|write| release_root(write, "repository/other/manifests/sha256:00", &root)).unwrap();
        assert_eq!(see(&["other"]), [false; 4]);
        // A pull of one who sees it, and a pin, open nothing.
        index.retain(&dag.leaves[0].0.cid, &GcRoot::new(false, &[root], vec![])).unwrap();
        assert_eq!(see(&[]), [false; 4]);
        // A peer that sends one block has that block, and need not have the file.
        store.put_blocks(&dag.blocks()[..1]).unwrap();
        let is_root = dag.blocks()[0].cid == root;
        assert_eq!(see(&[]), [is_root, true, false, false]);
        database.write(|write| note_from_peers(write, &root)).unwrap();
        assert_eq!(see(&[]), [true; 4]);
    }
}

#[test]
fn unsigned_content_is_visible_to_no_other_viewer_and_no_peer_until_it_is_signed() {
    for length in [1000, 3 * MIB] {
        let (_dir, store) = temp();
        let (signed, content) = (Arc::new(Signed::default()), bytes(1, length));
        store.set_signature_check(Arc::new(signed.clone()));
        let dag = Dag::new(Profile::UnixfsV1, &content);
        put(&store, &content, &[&dag]);
        let (root, digest) = (dag.root(), Digest::sha256_of(&content));
        let hold = |key: String| store.database().write(|write| retain_root(write, &key, &root)).unwrap();
        let see = || seen(&store, &dag, &content, &["signed/app", "team/app"]);
        let shows = || SharePolicy::All.shows(&store, &root).unwrap();
        hold(format!("repository/signed/app/blobs/{digest}"));
        assert!(see() == [false; 4] && !shows());
        assert!(!store.is_for_all("signed/app") && store.is_for_all("team/app"));
        signed.0.lock().unwrap().push(digest.clone());
        assert!(see() == [true; 4] && shows());
        signed.0.lock().unwrap().clear();
        assert!(see() == [false; 4] && !shows());
        // The same bytes in a repository that needs no signatures.
        hold(format!("repository/team/app/blobs/{digest}"));
        assert!(see() == [true; 4] && shows());
    }
}

#[test]
fn peers_that_see_every_repository_get_no_content_that_has_to_be_signed() {
    let (_dir, store) = temp();
    let (signed, content) = (Arc::new(Signed::default()), bytes(1, 1000));
    store.set_signature_check(Arc::new(signed.clone()));
    store.set_readers(Arc::new(Sees { peers_see_all: true, ..Sees::default() }));
    let dag = Dag::new(Profile::UnixfsV1, &content);
    put(&store, &content, &[&dag]);
    let (root, digest) = (dag.root(), Digest::sha256_of(&content));
    let key = format!("repository/signed/app/blobs/{digest}");
    store.database().write(|write| retain_root(write, &key, &root)).unwrap();
    let shows = || SharePolicy::All.shows(&store, &root).unwrap();
    assert!(!shows());
    signed.0.lock().unwrap().push(digest);
    assert!(shows());
}

#[test]
fn content_that_a_command_added_is_visible_to_all() {
    let (_dir, store) = temp();
    let content = bytes(1, 3 * MIB);
    let dag = Dag::new(Profile::UnixfsV1, &content);
    put(&store, &content, &[&dag]);
    assert_eq!(seen(&store, &dag, &content, &[]), [false; 4]);
    let root = dag.root();
    Index::new(store.database()).retain(&root, &GcRoot::new(true, &[root], vec![])).unwrap();
    assert_eq!(seen(&store, &dag, &content, &[]), [true; 4]);
}

#[test]
fn peers_are_shown_what_all_see_unless_they_see_everything() {
    for peers_see_all in [false, true] {
        let (_dir, store) = temp();
        let content = bytes(1, 3 * MIB);
        let dag = Dag::new(Profile::UnixfsV1, &content);
        put(&store, &content, &[&dag]);
        let root = dag.root();
        let hold = |write: &_| retain_root(write, "repository/team/app/blobs/sha256:00", &root);
        store.database().write(hold).unwrap();
        assert!(SharePolicy::All.shows(&store, &root).unwrap());
        let readers = Arc::new(Sees { peers_see_all, ..Sees::default() });
        store.set_readers(readers.clone());
        let shows = || dag.blocks().iter().all(|block| SharePolicy::All.shows(&store, &block.cid).unwrap());
        assert_eq!((shows(), store.peers_see_repository("team/app")), (peers_see_all, peers_see_all));
        // What a download may take over is what all may read, wherever peers get more.
        assert!(!store.all_see(&root).unwrap());
        readers.repositories.lock().unwrap().push("team/app");
        assert!(shows() && store.peers_see_repository("team/app") && store.all_see(&root).unwrap());
        assert!(!SharePolicy::Added.shows(&store, &root).unwrap());
    }
}
