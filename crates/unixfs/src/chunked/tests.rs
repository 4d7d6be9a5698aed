use std::collections::{BTreeMap, HashMap, HashSet};

use proptest::prelude::*;

use super::*;
use crate::{DagNode, build::Builder};

/// Lists of lines: a name, and as many marks as a line is to be long.
fn form() -> EntryFormat {
    let read = |bytes: &[u8]| {
        let end = bytes.iter().position(|byte| *byte == b';').ok_or("a line without an end")?;
        let name = bytes[..end].split(|byte| *byte == b'=').next().unwrap_or_default();
        Ok((key(std::str::from_utf8(name).map_err(|e| e.to_string())?), end + 1))
    };
    EntryFormat { begin: "lines[", between: ",", end: "]", read }
}

fn key(name: &str) -> EntryKey {
    EntryKey { rank: name.starts_with('z').into(), name: name.into() }
}

fn line(n: usize, value: usize, length: usize) -> (EntryKey, Vec<u8>) {
    let name = format!("v{n:06}");
    let text = format!("{name}={value:0length$};");
    (key(&name), text.into_bytes())
}

fn lines(count: usize) -> BTreeMap<EntryKey, Vec<u8>> {
    (0..count).map(|n| line(n, 0, 250)).collect()
}

fn text(lines: &BTreeMap<EntryKey, Vec<u8>>) -> Vec<u8> {
    let lines: Vec<&[u8]> = lines.values().map(Vec::as_slice).collect();
    [b"lines[", lines.join(&b","[..]).as_slice(), b"]"].concat()
}

fn written(profile: Profile, lines: &BTreeMap<EntryKey, Vec<u8>>) -> Document {
    form().write(profile, lines.clone()).unwrap()
}

fn bytes_of(document: &Document) -> Vec<u8> {
    let (mut waiting, mut bytes) = (vec![document.root.cid], Vec::new());
    while let Some(cid) = waiting.pop() {
        let block = document.blocks.iter().find(|block| block.cid == cid).unwrap();
        let DagNode::File { data, children } = DagNode::decode(&cid, block.data.clone()).unwrap() else {
            panic!()
        };
        bytes.extend_from_slice(&data);
        waiting.extend(children.iter().rev().map(|child| child.cid));
    }
    bytes
}

/// A file that is edited, and the nodes that are here because of it.
struct File {
    profile: Profile,
    root: Root,
    blocks: HashMap<Cid, Bytes>,
    lines: BTreeMap<EntryKey, Vec<u8>>,
    /// Nodes that the last edit read, and those that it made.
    read: usize,
    made: usize,
    /// Bytes that it made.
    bytes: usize,
}

impl File {
    fn new(profile: Profile, lines: BTreeMap<EntryKey, Vec<u8>>) -> Self {
        let document = written(profile, &lines);
        let blocks = document.blocks.into_iter().map(|block| (block.cid, block.data)).collect();
        Self { profile, root: document.root, blocks, lines, read: 0, made: 0, bytes: 0 }
    }

    fn edit(&mut self, edits: BTreeMap<EntryKey, Option<Vec<u8>>>) {
        let read = std::cell::Cell::new(0);
        let get = |cid: &Cid| {
            read.set(read.get() + 1);
            let block = self.blocks.get(cid).cloned();
            block.ok_or(Error::Missing(*cid))
        };
        let all: Vec<Edit> = edits.clone().into_iter().collect();
        let edited = form().edit(self.profile, self.root.cid, &all, &get).unwrap();
        assert_eq!(edited.before, self.root.cid);
        (self.root, self.read, self.made) = (edited.root, read.get(), edited.added.len());
        self.bytes = edited.added.iter().map(|block| block.data.len()).sum();
        for block in edited.added {
            assert!(self.blocks.insert(block.cid, block.data).is_none(), "it was there before");
        }
        for cid in edited.removed {
            self.blocks.remove(&cid).expect("it was there before");
        }
        let before = self.lines.len() as isize;
        for (key, bytes) in edits {
            match bytes {
                Some(bytes) => self.lines.insert(key, bytes),
                None => self.lines.remove(&key),
            };
        }
        assert_eq!(self.lines.len() as isize, before + edited.entry_change);
    }

