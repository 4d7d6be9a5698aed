//! The `Data` message of UnixFS, which a dag-pb node holds: <https://specs.ipfs.tech/unixfs/>.

use bytes::Bytes;
use ocipfs_block::varint;

use crate::metadata::Metadata;

/// The codec of a raw leaf.
pub const RAW: u64 = 0x55;
/// The codec of a dag-pb node.
pub const DAG_PB: u64 = 0x70;

pub const DIRECTORY: u64 = 1;
pub const FILE: u64 = 2;
pub const SYMLINK: u64 = 4;
pub const SHARD: u64 = 5;

/// The fields of a `Data` message that are used here.
#[derive(Default)]
pub struct Data {
    /// The kind of the node.
    pub kind: u64,
    /// The bytes of a file, or the bit field of a shard.
    pub bytes: Bytes,
    /// The declared size of the file.
    pub file_size: Option<u64>,
    /// The sizes of the file's parts behind the links, in their order.
    pub block_sizes: Vec<u64>,
    /// The number of slots of a shard.
    pub fanout: Option<u64>,
    /// The mode and the time of what the node is the root of.
    pub metadata: Metadata,
}

impl Data {
    /// Decodes the message. Unknown fields are skipped.
    pub fn decode(bytes: &Bytes) -> Result<Self, &'static str> {
        let mut message = Self::default();
        let mut rest = bytes.clone();
        while !rest.is_empty() {
            let tag = varint(&mut rest)?;
            match (tag >> 3, tag & 7) {
                (1, 0) => message.kind = varint(&mut rest)?,
                (2, 2) => message.bytes = chunk(&mut rest)?,
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
                (7, 0) => message.metadata.mode = u32::try_from(varint(&mut rest)?).ok(),
                (8, 2) => message.metadata.mtime = time(chunk(&mut rest)?).ok(),
                (_, 0) => drop(varint(&mut rest)?),
                (_, 2) => drop(chunk(&mut rest)?),
                (_, 5) => drop(split_to(&mut rest, 4)?),
                (_, 1) => drop(split_to(&mut rest, 8)?),
                _ => return Err("unknown wire type"),
            }
        }
        Ok(message)
    }
}

/// Decodes a time: seconds since 1970, and nanoseconds.
fn time(mut bytes: Bytes) -> Result<(i64, u32), &'static str> {
    let (mut seconds, mut nanos) = (0, [0; 4]);
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        match (tag >> 3, tag & 7) {
            (1, 0) => seconds = varint(&mut bytes)? as i64,
            (2, 5) => nanos.copy_from_slice(&split_to(&mut bytes, 4)?),
            (_, 0) => drop(varint(&mut bytes)?),
            (_, 2) => drop(chunk(&mut bytes)?),
            (_, 5) => drop(split_to(&mut bytes, 4)?),
            (_, 1) => drop(split_to(&mut bytes, 8)?),
            _ => return Err("unknown wire type"),
        }
    }
    Ok((seconds, u32::from_le_bytes(nanos)))
}

fn varint(bytes: &mut Bytes) -> Result<u64, &'static str> {
    varint::get(bytes).map_err(|error| match error {
        varint::Error::Truncated => "truncated varint",
        varint::Error::TooLong => "varint exceeds 64 bits",
    })
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

/// Writes the `Data` of a file: with its bytes (a leaf) or with its children's sizes (an inner node).
pub fn file_data(data: &[u8], children: impl Iterator<Item = u64> + Clone) -> Vec<u8> {
    let mut out = vec![1 << 3, FILE as u8];
    if !data.is_empty() {
        out.push(2 << 3 | 2);
        varint::put(&mut out, data.len() as u64);
        out.extend_from_slice(data);
    }
    out.push(3 << 3);
    varint::put(&mut out, data.len() as u64 + children.clone().sum::<u64>());
    for size in children {
        out.push(4 << 3);
        varint::put(&mut out, size);
    }
    out
}

/// Returns the bytes before and after the data of a dag-pb leaf: `file_data` of that length in a node without
/// links.
pub fn leaf_frame(length: u64) -> (Vec<u8>, Vec<u8>) {
    let mut head = vec![1 << 3, FILE as u8];
    if length > 0 {
        head.push(2 << 3 | 2);
        varint::put(&mut head, length);
    }
    let mut tail = vec![3 << 3];
    varint::put(&mut tail, length);
    let mut node = vec![1 << 3 | 2];
    varint::put(&mut node, head.len() as u64 + length + tail.len() as u64);
    node.append(&mut head);
    (node, tail)
}

/// Writes the `Data` of a symbolic link.
pub fn symlink_data(target: &str) -> Vec<u8> {
    let mut out = vec![1 << 3, SYMLINK as u8, 2 << 3 | 2];
    varint::put(&mut out, target.len() as u64);
    out.extend_from_slice(target.as_bytes());
    out
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
    varint::put(&mut out, bits.len() as u64);
    out.extend_from_slice(&bits);
    out.push(5 << 3);
    varint::put(&mut out, MURMUR3_X64_64);
    out.push(6 << 3);
    varint::put(&mut out, 1 << fanout_bits);
    out
}
