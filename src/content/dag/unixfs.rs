//! One block as UnixFS sees it: the `Data` message inside a dag-pb node, or a raw leaf.

use bytes::Bytes;
use ipld_dagpb::{PbLink, PbNode};
use ocipfs_node::{Cid, is_trusted_cid};

use crate::content::Error;

pub const RAW: u64 = 0x55;
pub const DAG_PB: u64 = 0x70;

const DIRECTORY: u64 = 1;
const FILE: u64 = 2;
const SYMLINK: u64 = 4;
const SHARD: u64 = 5;

/// A child of a file's node and how many of the file's bytes it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    pub cid: Cid,
    pub size: u64,
}

/// Decoded block: a UnixFS node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DagNode {
    /// A file or a part of one: its own bytes, then its children's.
    File { data: Bytes, children: Vec<Child> },
    /// A directory: names and what they lead to.
    Directory(Vec<(String, Cid)>),
    /// A part of a sharded directory; names carry the slot as a prefix.
    Shard { fanout_bits: u32, width: usize, links: Vec<(String, Cid)> },
    /// A symbolic link.
    Symlink,
}

impl DagNode {
    pub fn kind(&self) -> &'static str {
        match self {
            Self::File { .. } => "a file",
            Self::Directory(_) | Self::Shard { .. } => "a directory",
            Self::Symlink => "a symbolic link",
        }
    }

    /// The names in a directory; of a sharded one, those in this block.
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

    /// The file's bytes below this block.
    pub fn size(&self) -> u64 {
        match self {
            Self::File { data, children } => {
                children.iter().fold(data.len() as u64, |sum, child| sum.saturating_add(child.size))
            }
            _ => 0,
        }
    }

    /// Returns the block that a reader needs after this one: the only file of a directory, or the first node
    /// of a file's next level.
    pub fn next(&self) -> Option<Cid> {
        match self {
            Self::Directory(links) if links.len() == 1 => links.first().map(|(_, cid)| *cid),
            Self::File { children, .. } => {
                children.first().map(|child| child.cid).filter(|cid| cid.codec() == DAG_PB)
            }
            _ => None,
        }
    }

    pub fn decode(cid: &Cid, block: Bytes) -> Result<Self, Error> {
        Ok(Self::decode_with_sizes(cid, block)?.0)
    }

    /// Decodes a block; also returns the DAG size that each of its links declares.
    pub fn decode_with_sizes(cid: &Cid, block: Bytes) -> Result<(Self, Vec<u64>), Error> {
        let corrupt = |why: &str| Error::Corrupt { cid: *cid, why: why.into() };
        match cid.codec() {
            RAW => Ok((Self::File { data: block, children: Vec::new() }, Vec::new())),
            DAG_PB => {
                let node = PbNode::from_bytes(block).map_err(|e| corrupt(&e.to_string()))?;
                if let Some(link) = node.links.iter().find(|link| !is_trusted_cid(&link.cid)) {
                    let code = link.cid.hash().code();
                    return Err(corrupt(&format!("link uses untrusted hash function 0x{code:x}")));
                }
                let data = node.data.ok_or_else(|| corrupt("dag-pb node without data"))?;
                let sizes = node.links.iter().map(|link| link.size.unwrap_or_default()).collect();
                let unit = Message::decode(&data).and_then(|message| message.unit(node.links));
                Ok((unit.map_err(corrupt)?, sizes))
            }
            other => Err(corrupt(&format!("codec 0x{other:x} is neither raw nor dag-pb"))),
        }
    }
}

/// The `Data` message of UnixFS: <https://specs.ipfs.tech/unixfs/>.
#[derive(Default)]
struct Message {
    kind: u64,
    data: Bytes,
    file_size: Option<u64>,
    block_sizes: Vec<u64>,
    fanout: Option<u64>,
}

impl Message {
    fn decode(bytes: &Bytes) -> Result<Self, &'static str> {
        let mut message = Self::default();
        let mut rest = bytes.clone();
        while !rest.is_empty() {
            let tag = varint(&mut rest)?;
            match (tag >> 3, tag & 7) {
                (1, 0) => message.kind = varint(&mut rest)?,
                (2, 2) => message.data = chunk(&mut rest)?,
                (3, 0) => message.file_size = Some(varint(&mut rest)?),
                (4, 0) => message.block_sizes.push(varint(&mut rest)?),
                // The same list, packed.
                (4, 2) => {
                    let mut packed = chunk(&mut rest)?;
                    while !packed.is_empty() {
                        message.block_sizes.push(varint(&mut packed)?);
                    }
                }
                (6, 0) => message.fanout = Some(varint(&mut rest)?),
                (_, 0) => drop(varint(&mut rest)?),
                (_, 2) => drop(chunk(&mut rest)?),
                (_, 5) => drop(split_to(&mut rest, 4)?),
                (_, 1) => drop(split_to(&mut rest, 8)?),
                _ => return Err("unknown wire type"),
            }
        }
        Ok(message)
    }

    fn unit(self, links: Vec<PbLink>) -> Result<DagNode, &'static str> {
        let named =
            |links: Vec<PbLink>| links.into_iter().map(|l| (l.name.unwrap_or_default(), l.cid)).collect();
        match self.kind {
            // Kind 0 is the old name of a leaf.
            0 | FILE => self.file(links),
            DIRECTORY => Ok(DagNode::Directory(named(links))),
            SYMLINK => Ok(DagNode::Symlink),
            SHARD => match self.fanout {
                // The slot's prefix has as many hex digits as the highest slot.
                Some(fanout @ 8..=1024) if fanout.is_power_of_two() => Ok(DagNode::Shard {
                    fanout_bits: fanout.trailing_zeros(),
                    width: format!("{:X}", fanout - 1).len(),
                    links: named(links),
                }),
                _ => Err("invalid shard fanout: expected a power of two from 8 to 1024"),
            },
            _ => Err("neither a file nor a directory"),
        }
    }

    fn file(self, links: Vec<PbLink>) -> Result<DagNode, &'static str> {
        if links.len() != self.block_sizes.len() {
            return Err("number of block sizes differs from number of links");
        }
        let children =
            links.into_iter().zip(self.block_sizes).map(|(link, size)| Child { cid: link.cid, size });
        let children: Vec<_> = children.collect();
        let sum = children.iter().try_fold(self.data.len() as u64, |sum, child| sum.checked_add(child.size));
        match (sum, self.file_size) {
            (None, _) => Err("block sizes overflow"),
            (Some(sum), Some(size)) if size != sum => Err("block sizes do not add up to the file size"),
            _ => Ok(DagNode::File { data: self.data, children }),
        }
    }
}

