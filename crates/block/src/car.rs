//! Writes CARv1, a sequence of blocks behind a header: <https://ipld.io/specs/transport/car/carv1/>.

use bytes::BufMut;

use crate::{Cid, varint};

/// CBOR: a byte string, a text, an array, a map, a tag.
const BYTES: u8 = 2 << 5;
const TEXT: u8 = 3 << 5;
const ARRAY: u8 = 4 << 5;
const MAP: u8 = 5 << 5;
/// The tag of a CID.
const CID_TAG: [u8; 2] = [6 << 5 | 24, 42];
/// The prefix of a CID in a byte string: the multibase of binary.
const BINARY: u8 = 0;
const VERSION: u8 = 1;

/// Returns the header of a CAR with these roots.
pub fn header(roots: &[Cid]) -> Vec<u8> {
    let mut map = Vec::new();
    head(&mut map, MAP, 2);
    text(&mut map, "roots");
    head(&mut map, ARRAY, roots.len());
    for root in roots {
        let root = root.to_bytes();
        map.extend_from_slice(&CID_TAG);
        head(&mut map, BYTES, root.len() + 1);
        map.put_u8(BINARY);
        map.extend_from_slice(&root);
    }
    text(&mut map, "version");
    map.put_u8(VERSION);
    let mut all = Vec::with_capacity(map.len() + 4);
    varint::put(&mut all, map.len() as u64);
    all.extend_from_slice(&map);
    all
}

/// Returns what precedes the bytes of a block: the length of both, and the CID.
pub fn section(cid: &Cid, length: usize) -> Vec<u8> {
    let cid = cid.to_bytes();
    let mut head = Vec::with_capacity(cid.len() + 10);
    varint::put(&mut head, (cid.len() + length) as u64);
    head.extend_from_slice(&cid);
    head
}

fn text(out: &mut Vec<u8>, text: &str) {
    head(out, TEXT, text.len());
    out.extend_from_slice(text.as_bytes());
}

/// Writes the kind and the length of a value (RFC 8949, section 3), in the shortest form.
fn head(out: &mut Vec<u8>, kind: u8, length: usize) {
    match length {
        0..24 => out.put_u8(kind | length as u8),
        24..256 => out.extend_from_slice(&[kind | 24, length as u8]),
        256..65_536 => {
            out.put_u8(kind | 25);
            out.put_u16(length as u16);
        }
        _ => {
            out.put_u8(kind | 27);
            out.put_u64(length as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The header of the carv1-basic fixture of the specification, which has two roots.
    const BASIC: &str = "63a265726f6f747382d82a58250001711220f88bc853804cf294fe417e4fa83028689fcdb1b1592c5102e1474dbc200fab8bd82a5825000171122069ea0740f9807a28f4d932c62e7c1c83be055e55072c90266ab3e79df63a365b6776657273696f6e01";

    #[test]
    fn a_header_equals_the_one_of_the_specifications_fixture() {
        let roots = [
            "bafyreihyrpefhacm6kkp4ql6j6udakdit7g3dmkzfriqfykhjw6cad5lrm",
            "bafyreidj5idub6mapiupjwjsyyxhyhedxycv4vihfsicm2vt46o7morwlm",
        ];
        let header = header(&roots.map(|root| root.parse().unwrap()));
        let hex: String = header.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, BASIC);
    }

    #[test]
    fn a_header_may_have_no_root_or_many() {
        let root: Cid = "bafkqaaa".parse().unwrap();
        for roots in [0, 1, 23, 24, 300] {
            let written = header(&vec![root; roots]);
            let mut rest = &written[..];
            assert_eq!(varint::get(&mut rest).unwrap(), rest.len() as u64);
            assert_eq!(rest.windows(2).filter(|two| *two == CID_TAG).count(), roots);
        }
        assert_eq!(&header(&[])[..], b"\x11\xa2eroots\x80gversion\x01");
    }

    #[test]
    fn a_section_begins_with_the_length_of_cid_and_block() {
        let cid: Cid = "bafkqaaa".parse().unwrap();
        assert_eq!(&section(&cid, 300)[..], [0xb0, 2, 1, 0x55, 0, 0]);
    }
}
