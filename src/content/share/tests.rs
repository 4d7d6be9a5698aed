//! Random histories of a node directory: whatever its clients and peers do, peers learn of no block whose only source is a
//! push, and of none that came before the node left a network.

use std::collections::{HashMap, HashSet};

use ocipfs_node::Block;
use ocipfs_oci::Digest;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::content::{
    GcRoot, Profile, retain_root, share_added_again,
    store::index::Index,
    store::{BlobLayout, Leaf},
};

const PROFILE: Profile = Profile::UnixfsV1;
const LEAVES: usize = 4;
/// A file of two leaves is too large for a row.
const LEAF: usize = 40_000;

/// A file of two leaves, which may be equal.
type File = (usize, usize);

#[derive(Clone, Debug)]
enum Step {
    Push(File),
    Add(File),
    /// Peers send what the file does not take over, all of it or the first leaf.
    Arrive(File, bool),
    /// A peer sends one block.
    Fetch(usize),
    /// A pull, a followed name and a pin refer to it, whatever is here.
    Refer(File),
    Collect(File),
    Restart,
    Switch,
    LeaveNetwork,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let file = || (0..LEAVES, 0..LEAVES);
    let step = prop_oneof![
        4 => file().prop_map(Step::Push),
        1 => file().prop_map(Step::Add),
        4 => (file(), any::<bool>()).prop_map(|(file, whole)| Step::Arrive(file, whole)),
        1 => (0..LEAVES).prop_map(Step::Fetch),
        2 => file().prop_map(Step::Refer),
        2 => file().prop_map(Step::Collect),
        2 => Just(Step::Restart),
        2 => Just(Step::Switch),
        1 => Just(Step::LeaveNetwork),
    ];
    prop::collection::vec(step, 1..24)
}

/// A file as blocks.
struct Dag {
    bytes: Vec<u8>,
    root: Block,
    leaves: Vec<(Leaf, Bytes)>,
}

fn leaf(n: usize) -> Block {
    PROFILE.leaf_block(vec![n as u8; LEAF].into()).1
}

fn dag((one, other): File) -> Dag {
    let made = [one, other].map(|n| PROFILE.leaf_block(vec![n as u8; LEAF].into()));
    let (_, root) = PROFILE.file_node(&[made[0].0, made[1].0]);
    let leaves = made.into_iter().enumerate().map(|(n, (_, block))| {
        (Leaf { cid: block.cid, offset: (n * LEAF) as u64, length: LEAF as u64 }, block.data)
    });
    Dag { bytes: [vec![one as u8; LEAF], vec![other as u8; LEAF]].concat(), root, leaves: leaves.collect() }
}

impl Dag {
    fn cids(&self) -> Vec<Cid> {
        self.leaves.iter().map(|(leaf, _)| leaf.cid).chain([self.root.cid]).collect()
    }
}

