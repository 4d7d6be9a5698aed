//! One decoded block: a dag-pb node with the `Data` message of UnixFS, or a raw leaf.

use bytes::Bytes;
use ipld_dagpb::PbLink;
use ocipfs_block::{Cid, inline_bytes, is_trusted_cid};

pub use super::data::{DAG_PB, RAW};
use super::data::{DIRECTORY, Data, FILE, SHARD, SYMLINK};
use crate::{
    Error,
    hamt::{self, Bits, Slot},
    inline,
};

/// A child of a file's node and how many of the file's bytes it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    /// Its block.
    pub cid: Cid,
    /// The file's bytes in it and below it.
    pub size: u64,
}

/// Decoded block: a UnixFS node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DagNode {
    /// A file or a part of one: its own bytes, then its children's.
    File {
        /// Its own bytes.
        data: Bytes,
        /// The nodes whose bytes follow.
        children: Vec<Child>,
    },
    /// A directory: names and what they lead to.
    Directory(Vec<(String, Cid)>),
    /// A part of a sharded directory; names carry the slot as a prefix.
    Shard {
        /// The bits of a name's hash that select a slot.
        fanout_bits: u32,
        /// The hex digits of the slot in front of each name.
        width: usize,
        /// The links: a prefix alone leads to a deeper shard.
        links: Vec<(String, Cid)>,
    },
    /// A symbolic link.
    Symlink,
}

