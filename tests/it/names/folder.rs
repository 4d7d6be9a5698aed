//! Folders as UnixFS, plain and sharded, as `ipfs add -r` makes them.

use std::{collections::BTreeMap, io::Cursor};

use bytes::Bytes;
use ipld_dagpb::{PbLink, PbNode};
use multihash_codetable::{Code, MultihashDigest};
use ocipfs::content::Profile;
use ocipfs_node::{Block, Cid};

use crate::offline::Offline;

/// Files by their paths in the folder.
pub type Files = BTreeMap<String, Vec<u8>>;

/// How directories are written.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    Plain(Profile),
    /// Every directory in parts of at most 256 slots: <https://specs.ipfs.tech/unixfs/>.
    Sharded,
}

pub const SHAPES: [Shape; 3] =
    [Shape::Plain(Profile::UnixfsV1), Shape::Plain(Profile::Legacy), Shape::Sharded];

/// Stores a folder; the CIDv1 of its directory.
pub async fn put(offline: &Offline, files: &Files, shape: Shape) -> Cid {
    let mut tree = Tree::default();
    for (path, bytes) in files {
        let cid = offline.put(bytes, shape.profile()).await;
        tree.insert(path, cid);
    }
    let root = tree.store(offline, shape);
    Cid::new_v1(root.codec(), *root.hash())
}

#[derive(Default)]
struct Tree {
    files: BTreeMap<String, Cid>,
    folders: BTreeMap<String, Tree>,
}

impl Tree {
    fn insert(&mut self, path: &str, cid: Cid) {
        match path.split_once('/') {
            Some((folder, rest)) => self.folders.entry(folder.into()).or_default().insert(rest, cid),
            None => drop(self.files.insert(path.into(), cid)),
        }
    }

    fn store(self, offline: &Offline, shape: Shape) -> Cid {
        let mut entries = self.files;
        for (name, folder) in self.folders {
            entries.insert(name, folder.store(offline, shape));
        }
        shape.directory(offline, entries)
    }
}

impl Shape {
    fn profile(self) -> Profile {
        match self {
            Self::Plain(profile) => profile,
            Self::Sharded => Profile::UnixfsV1,
        }
    }

    fn directory(self, offline: &Offline, entries: BTreeMap<String, Cid>) -> Cid {
        match self {
            Self::Plain(_) => self.node(offline, vec![1 << 3, 1], entries.into_iter().collect()),
            Self::Sharded => {
                let hash = |name: &str| murmur3::murmur3_x64_128(&mut Cursor::new(name), 0).unwrap() as u64;
                let entries = entries.into_iter().map(|(name, cid)| (hash(&name), name, cid)).collect();
                self.shard(offline, 0, entries)
            }
        }
    }

    /// A shard of what agrees in the first `depth` bytes of its hash.
    fn shard(self, offline: &Offline, depth: u32, entries: Vec<(u64, String, Cid)>) -> Cid {
        let mut slots: BTreeMap<u8, Vec<(u64, String, Cid)>> = BTreeMap::new();
        for entry in entries {
            slots.entry((entry.0 >> (56 - 8 * depth)) as u8).or_default().push(entry);
        }
        let links = slots.into_iter().map(|(slot, mut entries)| match entries.len() {
            1 => {
                let (_, name, cid) = entries.remove(0);
                (format!("{slot:02X}{name}"), cid)
            }
            _ => (format!("{slot:02X}"), self.shard(offline, depth + 1, entries)),
        });
        // Type, hash (murmur3) and fanout (256).
        let data = vec![1 << 3, 5, 5 << 3, 0x22, 6 << 3, 0x80, 0x02];
        self.node(offline, data, links.collect())
    }

    fn node(self, offline: &Offline, data: Vec<u8>, links: Vec<(String, Cid)>) -> Cid {
        let links = links.into_iter().map(|(name, cid)| PbLink { cid, name: Some(name), size: Some(0) });
        let data = Bytes::from(PbNode { links: links.collect(), data: Some(data.into()) }.into_bytes());
        let hash = Code::Sha2_256.digest(&data);
        let cid = match self {
            Self::Plain(Profile::Legacy) => Cid::new_v0(hash).unwrap(),
            _ => Cid::new_v1(0x70, hash),
        };
        offline.put_blocks(&[Block { cid, data }]);
        cid
    }
}