    /// Holds that it is the file that is written of its lines, block for block.
    fn is_as_written(&self) {
        let whole = written(self.profile, &self.lines);
        assert_eq!(bytes_of(&whole), text(&self.lines));
        assert_eq!(self.root, whole.root);
        let there: HashSet<Cid> = self.blocks.keys().copied().collect();
        assert_eq!(there, whole.blocks.iter().map(|block| block.cid).collect());
    }
}

#[test]
fn a_chunked_file_reads_as_its_entries_and_a_small_one_is_one_block() {
    for profile in [Profile::UnixfsV1, Profile::Legacy] {
        for count in [0, 1, 15, 1000] {
            let file = File::new(profile, lines(count));
            file.is_as_written();
            assert_eq!(file.root.size, text(&file.lines).len() as u64);
            assert_eq!(count < 16, file.blocks.len() == 1);
            if count < 16 {
                let mut builder = Builder::new(profile);
                builder.push(text(&file.lines).into());
                assert_eq!(builder.finish().0.cid, file.root.cid);
            }
        }
    }
}

#[test]
fn an_edit_without_effect_keeps_the_cid_of_a_chunked_file() {
    let mut file = File::new(Profile::UnixfsV1, lines(2000));
    let root = file.root;
    file.edit(BTreeMap::new());
    file.edit([line(1000, 0, 250)].into_iter().map(|(key, bytes)| (key, Some(bytes))).collect());
    file.edit(BTreeMap::from([(key("no such line"), None)]));
    assert_eq!((file.root, file.made), (root, 0));
    file.is_as_written();
}

/// Returns the maximum work to add, replace or remove one entry: nodes read, nodes made, bytes made.
fn work(count: usize) -> [usize; 3] {
    let mut work = [0; 3];
    for n in [0, 1, count / 3, count / 2, count - 1, count] {
        let mut file = File::new(Profile::UnixfsV1, lines(count));
        let more = key(&format!("v{n:06}a"));
        let line = |value: usize| Some(format!("{}={value:0250};", more.name).into_bytes());
        let edits = [(more.clone(), line(1)), (more.clone(), line(2)), (key(&format!("v{n:06}")), None)];
        for edit in edits {
            file.edit(BTreeMap::from([edit]));
            for (most, this) in work.iter_mut().zip([file.read, file.made, file.bytes]) {
                *most = (*most).max(this);
            }
        }
    }
    work
}

#[test]
fn the_cost_of_editing_a_chunked_file_does_not_grow_with_its_entries() {
    let (few, many) = (work(2500), work(10_000));
    for (few, many) in few.into_iter().zip(many) {
        assert!(many < few * 2, "{few:?} of 2,500, {many:?} of 10,000");
    }
    assert!(many[0] < 40 && many[1] < 10 && many[2] < 40 << 10, "{many:?}");
}

/// Some lines: where they begin and how many there are, in what steps, how long they are, and whether they go.
type Lines = (usize, usize, usize, usize, bool);

fn some() -> impl Strategy<Value = Lines> {
    let few = (
        0..3000usize,
        1..4usize,
        1..3usize,
        prop::sample::select(vec![1, 100, 300, 5000, 20_000]),
        any::<bool>(),
    );
    let many = (0..3000usize, 1..3000usize, 1..3usize, Just(100), prop::bool::weighted(0.8));
    prop_oneof![4 => few, 1 => many]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn an_incrementally_edited_chunked_file_equals_one_written_from_scratch(
        count in prop::sample::select(vec![0, 1, 20, 500, 3000]),
        legacy in any::<bool>(),
        steps in prop::collection::vec(prop::collection::vec(some(), 1..4), 1..8),
    ) {
        let profile = if legacy { Profile::Legacy } else { Profile::UnixfsV1 };
        let mut file = File::new(profile, lines(count));
        for (value, step) in steps.into_iter().enumerate() {
            let mut edits = BTreeMap::new();
            for (first, some, by, length, goes) in step {
                for n in (first..).step_by(by).take(some) {
                    let (key, bytes) = line(n, value, length);
                    edits.insert(key, (!goes).then_some(bytes));
                }
            }
            file.edit(edits);
            file.is_as_written();
        }
    }
}