impl DagNode {
    /// Returns the kind of the node, as error messages name it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::File { .. } => "a file",
            Self::Directory(_) | Self::Shard { .. } => "a directory",
            Self::Symlink => "a symbolic link",
        }
    }

    /// Returns the names in a directory; of a sharded one, those in this block.
    pub fn entries(&self) -> Vec<String> {
        match self {
            Self::Directory(links) => links.iter().map(|(name, _)| name.clone()).collect(),
            Self::Shard { width, links, .. } => {
                let name = |(name, _): &(String, Cid)| name.get(*width..).unwrap_or_default().to_owned();
                links.iter().map(name).filter(|name| !name.is_empty()).collect()
            }
            Self::File { .. } | Self::Symlink => Vec::new(),
        }
    }

    /// Looks a name up in this node, which takes the next bits of its hash from `bits` if it is a shard. Returns the CID of the
    /// entry, or of the shard to look into next. Below a shard there are only shards.
    pub fn find(&self, name: &str, bits: &mut Bits) -> Slot {
        match self {
            Self::Directory(links) if bits.is_whole() => {
                let entry = links.iter().find(|(link, _)| link == name);
                entry.map_or(Slot::Empty, |(_, cid)| Slot::Entry(*cid))
            }
            Self::Shard { fanout_bits, width, links } => hamt::find(bits, name, *width, *fanout_bits, links),
            Self::File { .. } | Self::Directory(_) | Self::Symlink => Slot::Empty,
        }
    }

    /// Returns the number of the file's bytes in this block and below it.
    pub fn size(&self) -> u64 {
        match self {
            Self::File { data, children } => {
                children.iter().fold(data.len() as u64, |sum, child| sum.saturating_add(child.size))
            }
            _ => 0,
        }
    }

    /// Returns the block that a reader needs after this one: the only file of a directory, or the first node
    /// of a file's next level. None if its CID carries it.
    pub fn next(&self) -> Option<Cid> {
        let next = match self {
            Self::Directory(links) if links.len() == 1 => links.first().map(|(_, cid)| *cid),
            Self::File { children, .. } => {
                children.first().map(|child| child.cid).filter(|cid| cid.codec() == DAG_PB)
            }
            _ => None,
        };
        next.filter(|cid| inline_bytes(cid).is_none())
    }

    /// Decodes a block, whose bytes the caller has verified.
    ///
    /// # Errors
    /// Fails if the block is neither raw nor UnixFS, contradicts itself, or links with an untrusted hash function.
    pub fn decode(cid: &Cid, block: Bytes) -> Result<Self, Error> {
        Ok(Self::decode_with_sizes(cid, block)?.0)
    }

    /// Decodes a block; also returns the DAG size that each of its links declares.
    ///
    /// # Errors
    /// Fails like [`decode`](Self::decode).
    pub fn decode_with_sizes(cid: &Cid, block: Bytes) -> Result<(Self, Vec<u64>), Error> {
        let corrupt = |why: &str| Error::Invalid { cid: *cid, why: why.into() };
        match cid.codec() {
            RAW => Ok((Self::File { data: block, children: Vec::new() }, Vec::new())),
            DAG_PB => {
                let node = inline::decode(block).map_err(|why| corrupt(&why))?;
                if let Some(link) = node.links.iter().find(|link| !is_trusted_cid(&link.cid)) {
                    let code = link.cid.hash().code();
                    return Err(corrupt(&format!("link uses untrusted hash function 0x{code:x}")));
                }
                let data = node.data.ok_or_else(|| corrupt("dag-pb node without data"))?;
                let sizes = node.links.iter().map(|link| link.size.unwrap_or_default()).collect();
                let decoded = Data::decode(&data).and_then(|data| Self::from_data(data, node.links));
                Ok((decoded.map_err(corrupt)?, sizes))
            }
            other => Err(corrupt(&format!("codec 0x{other:x} is neither raw nor dag-pb"))),
        }
    }

    fn from_data(data: Data, links: Vec<PbLink>) -> Result<Self, &'static str> {
        let named =
            |links: Vec<PbLink>| links.into_iter().map(|l| (l.name.unwrap_or_default(), l.cid)).collect();
        match data.kind {
            // Kind 0 is the old name of a leaf.
            0 | FILE => Self::file(data, links),
            DIRECTORY => Ok(Self::Directory(named(links))),
            SYMLINK => Ok(Self::Symlink),
            SHARD => match data.fanout {
                // The slot's prefix has as many hex digits as the highest slot.
                Some(fanout @ 8..=1024) if fanout.is_power_of_two() => Ok(Self::Shard {
                    fanout_bits: fanout.trailing_zeros(),
                    width: format!("{:X}", fanout - 1).len(),
                    links: named(links),
                }),
                _ => Err("invalid shard fanout: expected a power of two from 8 to 1024"),
            },
            _ => Err("neither a file nor a directory"),
        }
    }

    fn file(data: Data, links: Vec<PbLink>) -> Result<Self, &'static str> {
        if links.len() != data.block_sizes.len() {
            return Err("number of block sizes differs from number of links");
        }
        let children =
            links.into_iter().zip(data.block_sizes).map(|(link, size)| Child { cid: link.cid, size });
        let children: Vec<_> = children.collect();
        let sum = children.iter().try_fold(data.bytes.len() as u64, |sum, child| sum.checked_add(child.size));
        match (sum, data.file_size) {
            (None, _) => Err("block sizes overflow"),
            (Some(sum), Some(size)) if size != sum => Err("block sizes do not add up to the file size"),
            _ => Ok(Self::File { data: data.bytes, children }),
        }
    }
}

#[cfg(test)]
mod tests {
    use ipld_dagpb::PbNode;
    use multihash_codetable::{Code, MultihashDigest};

    use super::*;
    use crate::data::{directory_data, file_data, leaf_frame, shard_data};

    fn decode(links: Vec<PbLink>, data: Vec<u8>) -> Result<DagNode, Error> {
        let block = PbNode { links, data: Some(data.into()) }.into_bytes();
        DagNode::decode(&Cid::new_v1(DAG_PB, Code::Sha2_256.digest(&block)), block.into())
    }

    fn link(n: u8) -> PbLink {
        let cid = Cid::new_v1(RAW, Code::Sha2_256.digest(&[n]));
        PbLink { cid, name: Some(String::new()), size: Some(1) }
    }

