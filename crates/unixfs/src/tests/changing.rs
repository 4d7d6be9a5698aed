//! Trees that change step by step: what they become is what building them from nothing gives.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use ocipfs_block::Cid;
use proptest::prelude::*;

use super::leaf;
use crate::{Changed, Changes, Document, Error, Profile, Root};

/// A tree, the blocks it consists of and how often each occurs, as its keeper counts them.
struct Tree {
    profile: Profile,
    root: Option<Root>,
    blocks: HashMap<Cid, (Bytes, u64)>,
    read: std::cell::Cell<usize>,
}

impl Tree {
    fn new(profile: Profile) -> Self {
        Self { profile, root: None, blocks: HashMap::new(), read: 0.into() }
    }

    /// Changes it; how many nodes were made.
    fn change(&mut self, changes: &Changes) -> usize {
        let read = |cid: &Cid| {
            self.read.set(self.read.get() + 1);
            let block = self.blocks.get(cid).map(|(block, _)| block.clone());
            block.ok_or(Error::Missing(*cid))
        };
        let Changed { root, added, removed } = self.profile.change(self.root, changes, &read).unwrap();
        let count = added.len();
        for block in added {
            self.blocks.entry(block.cid).or_insert((block.data, 0)).1 += 1;
        }
        for cid in removed {
            let (_, occurs) = self.blocks.get_mut(&cid).expect("what is left was there");
            *occurs -= 1;
            if *occurs == 0 {
                self.blocks.remove(&cid);
            }
        }
        self.root = Some(root);
        count
    }

    /// Holds that it is what building it from nothing gives, block for block.
    fn is(&self, files: &BTreeMap<String, File>) {
        let mut all = Changes::default();
        files.iter().for_each(|(path, file)| assert!(file.add(&mut all, self.profile, path)));
        let Document { root, blocks } = all.document(self.profile).unwrap();
        assert_eq!(self.root, Some(root));
        let mut counted: HashMap<Cid, u64> = HashMap::new();
        blocks.iter().for_each(|block| *counted.entry(block.cid).or_default() += 1);
        let kept: HashMap<Cid, u64> = self.blocks.iter().map(|(cid, (_, occurs))| (*cid, *occurs)).collect();
        assert_eq!(kept, counted);
    }
}

/// A file, kept elsewhere or written with the tree.
#[derive(Clone, Debug)]
struct File {
    text: String,
    written: bool,
}

impl File {
    fn add(&self, changes: &mut Changes, profile: Profile, path: &str) -> bool {
        match self.written {
            true => changes.write(path, Document::file(self.text.clone().into(), profile)),
            false => changes.set(path, leaf(profile, &self.text)),
        }
    }
}

fn change(files: &mut BTreeMap<String, File>, profile: Profile, steps: Vec<(String, Option<u8>)>) -> Changes {
    let mut changes = Changes::default();
    for (path, text) in steps {
        let written = path.ends_with("index");
        let file = text.map(|text| File { text: format!("{text}"), written });
        let taken = match &file {
            Some(file) => file.add(&mut changes, profile, &path),
            None if written => changes.erase(&path),
            None => changes.unset(&path),
        };
        match file {
            Some(file) if taken => drop(files.insert(path, file)),
            None if taken => drop(files.remove(&path)),
            _ => {}
        }
    }
    changes
}

fn path() -> impl Strategy<Value = String> {
    // Few names, so that changes meet; long ones, so that a directory of a thousand is sharded.
    prop_oneof![
        (0..40u32, 0..30u32).prop_map(|(repository, blob)| format!("r{repository}/blobs/{blob:0300}")),
        (0..40u32).prop_map(|repository| format!("r{repository}/index")),
        (0..1200u32).prop_map(|blob| format!("big/blobs/{blob:0250}")),
        (0..1200u32).prop_map(|deep| format!("{deep:0250}/{deep}/index")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn directory_trees_do_not_depend_on_the_order_of_changes(
        legacy: bool,
        steps in prop::collection::vec(prop::collection::vec((path(), prop::option::weighted(0.7, 0..3u8)), 1..300), 1..20),
    ) {
        let profile = if legacy { Profile::Legacy } else { Profile::UnixfsV1 };
        let (mut tree, mut files) = (Tree::new(profile), BTreeMap::new());
        for steps in steps {
            let changes = change(&mut files, profile, steps);
            tree.change(&changes);
        }
        tree.is(&files);
    }
}

fn name(n: u32) -> String {
    format!("{n:0100}")
}

#[test]
fn a_directory_becomes_sharded_as_it_grows_and_basic_as_it_shrinks() {
    for profile in [Profile::UnixfsV1, Profile::Legacy] {
        let (mut tree, mut files) = (Tree::new(profile), BTreeMap::new());
        let some = |from: u32, text: Option<u8>| (from..from + 5).map(|n| (name(n), text)).collect();
        tree.change(&change(&mut files, profile, (0..1700).map(|n| (name(n), Some(0))).collect()));
        let mut sharded = Vec::new();
        let starts = || (1700..2000).step_by(5);
        for (from, text) in starts().map(|n| (n, Some(0))).chain(starts().rev().map(|n| (n, None))) {
            tree.change(&change(&mut files, profile, some(from, text)));
            sharded.push(tree.blocks.len() > 1);
            if from % 100 == 0 {
                tree.is(&files);
            }
        }
        let turns = sharded.windows(2).filter(|two| two[0] != two[1]).count();
        assert_eq!((sharded[0], sharded[60], turns), (false, true, 2), "{}", profile.as_str());
    }
}

#[test]
fn the_cost_of_a_directory_change_does_not_grow_with_the_tree() {
    let profile = Profile::UnixfsV1;
    let (mut tree, mut files) = (Tree::new(profile), BTreeMap::new());
    let repository = |n: u32| (format!("team/app-{n:050}/index"), Some(0));
    tree.change(&change(&mut files, profile, (0..10_000).map(repository).collect()));
    tree.read.set(0);
    let made = tree.change(&change(&mut files, profile, vec![repository(20_000)]));
    // The root, the directory in it, two shards at most, the repository and the file.
    assert!(made <= 7 && tree.read.get() <= 5, "{made} made, {} read", tree.read.get());
    tree.is(&files);
}

#[test]
fn a_path_below_a_file_is_an_error() {
    let profile = Profile::UnixfsV1;
    let mut tree = Tree::new(profile);
    let mut changes = Changes::default();
    assert!(changes.write("a", Document::file("text".into(), profile)));
    assert!(!changes.set("a/b", leaf(profile, "x")) && !changes.set("a", leaf(profile, "x")));
    tree.change(&changes);
    let mut changes = Changes::default();
    changes.set("a/b", leaf(profile, "x"));
    let read = |cid: &Cid| Ok(tree.blocks[cid].0.clone());
    assert!(matches!(profile.change(tree.root, &changes, &read), Err(Error::Invalid { .. })));
}
