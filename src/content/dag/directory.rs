//! Directories as Kubo writes them: one block, or sharded where that would pass 256 KiB.

use std::collections::BTreeMap;

use ipld_dagpb::{PbLink, PbNode};
use ocipfs_node::Block;

use super::{
    build::{Profile, Root},
    hamt::Bits,
    unixfs,
};

/// Beyond this size a directory is sharded.
const LARGEST: usize = 256 << 10;
/// Links of a shard, as the bits of a hash that choose one.
const FANOUT_BITS: u32 = 8;

fn link(name: String, root: &Root) -> PbLink {
    PbLink { cid: root.cid, name: Some(name), size: Some(root.dag_size) }
}

impl Profile {
    /// A directory of `entries`; its blocks are given, the root's is the last.
    pub fn directory_of(self, entries: &BTreeMap<String, Root>) -> (Root, Vec<Block>) {
        // What is certainly too large is not written first.
        let names = || entries.iter().map(|(name, root)| name.len() + root.cid.encoded_len());
        if names().sum::<usize>() <= LARGEST {
            let links = entries.iter().map(|(name, root)| link(name.clone(), root)).collect();
            let (root, block) = self.node(links, unixfs::directory_data());
            // `legacy` estimates by names and links, `unixfs-v1-2025` goes by the block itself.
            if self == Self::Legacy || block.data.len() <= LARGEST {
                return (root, vec![block]);
            }
        }
        let mut blocks = Vec::new();
        let entries = entries.iter().map(|(name, root)| (Bits::of(name), name.as_str(), root)).collect();
        (self.shard(entries, &mut blocks), blocks)
    }

    fn shard(self, entries: Vec<(Bits, &str, &Root)>, blocks: &mut Vec<Block>) -> Root {
        let mut slots: BTreeMap<u64, Vec<(Bits, &str, &Root)>> = BTreeMap::new();
        for (mut bits, name, root) in entries {
            slots.entry(bits.take(FANOUT_BITS).unwrap_or_default()).or_default().push((bits, name, root));
        }
        let data = unixfs::shard_data(FANOUT_BITS, slots.keys().copied());
        let mut links = Vec::new();
        for (slot, mut entries) in slots {
            // Names whose whole hashes are equal stay side by side in the deepest shard.
            let is_deepest = entries.iter().any(|(bits, ..)| bits.is_spent());
            if entries.len() > 1 && !is_deepest {
                links.push(link(format!("{slot:02X}"), &self.shard(entries, blocks)));
                continue;
            }
            links.extend(entries.drain(..).map(|(_, name, root)| link(format!("{slot:02X}{name}"), root)));
        }
        let (root, block) = self.node(links, data);
        blocks.push(block);
        root
    }

    fn node(self, links: Vec<PbLink>, data: Vec<u8>) -> (Root, Block) {
        let below: u64 = links.iter().filter_map(|link| link.size).sum();
        let block = self.dag_pb(PbNode { links, data: Some(data.into()) });
        (Root { cid: block.cid, size: 0, dag_size: below + block.data.len() as u64 }, block)
    }
}