fn varint(bytes: &mut Bytes) -> Result<u64, &'static str> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.first().ok_or("truncated varint")?;
        let _ = bytes.split_to(1);
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("varint exceeds 64 bits")
}

fn chunk(bytes: &mut Bytes) -> Result<Bytes, &'static str> {
    let length = varint(bytes)?;
    split_to(bytes, usize::try_from(length).unwrap_or(usize::MAX))
}

fn split_to(bytes: &mut Bytes, length: usize) -> Result<Bytes, &'static str> {
    if length > bytes.len() {
        return Err("truncated field");
    }
    Ok(bytes.split_to(length))
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Writes the `Data` of a file: with its bytes (a leaf) or with its children's sizes (an inner node).
pub fn file_data(data: &[u8], children: impl Iterator<Item = u64> + Clone) -> Vec<u8> {
    let mut out = vec![1 << 3, FILE as u8];
    if !data.is_empty() {
        out.push(2 << 3 | 2);
        put_varint(&mut out, data.len() as u64);
        out.extend_from_slice(data);
    }
    out.push(3 << 3);
    put_varint(&mut out, data.len() as u64 + children.clone().sum::<u64>());
    for size in children {
        out.push(4 << 3);
        put_varint(&mut out, size);
    }
    out
}

/// Returns the bytes before and after the data of a dag-pb leaf: `file_data` of that length in a node without
/// links.
pub fn leaf_frame(length: u64) -> (Vec<u8>, Vec<u8>) {
    let mut head = vec![1 << 3, FILE as u8];
    if length > 0 {
        head.push(2 << 3 | 2);
        put_varint(&mut head, length);
    }
    let mut tail = vec![3 << 3];
    put_varint(&mut tail, length);
    let mut node = vec![1 << 3 | 2];
    put_varint(&mut node, head.len() as u64 + length + tail.len() as u64);
    node.append(&mut head);
    (node, tail)
}

/// Writes the `Data` of a plain directory.
pub fn directory_data() -> Vec<u8> {
    vec![1 << 3, DIRECTORY as u8]
}

/// Writes the `Data` of a shard: the slots that are taken as bits, the hash (murmur3-x64-64) and the number of slots.
pub fn shard_data(fanout_bits: u32, slots: impl Iterator<Item = u64>) -> Vec<u8> {
    const MURMUR3_X64_64: u64 = 0x22;
    let mut bits = vec![0u8; 1 << fanout_bits >> 3];
    let last = bits.len() - 1;
    slots.for_each(|slot| bits[last - (slot >> 3) as usize] |= 1 << (slot & 7));
    let bits: Vec<u8> = bits.into_iter().skip_while(|byte| *byte == 0).collect();
    let mut out = vec![1 << 3, SHARD as u8, 2 << 3 | 2];
    put_varint(&mut out, bits.len() as u64);
    out.extend_from_slice(&bits);
    out.push(5 << 3);
    put_varint(&mut out, MURMUR3_X64_64);
    out.push(6 << 3);
    put_varint(&mut out, 1 << fanout_bits);
    out
}

#[cfg(test)]
mod tests {
    use multihash_codetable::{Code, MultihashDigest};

    use super::*;

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
            let Err(Error::Corrupt { why, .. }) = refused else { panic!("{refused:?}") };
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
            assert!(matches!(decode(links, data.clone()), Err(Error::Corrupt { .. })), "{data:?}");
        }
    }

    fn file_data_overflowing() -> Vec<u8> {
        let mut out = vec![1 << 3, FILE as u8];
        for _ in 0..2 {
            out.push(4 << 3);
            put_varint(&mut out, u64::MAX);
        }
        out
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes: Vec<u8>) {
            let _ = Message::decode(&bytes.clone().into()).and_then(|message| message.unit(vec![link(1)]));
            let cid = Cid::new_v1(DAG_PB, Code::Sha2_256.digest(&bytes));
            let _ = DagNode::decode(&cid, bytes.into());
        }
    }
}
