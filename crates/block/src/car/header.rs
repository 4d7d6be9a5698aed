//! The header: the map `{"roots": [CID...], "version": 1}` in CBOR (RFC 8949), as dag-cbor writes it.

use super::Error;
use crate::{Cid, varint};

/// Major types of CBOR.
const UINT: u8 = 0;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const LIST: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;
/// The tag of a CID.
const CID_TAG: u64 = 42;

/// Returns the header of an archive with these roots.
pub fn header(roots: &[Cid]) -> Vec<u8> {
    let mut map = Vec::new();
    put(&mut map, MAP, 2);
    put_text(&mut map, "roots");
    put(&mut map, LIST, roots.len() as u64);
    for root in roots {
        let cid = root.to_bytes();
        put(&mut map, TAG, CID_TAG);
        put(&mut map, BYTES, cid.len() as u64 + 1);
        // The prefix of a binary CID in CBOR.
        map.push(0);
        map.extend_from_slice(&cid);
    }
    put_text(&mut map, "version");
    put(&mut map, UINT, 1);
    let mut out = Vec::new();
    varint::put(&mut out, map.len() as u64);
    out.append(&mut map);
    out
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put(out, TEXT, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn put(out: &mut Vec<u8>, kind: u8, number: u64) {
    let kind = kind << 5;
    match number {
        0..24 => out.push(kind | number as u8),
        24..0x100 => out.extend([kind | 24, number as u8]),
        0x100..0x1_0000 => {
            out.push(kind | 25);
            out.extend((number as u16).to_be_bytes());
        }
        _ => {
            out.push(kind | 26);
            out.extend((number as u32).to_be_bytes());
        }
    }
}

/// Reads a header, without its length.
pub fn decode(mut bytes: &[u8]) -> Result<Vec<Cid>, Error> {
    let bytes = &mut bytes;
    let (mut roots, mut version) = (None, None);
    let entries = expect(bytes, MAP)?;
    for _ in 0..entries {
        match text(bytes)? {
            b"roots" => roots = Some(cids(bytes)?),
            b"version" => version = Some(expect(bytes, UINT)?),
            _ => return Err(Error::Header("unknown key")),
        }
    }
    match version {
        Some(1) => {}
        Some(2) => return Err(Error::Header("version 2: only version 1 is supported")),
        _ => return Err(Error::Header("expected version 1")),
    }
    if !bytes.is_empty() {
        return Err(Error::Header("bytes after it"));
    }
    roots.ok_or(Error::Header("no roots"))
}

fn cids(bytes: &mut &[u8]) -> Result<Vec<Cid>, Error> {
    // The number is not trusted: each root takes some bytes of a header that is bounded.
    let count = expect(bytes, LIST)?;
    let mut roots = Vec::new();
    for _ in 0..count {
        if expect(bytes, TAG)? != CID_TAG {
            return Err(Error::Header("a root is not a CID"));
        }
        let length = expect(bytes, BYTES)?;
        let cid = take(bytes, length)?.strip_prefix(&[0]).ok_or(Error::Header("a root is not a CID"))?;
        roots.push(Cid::try_from(cid).map_err(|_| Error::Header("a root is not a CID"))?);
    }
    Ok(roots)
}

fn text<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], Error> {
    let length = expect(bytes, TEXT)?;
    take(bytes, length)
}

fn take<'a>(bytes: &mut &'a [u8], length: u64) -> Result<&'a [u8], Error> {
    let taken = usize::try_from(length).ok().and_then(|length| bytes.split_off(..length));
    taken.ok_or(Error::Header("truncated"))
}

/// Reads the number of an item of this major type.
fn expect(bytes: &mut &[u8], kind: u8) -> Result<u64, Error> {
    let first = take(bytes, 1)?[0];
    if first >> 5 != kind {
        return Err(Error::Header("expected a map of roots and version"));
    }
    let length = match first & 31 {
        number @ 0..24 => return Ok(number.into()),
        24 => 1,
        25 => 2,
        26 => 4,
        27 => 8,
        _ => return Err(Error::Header("indefinite length")),
    };
    Ok(take(bytes, length)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}
