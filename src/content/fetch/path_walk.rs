//! The way from a root along a path: which node is needed next, wherever it comes from.

use ocipfs_node::{Block, Cid};
use ocipfs_unixfs::{
    DagNode,
    hamt::{Bits, Slot},
};

use crate::content::{CidPath, Error};

/// A walk along a path, through plain and sharded directories.
pub struct PathWalk {
    at: CidPath,
    /// How many names of the path were found.
    found: usize,
    needed: Cid,
    /// What is left of the hash of the name that is looked for; none between two names.
    bits: Option<Bits>,
}

/// A walk that went on with the blocks that are here.
pub struct StoredWalk {
    pub walk: PathWalk,
    /// The last block that was read.
    pub last: Option<Block>,
    pub end: WalkEnd,
}

/// Why a walk stopped.
pub enum WalkEnd {
    /// The path leads to this node.
    Arrived(DagNode),
    /// The node that is needed next is not here.
    Absent,
    /// It may be here: enough was read at once.
    Paused,
}

impl PathWalk {
    /// Begins at the root.
    pub fn new(at: CidPath) -> Self {
        Self { found: 0, needed: *at.root(), bits: None, at }
    }

    /// The node that is needed next; at the end, the one that the path leads to.
    pub fn needed(&self) -> Cid {
        self.needed
    }

    /// Takes the node that is needed, and gives it back where the path ends there.
    pub fn enter(&mut self, node: DagNode) -> Result<Option<DagNode>, Error> {
        let Some(name) = self.at.names().get(self.found) else { return Ok(Some(node)) };
        let bits = self.bits.get_or_insert_with(|| Bits::of(name));
        match node.find(name, bits) {
            Slot::Entry(cid) => (self.needed, self.found, self.bits) = (cid, self.found + 1, None),
            Slot::Deeper(cid) => self.needed = cid,
            Slot::Empty => return Err(Error::NoEntry { at: self.at.clone(), entry: name.clone() }),
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use base64::{Engine, prelude::BASE64_STANDARD};
    use multihash_codetable::{Code, MultihashDigest};
    use ocipfs_unixfs::DAG_PB;
    use serde_json::Value;

    use super::*;

    /// Goes along a path as far as there are nodes; gives the CID of the first that is missing.
    fn walk(nodes: &HashMap<Cid, DagNode>, path: &str) -> Result<String, Error> {
        let mut walk = PathWalk::new(path.parse().unwrap());
        while let Some(node) = nodes.get(&walk.needed()) {
            assert_eq!(walk.enter(node.clone())?, None, "{path}");
        }
        Ok(walk.needed().to_string())
    }

    #[test]
    fn a_walk_finds_every_entry_of_a_sharded_directory_and_no_other() {
        let vectors: Value =
            serde_json::from_str(include_str!("../../../tests/fixtures/unixfs.json")).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        for directory in vectors["sharded"].as_array().unwrap() {
            let blocks = directory["blocks"].as_array().unwrap().iter();
            let mut nodes: HashMap<Cid, DagNode> = blocks
                .map(|block| {
                    let cid = text(&block["cid"]).parse().unwrap();
                    let bytes = BASE64_STANDARD.decode(text(&block["block"])).unwrap();
                    (cid, DagNode::decode(&cid, bytes.into()).unwrap())
                })
                .collect();
            assert!(nodes.len() > 1, "the shards are one block");
            // Below a plain directory, so that a second name begins with a hash of its own.
            let root = text(&directory["cid"]);
            let above = Cid::new_v1(DAG_PB, Code::Sha2_256.digest(b"above"));
            nodes.insert(above, DagNode::Directory(vec![("below".into(), root.parse().unwrap())]));
            for (name, cid) in directory["entries"].as_object().unwrap() {
                for path in [format!("{root}/{name}"), format!("{above}/below/{name}")] {
                    assert_eq!(walk(&nodes, &path).unwrap(), text(cid), "{path}");
                }
            }
            for name in ["file-", "file-9999", "0A"] {
                let missing = walk(&nodes, &format!("{root}/{name}"));
                assert!(matches!(missing, Err(Error::NoEntry { entry, .. }) if entry == name));
            }
        }
    }

    #[test]
    fn below_a_shard_there_are_only_shards() {
        let cid = |text: &[u8]| Cid::new_v1(DAG_PB, Code::Sha2_256.digest(text));
        let deeper = vec![(format!("{:02X}", Bits::of("name").next(8).unwrap()), cid(b"deeper"))];
        let root = DagNode::Shard { fanout_bits: 8, width: 2, links: deeper };
        let directory = DagNode::Directory(vec![("name".into(), cid(b"file"))]);
        let nodes = HashMap::from([(cid(b"root"), root), (cid(b"deeper"), directory)]);
        assert!(walk(&nodes, &format!("{}/name", cid(b"deeper"))).unwrap() == cid(b"file").to_string());
        let found = walk(&nodes, &format!("{}/name", cid(b"root")));
        assert!(matches!(&found, Err(Error::NoEntry { .. })), "{found:?}");
    }
}