    #[test]
    fn a_link_with_an_untrusted_hash_function_is_rejected() {
        // RIPEMD-128 and -160, BLAKE2s-128, SHA-2-256 cut short, and an unknown one.
        let codes: [(&[u8], u8); 5] =
            [(&[0xd2, 0x20], 16), (&[0xd3, 0x20], 20), (&[0xd0, 0xe4, 2], 16), (&[0x12], 16), (&[0x77], 32)];
        for (code, length) in codes {
            let bytes = [&[1, 0x55], code, &[length], &vec![7; length.into()]].concat();
            let cid = Cid::try_from(bytes).unwrap();
            let link = PbLink { cid, name: Some(String::new()), size: Some(1) };
            let refused = decode(vec![link], file_data(b"", [1].into_iter()));
            let Err(Error::Invalid { why, .. }) = refused else { panic!("{refused:?}") };
            assert!(why.contains("untrusted"), "{why}");
        }
    }

    #[test]
    fn unixfs_encode_decode_round_trip() {
        let leaf = decode(vec![], file_data(b"hello", [].into_iter())).unwrap();
        assert_eq!(leaf, DagNode::File { data: "hello".into(), children: vec![] });
        let inner = decode(vec![link(1), link(2)], file_data(b"", [7, 300].into_iter())).unwrap();
        assert_eq!(inner.size(), 307);
        assert_eq!(decode(vec![], directory_data()).unwrap(), DagNode::Directory(vec![]));
    }

    #[test]
    fn unixfs_leaf_frame_matches_the_encoding() {
        for length in [0, 1, 127, 128, 16_370, 16_384, 1 << 18, 1 << 20] {
            let data = vec![7; length];
            let block = PbNode { links: vec![], data: Some(file_data(&data, [].into_iter()).into()) };
            let (head, tail) = leaf_frame(length as u64);
            assert!(block.into_bytes() == [head, data, tail].concat(), "{length}");
        }
    }

    #[test]
    fn a_contradictory_unixfs_node_is_rejected() {
        let wrong_sum = {
            let mut data = file_data(b"", [7].into_iter());
            data[3] = 8;
            data
        };
        for (links, data) in [
            (vec![link(1)], file_data(b"", [].into_iter())),
            (vec![], file_data(b"", [1].into_iter())),
            (vec![link(1)], wrong_sum),
            (vec![link(1), link(2)], file_data_overflowing()),
            (vec![], vec![1 << 3, 9]),
            (vec![], vec![1 << 3, SHARD as u8]),
            (vec![], vec![1 << 3, SHARD as u8, 6 << 3, 7]),
            (vec![], vec![2 << 3 | 2, 200]),
            (vec![], vec![0xff; 11]),
        ] {
            assert!(matches!(decode(links, data.clone()), Err(Error::Invalid { .. })), "{data:?}");
        }
    }

    fn file_data_overflowing() -> Vec<u8> {
        let mut out = vec![1 << 3, FILE as u8];
        for _ in 0..2 {
            out.push(4 << 3);
            ocipfs_block::varint::put(&mut out, u64::MAX);
        }
        out
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes: Vec<u8>) {
            let _ = Data::decode(&bytes.clone().into()).and_then(|data| DagNode::from_data(data, vec![link(1)]));
            let cid = Cid::new_v1(DAG_PB, Code::Sha2_256.digest(&bytes));
            let _ = DagNode::decode(&cid, bytes.into());
        }

        #[test]
        fn a_damaged_unixfs_node_is_rejected_or_read(
            kind in 0..3,
            changes in proptest::collection::vec((proptest::num::usize::ANY, proptest::num::u8::ANY), 1..6),
        ) {
            let (links, data) = match kind {
                0 => (vec![link(1), link(2)], file_data(b"", [7, 300].into_iter())),
                1 => (vec![link(1)], directory_data()),
                _ => (vec![link(1), link(2)], shard_data(8, [3, 200].into_iter())),
            };
            let mut block = PbNode { links, data: Some(data.into()) }.into_bytes().to_vec();
            for (at, byte) in changes {
                let length = block.len();
                block[at % length] = byte;
            }
            let cid = Cid::new_v1(DAG_PB, Code::Sha2_256.digest(&block));
            if let Ok(node) = DagNode::decode(&cid, block.clone().into()) {
                let _ = (node.kind(), node.size(), node.entries(), node.next());
            }
            let _ = crate::links(&cid, block.into());
        }
    }
}
