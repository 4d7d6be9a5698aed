//! Blocks of DAG-CBOR: <https://ipld.io/specs/codecs/dag-cbor/spec/>. They are read for what they link to, along a path, and
//! as DAG-JSON: <https://ipld.io/specs/codecs/dag-json/spec/>.

mod json;
mod reader;

use std::ops::Range;

use ocipfs_block::Cid;

use reader::{Head, Reader};

pub use json::dag_json;

/// The codec of DAG-CBOR.
pub const DAG_CBOR: u64 = 0x71;

/// Returns what a block links to, in its order.
///
/// # Errors
/// Fails if the block is invalid.
pub fn cbor_links(block: &[u8]) -> Result<Vec<Cid>, String> {
    let (mut reader, mut links) = (Reader::new(block), Vec::new());
    collect(&mut reader, &mut links)?;
    reader.end()?;
    Ok(links)
}

fn collect(reader: &mut Reader<'_>, links: &mut Vec<Cid>) -> Result<(), String> {
    match reader.head()? {
        Head::Link(cid) => links.push(cid),
        Head::List(count) => reader.each(count, |reader| collect(reader, links))?,
        Head::Map(count) => reader.each(count, |reader| {
            reader.key()?;
            collect(reader, links)
        })?,
        _ => {}
    }
    Ok(())
}

/// Where a path leads in a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CborTarget {
    /// A link, after so many names.
    Link(Cid, usize),
    /// Where the bytes of a value are.
    Value(Range<usize>),
}

/// Follows names in a block: keys of maps, and numbers of entries of lists. It ends at the first link.
///
/// # Errors
/// Fails if the block is invalid, or has nothing there.
pub fn cbor_resolve(block: &[u8], names: &[String]) -> Result<CborTarget, String> {
    let mut reader = Reader::new(block);
    for (depth, name) in names.iter().enumerate() {
        let missing = || format!("key not found: {name:?}");
        match reader.head()? {
            Head::Link(cid) => return Ok(CborTarget::Link(cid, depth)),
            Head::List(count) => {
                let number =
                    name.parse::<usize>().ok().filter(|number| *number < count).ok_or_else(missing)?;
                reader.each(number, Reader::skip)?;
            }
            Head::Map(count) => {
                let mut left = count;
                while left > 0 && reader.key()? != name {
                    reader.skip()?;
                    left -= 1;
                }
                if left == 0 {
                    return Err(missing());
                }
            }
            _ => return Err(missing()),
        }
    }
    let start = block.len() - reader.rest().len();
    match reader.head()? {
        Head::Link(cid) if !names.is_empty() => Ok(CborTarget::Link(cid, names.len())),
        _ => {
            let mut reader = Reader::new(&block[start..]);
            reader.skip()?;
            Ok(CborTarget::Value(start..block.len() - reader.rest().len()))
        }
    }
}

#[cfg(test)]
mod tests {
    use multihash_codetable::{Code, MultihashDigest};

    use super::*;

    fn link() -> (Cid, Vec<u8>) {
        let cid = Cid::new_v1(0x55, Code::Sha2_256.digest(b"x"));
        // Tag 42, and bytes that begin with a zero.
        (cid, [&[0xd8, 0x2a, 0x58, 37, 0][..], &cid.to_bytes()].concat())
    }

    /// `{"a": [1, link], "bb": {"c": link}, "d": "text"}`, with the keys in the order of DAG-CBOR.
    fn block() -> (Cid, Vec<u8>) {
        let (cid, link) = link();
        let parts: [&[u8]; 7] = [
            &[0xa3, 0x61, b'a', 0x82, 1],
            &link,
            &[0x61, b'd', 0x64],
            b"text",
            &[0x62, b'b', b'b', 0xa1, 0x61, b'c'],
            &link,
            &[],
        ];
        (cid, parts.concat())
    }

    #[test]
    fn links_of_dag_cbor_are_read_in_their_order() {
        let (cid, block) = block();
        assert_eq!(cbor_links(&block), Ok(vec![cid, cid]));
        assert_eq!(cbor_links(&[0xf6]), Ok(vec![]));
        assert!(cbor_links(&[block, vec![0]].concat()).unwrap_err().contains("after"));
    }

    #[test]
    fn a_path_leads_through_dag_cbor_to_a_link_or_a_value() {
        let (cid, block) = block();
        let at = |path: &str| {
            let names: Vec<String> =
                path.split('/').filter(|name| !name.is_empty()).map(Into::into).collect();
            cbor_resolve(&block, &names)
        };
        let value = |path: &str| match at(path) {
            Ok(CborTarget::Value(range)) => block[range].to_vec(),
            other => panic!("{path}: {other:?}"),
        };
        assert_eq!(value(""), block);
        assert_eq!(value("a/0"), [1]);
        assert_eq!(at("a/1"), Ok(CborTarget::Link(cid, 2)));
        assert_eq!(at("bb/c/further/on"), Ok(CborTarget::Link(cid, 2)));
        assert_eq!(value("d"), b"\x64text");
        for path in ["a/2", "a/x", "b", "d/x", "bb/d"] {
            assert!(at(path).unwrap_err().contains("key not found"), "{path}");
        }
    }

    #[test]
    fn dag_cbor_becomes_dag_json_with_sorted_keys() {
        let (cid, block) = block();
        let expected = format!(r#"{{"a":[1,{{"/":"{cid}"}}],"bb":{{"c":{{"/":"{cid}"}}}},"d":"text"}}"#);
        assert_eq!(dag_json(&block), Ok(expected));
        for (bytes, json) in [
            (&[0x20][..], "-1"),
            (&[0x3b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], "-18446744073709551616"),
            (&[0x1b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], "18446744073709551615"),
            (&[0x42, 1, 2], r#"{"/":{"bytes":"AQI"}}"#),
            (&[0xfb, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0], "1.5"),
            (&[0xfb, 0x40, 0, 0, 0, 0, 0, 0, 0], "2.0"),
            (&[0x83, 0xf4, 0xf5, 0xf6], "[false,true,null]"),
            (&[0xa0], "{}"),
            (&[0x63, b'"', b'<', b'\n'], r#""\"<\n""#),
        ] {
            assert_eq!(dag_json(bytes).as_deref(), Ok(json));
        }
    }

    #[test]
    fn invalid_dag_cbor_is_refused() {
        let deep = [vec![0x81; 2000], vec![0xf6]].concat();
        for block in [
            &[][..],
            &[0x82, 1],
            &[0xa1, 1, 1],
            &[0x62, 0xff, 0xff],
            &[0x9f, 0xff],
            &[0xd8, 0x2b, 0x41, 0],
            &[0xd8, 0x2a, 0x41, 1],
            &[0xf7],
            &[0xf9, 0x7e, 0],
            &[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &deep,
        ] {
            assert!(cbor_links(block).is_err() && dag_json(block).is_err(), "{block:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_dag_cbor_does_not_panic(bytes: Vec<u8>) {
            let _ = (cbor_links(&bytes), dag_json(&bytes), cbor_resolve(&bytes, &["a".into(), "0".into()]).is_ok());
        }
    }
}