struct World {
    dir: TempDir,
    shared: Option<Shared>,
    /// Blocks that came in another way than a push.
    public: HashSet<Cid>,
    /// Blocks that came since the last change of the network.
    came: HashSet<Cid>,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let shared = Shared { store: Store::open(dir.path()).unwrap(), share: SharePolicy::Added };
        Self { dir, shared: Some(shared), public: HashSet::new(), came: HashSet::new() }
    }

    fn store(&self) -> Store {
        self.shared().store.clone()
    }

    fn shared(&self) -> &Shared {
        self.shared.as_ref().unwrap()
    }

    fn came(&mut self, cids: impl IntoIterator<Item = Cid>, is_public: bool) {
        for cid in cids {
            self.came.insert(cid);
            if is_public {
                self.public.insert(cid);
            }
        }
    }

    fn apply(&mut self, step: &Step) {
        let store = self.store();
        match step {
            Step::Push(file) => self.put(&store, &dag(*file), false),
            Step::Add(file) => self.put(&store, &dag(*file), true),
            Step::Arrive(file, whole) => self.arrive(&store, &dag(*file), *whole),
            Step::Fetch(n) => {
                store.put_blocks(&[leaf(*n)]).unwrap();
                self.came([leaf(*n).cid], true);
            }
            Step::Refer(file) => refer(&store, &dag(*file)),
            Step::Collect(file) => {
                let root = dag(*file).root.cid;
                Index::new(store.database()).release(&root).unwrap();
                store.remove(&root).unwrap();
                let is_here = |cid: &Cid| store.size(cid).unwrap().is_some();
                self.public.retain(is_here);
                self.came.retain(is_here);
            }
            Step::Restart => self.restart(store, self.shared().share),
            Step::Switch => {
                let share = if self.shared().share == SharePolicy::All {
                    SharePolicy::Added
                } else {
                    SharePolicy::All
                };
                self.restart(store, share);
            }
            Step::LeaveNetwork => {
                store.leave_network().unwrap();
                (self.public, self.came) = Default::default();
            }
        }
    }

    fn restart(&mut self, store: Store, share: SharePolicy) {
        drop((store, self.shared.take()));
        self.shared = Some(Shared { store: Store::open(self.dir.path()).unwrap(), share });
    }

    fn put(&mut self, store: &Store, dag: &Dag, is_added: bool) {
        let layout = BlobLayout {
            root: dag.root.cid,
            leaves: dag.leaves.iter().map(|(leaf, _)| *leaf).collect(),
            nodes: vec![dag.root.clone()],
        };
        let mut draft = store.draft().unwrap();
        draft.write(&dag.bytes).unwrap();
        draft.store(&Digest::sha256_of(&dag.bytes), &[], &[layout]).unwrap();
        if is_added {
            let reference = GcRoot::new(true, &[dag.root.cid], vec![]);
            Index::new(store.database()).retain(&dag.root.cid, &reference).unwrap();
        }
        self.came(dag.cids(), is_added);
        assert!(!is_added || dag.cids().iter().all(|cid| self.shows(cid)), "what is added is shared");
    }

    fn arrive(&mut self, store: &Store, dag: &Dag, whole: bool) {
        let share = self.shared().share;
        let Ok(file) = store.begin_partial(dag.root.cid, dag.bytes.len() as u64) else { return };
        file.insert_node(dag.root.cid, dag.root.data.clone()).unwrap();
        self.came([dag.root.cid], true);
        for (leaf, data) in dag.leaves.iter().take(if whole { 2 } else { 1 }) {
            if share.take_over(store, &file, vec![leaf.cid]).unwrap().is_empty() {
                self.came([leaf.cid], true);
            }
            file.write(leaf, data, 0..data.len()).unwrap();
            self.holds();
        }
        match file.written() == dag.bytes.len() as u64 {
            true => drop(file.finish(&Digest::sha256_of(&dag.bytes), &[], |_| Ok(())).unwrap()),
            false => file.checkpoint().unwrap(),
        }
    }

    /// Whether peers learn of a block in any way.
    fn shows(&self, cid: &Cid) -> bool {
        let Shared { store, share } = self.shared();
        let is_announced =
            store.size(cid).unwrap().is_some() && !share.shown(store, vec![*cid]).unwrap().is_empty();
        let shared = self.shared();
        is_announced || shared.size(cid).unwrap().is_some() || shared.get(cid).unwrap().is_some()
    }

    fn holds(&self) {
        let sources = match self.shared().share {
            SharePolicy::Added => &self.public,
            SharePolicy::All => &self.came,
        };
        let files = (0..LEAVES).flat_map(|one| (0..LEAVES).map(move |other| (one, other)));
        let all: HashMap<Cid, File> =
            files.flat_map(|file| dag(file).cids().into_iter().map(move |cid| (cid, file))).collect();
        for file in all.values().copied().collect::<HashSet<File>>() {
            let dag = dag(file);
            let raw = whole_cid(&Digest::sha256_of(&dag.bytes)).unwrap();
            let is_told = self.shared().file_of(&raw).unwrap().is_some();
            let keys = self.shared().share.announced(&self.store(), vec![dag.root.cid]).unwrap();
            let is_shown = self.shows(&raw) || is_told || keys.contains(&raw);
            let is_public = dag.cids().iter().all(|cid| sources.contains(cid));
            assert!(!is_shown || is_public, "{file:?} is shown by its digest");
        }
        for (cid, file) in all {
            assert!(!self.shows(&cid) || sources.contains(&cid), "{cid} of {file:?} is shown");
        }
    }
}

fn refer(store: &Store, dag: &Dag) {
    let (root, index) = (dag.root.cid, Index::new(store.database()));
    let reference = GcRoot::new(false, &dag.cids(), vec![]);
    index.retain_also(&dag.leaves[0].0.cid, reference).unwrap();
    index.pin(&root, &[root]).unwrap();
    store.database().write(|write| retain_root(write, "follow/k51", &root)).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn private_pushes_are_never_shared_with_peers(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.apply(step);
            world.holds();
        }
    }
}

#[test]
fn push_does_not_share_content_added_in_a_former_network() {
    let mut world = World::new();
    for step in [Step::Add((1, 0)), Step::LeaveNetwork, Step::Push((1, 0))] {
        world.apply(&step);
        world.holds();
    }
    world.apply(&Step::Add((1, 0)));
}

#[test]
fn a_command_shares_files_and_blocks_of_a_former_network_again() {
    let mut world = World::new();
    world.apply(&Step::Add((1, 0)));
    world.apply(&Step::Fetch(2));
    world.apply(&Step::LeaveNetwork);
    let [file, block] = [dag((1, 0)).root.cid, leaf(2).cid];
    let raw = whole_cid(&Digest::sha256_of(&dag((1, 0)).bytes)).unwrap();
    assert!(!world.shows(&file) && !world.shows(&block) && !world.shows(&raw));
    let added = vec![file, block, leaf(3).cid];
    let store = world.store();
    store.database().write(|write| share_added_again(write, &added)).unwrap();
    // A command retains the file, too.
    Index::new(store.database()).retain(&file, &GcRoot::new(true, &[file], vec![])).unwrap();
    assert!(world.shows(&file) && world.shows(&block) && world.shows(&raw));
    assert_eq!(world.shared().get(&raw).unwrap().unwrap(), dag((1, 0)).bytes);
    assert_eq!(world.shared().file_of(&raw).unwrap(), Some(file));
    assert!(!world.shows(&leaf(3).cid), "it is not here");
}
