//! Small DAGs, as other programs write them.

use multihash_codetable::{Code, MultihashDigest};
use ocipfs_node::{Block, Cid};
use ocipfs_unixfs::{DAG_PB, RAW, hamt::Bits};

use crate::content::{BlobWriter, Content, Profile};

/// Blocks of DAGs.
#[derive(Default)]
pub struct Blocks(pub Vec<Block>);

impl Blocks {
    /// Adds a block and returns its CID.
    pub fn add(&mut self, block: Block) -> Cid {
        let cid = block.cid;
        self.0.push(block);
        cid
    }
}

pub fn raw(bytes: &[u8]) -> Block {
    block(RAW, bytes)
}

fn block(codec: u64, bytes: &[u8]) -> Block {
    Block { cid: Cid::new_v1(codec, Code::Sha2_256.digest(bytes)), data: bytes.to_vec().into() }
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

fn field(number: u8, value: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2][..], &varint(value.len() as u64), value].concat()
}

/// A dag-pb node with these links.
pub fn node(links: &[(&str, Vec<u8>)], data: Option<&[u8]>) -> Vec<u8> {
    let link = |(name, cid): &(&str, Vec<u8>)| {
        field(2, &[field(1, cid), field(2, name.as_bytes()), vec![3 << 3, 1]].concat())
    };
    [links.iter().flat_map(link).collect(), data.map(|data| field(1, data)).unwrap_or_default()].concat()
}

/// The node of a file above these parts.
pub fn file(parts: &[(Vec<u8>, usize)]) -> Block {
    let sizes = parts.iter().map(|(_, size)| *size as u64);
    let mut data = [vec![8, 2, 3 << 3], varint(sizes.clone().sum())].concat();
    sizes.for_each(|size| data.extend([vec![4 << 3], varint(size)].concat()));
    let links: Vec<_> = parts.iter().map(|(cid, _)| ("", cid.clone())).collect();
    block(DAG_PB, &node(&links, Some(&data)))
}

/// A directory of these entries.
pub fn directory(entries: &[(&str, Vec<u8>)]) -> Block {
    block(DAG_PB, &node(entries, Some(&[8, 1])))
}

/// A directory that is split by `bits` bits of the names' hashes; also returns all its shards.
pub fn shard(blocks: &mut Blocks, entries: &[(String, Cid)], bits: u32) -> (Cid, Vec<Cid>) {
    let hashed = entries.iter().map(|(name, cid)| (name.clone(), *cid)).collect();
    let mut shards = Vec::new();
    let top = shard_below(blocks, hashed, bits, 0, &mut shards);
    (top, shards)
}

fn shard_below(
    blocks: &mut Blocks,
    entries: Vec<(String, Cid)>,
    bits: u32,
    depth: u32,
    shards: &mut Vec<Cid>,
) -> Cid {
    let mut links = Vec::new();
    for slot in 0..1u64 << bits {
        let is_in = |(name, _): &&(String, Cid)| Bits::after(name, depth * bits).next(bits) == Some(slot);
        let inside: Vec<(String, Cid)> = entries.iter().filter(is_in).cloned().collect();
        match inside.as_slice() {
            [] => {}
            [(name, cid)] => links.push((format!("{slot:X}{name}"), cid.to_bytes())),
            _ => {
                let deeper = shard_below(blocks, inside, bits, depth + 1, shards);
                links.push((format!("{slot:X}"), deeper.to_bytes()));
            }
        }
    }
    let links: Vec<(&str, Vec<u8>)> = links.iter().map(|(name, cid)| (name.as_str(), cid.clone())).collect();
    // Kind, hash function and width of a HAMT.
    let data = [vec![8, 5, 5 << 3, 0x22, 6 << 3], varint(1 << bits)].concat();
    let cid = blocks.add(block(DAG_PB, &node(&links, Some(&data))));
    shards.push(cid);
    cid
}

/// The binary CID that carries these bytes.
pub fn inline(codec: u64, bytes: &[u8]) -> Vec<u8> {
    [&[1, codec as u8, 0][..], &varint(bytes.len() as u64), bytes].concat()
}

/// Stores a file as a push does, and returns its root.
pub fn pushed(content: &Content, bytes: &'static [u8]) -> Cid {
    let mut writer = BlobWriter::new(content.store(), Profile::default()).unwrap();
    writer.write(bytes.into()).unwrap();
    writer.store().unwrap().1.cid
}
