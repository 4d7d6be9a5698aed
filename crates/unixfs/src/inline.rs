//! Links to inline blocks of 65 to 128 bytes, which a `Cid` has no room for.

use bytes::Bytes;
use ipld_dagpb::PbNode;
use ocipfs_block::{Block, Cid, InlineTooLong, long_inline, varint};

use crate::data::DAG_PB;

const DATA: u64 = 1 << 3 | 2;
const LINK: u64 = 2 << 3 | 2;
/// The field of a link that holds its CID.
const HASH: u64 = 1 << 3 | 2;

/// Returns the inline blocks below a block that a `Cid` has no room for, under the CIDs that its decoded links have.
pub fn inlined(cid: &Cid, block: &Bytes) -> Vec<Block> {
    let mut all = Vec::new();
    if cid.codec() == DAG_PB {
        // A block that does not decode has no links that are followed.
        let _ = for_each_link(block, |hash| {
            if let Some(block) = long_inline(hash)? {
                all.extend(inlined(&block.cid, &block.data));
                all.push(block);
            }
            Ok(())
        });
    }
    all
}

/// Decodes a dag-pb node. A link to a long inline block has the CID with the sha2-256 of that block.
pub(crate) fn decode(block: Bytes) -> Result<PbNode, String> {
    let Some((replaced, data)) = replace_long(&block).map_err(|error| format!("link to an {error}"))? else {
        return PbNode::from_bytes(block).map_err(|error| error.to_string());
    };
    let mut node = PbNode::from_bytes(replaced.into()).map_err(|error| error.to_string())?;
    // Its bytes stay a part of the block, in the same memory.
    node.data = data;
    Ok(node)
}

/// A node that was encoded again, and its data.
type Replaced = (Vec<u8>, Option<Bytes>);

/// Encodes the node again with other CIDs for long inline blocks; none if there are no such links.
fn replace_long(block: &Bytes) -> Result<Option<Replaced>, InlineTooLong> {
    let mut has_long = false;
    for_each_link(block, |hash| {
        has_long |= long_inline(hash)?.is_some();
        Ok(())
    })?;
    if !has_long {
        return Ok(None);
    }
    let (mut out, mut data, mut rest) = (Vec::with_capacity(block.len()), None, &block[..]);
    while let Some(field) = next(&mut rest) {
        match field.tag {
            LINK => put(&mut out, LINK, &replace_hash(field.value)?),
            tag => {
                data = if tag == DATA { Some(block.slice_ref(field.value)) } else { data };
                out.extend_from_slice(field.whole);
            }
        }
    }
    // What is not a field is left for the decoder to refuse.
    out.extend_from_slice(rest);
    Ok(Some((out, data)))
}

fn replace_hash(mut link: &[u8]) -> Result<Vec<u8>, InlineTooLong> {
    let mut out = Vec::with_capacity(link.len());
    while let Some(field) = next(&mut link) {
        match if field.tag == HASH { long_inline(field.value)? } else { None } {
            Some(block) => put(&mut out, HASH, &block.cid.to_bytes()),
            None => out.extend_from_slice(field.whole),
        }
    }
    out.extend_from_slice(link);
    Ok(out)
}

/// Gives `each` the links of a node, and the CIDs in them.
fn for_each_link(
    mut block: &[u8],
    mut each: impl FnMut(&[u8]) -> Result<(), InlineTooLong>,
) -> Result<(), InlineTooLong> {
    while let Some(Field { tag, value: link, .. }) = next(&mut block) {
        let mut rest = if tag == LINK { link } else { &[] };
        while let Some(field) = next(&mut rest) {
            if field.tag == HASH {
                each(field.value)?;
            }
        }
    }
    Ok(())
}

/// A field of a protobuf message.
struct Field<'a> {
    tag: u64,
    /// Its bytes; empty for a number.
    value: &'a [u8],
    /// All of it, as it is written.
    whole: &'a [u8],
}

/// Takes the next field; leaves what is none of a dag-pb node.
fn next<'a>(rest: &mut &'a [u8]) -> Option<Field<'a>> {
    let (all, mut after) = (*rest, *rest);
    let tag = varint::get(&mut after).ok()?;
    let number = varint::get(&mut after).ok()?;
    let value = match tag & 7 {
        0 => &[],
        2 => after.split_off(..usize::try_from(number).ok()?)?,
        _ => return None,
    };
    *rest = after;
    Some(Field { tag, value, whole: &all[..all.len() - after.len()] })
}

fn put(out: &mut Vec<u8>, tag: u64, value: &[u8]) {
    varint::put(out, tag);
    varint::put(out, value.len() as u64);
    out.extend_from_slice(value);
}

#[cfg(test)]
mod tests;
