use ipld_dagpb::PbLink;
use multihash_codetable::{Code, MultihashDigest};
use ocipfs_block::{MAX_INLINE_BYTES, inline_bytes};

use super::*;
use crate::{
    Child, DagNode, Error, RAW,
    data::{directory_data, file_data},
};

/// Returns the binary CID that carries these bytes.
fn inline(codec: u64, bytes: &[u8]) -> Vec<u8> {
    let mut cid = vec![1, codec as u8, 0];
    varint::put(&mut cid, bytes.len() as u64);
    [&cid[..], bytes].concat()
}

/// Returns a node with such links.
fn node(links: &[(&str, Vec<u8>)], data: &[u8]) -> Bytes {
    let mut out = Vec::new();
    for (name, cid) in links {
        let mut link = Vec::new();
        put(&mut link, HASH, cid);
        put(&mut link, 2 << 3 | 2, name.as_bytes());
        link.extend([3 << 3, 9]);
        put(&mut out, LINK, &link);
    }
    put(&mut out, DATA, data);
    out.into()
}

fn sha256(codec: u64, bytes: &[u8]) -> Cid {
    Cid::new_v1(codec, Code::Sha2_256.digest(bytes))
}

fn decoded(block: &Bytes) -> Result<DagNode, Error> {
    DagNode::decode(&sha256(DAG_PB, block), block.clone())
}

#[test]
fn a_directory_with_inline_entries_of_up_to_128_bytes_is_decoded() {
    let other = sha256(RAW, b"other");
    for length in [0, 1, 10, 63, 64, 65, 100, 127, MAX_INLINE_BYTES] {
        let bytes = vec![b'x'; length];
        let links = [("a", inline(RAW, &bytes)), ("b", other.to_bytes()), ("c", inline(RAW, &bytes))];
        let block = node(&links, &directory_data());
        let DagNode::Directory(entries) = decoded(&block).unwrap() else { panic!("not a directory") };
        let names: Vec<&str> = entries.iter().map(|(name, _)| &name[..]).collect();
        assert_eq!((names, entries[1].1), (vec!["a", "b", "c"], other), "{length}");
        let carried = inlined(&sha256(DAG_PB, &block), &block);
        match length > 64 {
            true => {
                let expected = Block { cid: sha256(RAW, &bytes), data: bytes.into() };
                assert_eq!(
                    (entries[0].1, carried),
                    (expected.cid, vec![expected.clone(), expected]),
                    "{length}"
                );
            }
            false => {
                assert_eq!((inline_bytes(&entries[0].1), carried.len()), (Some(&bytes[..]), 0), "{length}")
            }
        }
    }
}

#[test]
fn a_link_to_an_inline_block_of_more_than_128_bytes_is_refused_with_the_limit() {
    for length in [129, 200, 5000] {
        let block = node(&[("a", inline(RAW, &vec![1; length]))], &directory_data());
        let Err(Error::Invalid { why, .. }) = decoded(&block) else { panic!("{length} bytes are accepted") };
        assert!(why.contains(&format!("inline block of {length} bytes: at most 128")), "{why}");
        assert!(inlined(&sha256(DAG_PB, &block), &block).is_empty());
    }
}

#[test]
fn the_last_chunk_of_a_file_may_be_inline_and_its_own_data_stays_in_the_block() {
    for length in [1, 10, 64, 65, 128] {
        let (first, last) = (sha256(RAW, b"first"), vec![b'x'; length]);
        let mut data = file_data(b"own", [5, length as u64].into_iter());
        // The size of the file counts its own bytes, too.
        let block = node(&[("", first.to_bytes()), ("", inline(RAW, &last))], &data);
        let DagNode::File { data: own, children } = decoded(&block).unwrap() else { panic!("not a file") };
        assert_eq!(children[0], Child { cid: first, size: 5 });
        assert_eq!((&own[..], children[1].size), (&b"own"[..], length as u64));
        let range = block.as_ptr_range();
        assert!(range.contains(&own.as_ptr()), "the data is a slice of the block");
        data.truncate(2);
        assert!(decoded(&node(&[("", inline(RAW, &last))], &data)).is_err(), "sizes are checked");
    }
}

#[test]
fn an_inline_block_within_an_inline_node_is_found() {
    let deep = node(&[("", inline(RAW, &[b'x'; 70]))], &file_data(b"", [70].into_iter()));
    assert!((65..=MAX_INLINE_BYTES).contains(&deep.len()), "{}", deep.len());
    let top = node(&[("", inline(DAG_PB, &deep))], &file_data(b"", [70].into_iter()));
    let blocks = inlined(&sha256(DAG_PB, &top), &top);
    let cids: Vec<Cid> = blocks.iter().map(|block| block.cid).collect();
    assert_eq!(cids, [sha256(RAW, &[b'x'; 70]), sha256(DAG_PB, &deep)]);
    let DagNode::File { children, .. } = decoded(&top).unwrap() else { panic!("not a file") };
    assert_eq!(children[0].cid, sha256(DAG_PB, &deep));
}

#[test]
fn an_inline_block_is_not_sent_with_the_directory_that_carries_it() {
    let one = |cid| decoded(&node(&[("a", cid)], &directory_data())).unwrap().next();
    assert_eq!(one(inline(RAW, b"hello")), None);
    assert_eq!(one(sha256(RAW, b"hello").to_bytes()), Some(sha256(RAW, b"hello")));
}

#[test]
fn a_node_without_long_inline_blocks_is_decoded_as_it_is() {
    let link = PbLink { cid: sha256(RAW, b"a"), name: Some("a".into()), size: Some(1) };
    let encoded = Bytes::from(PbNode { links: vec![link], data: Some(directory_data().into()) }.into_bytes());
    assert_eq!(decode(encoded.clone()).unwrap(), PbNode::from_bytes(encoded).unwrap());
    let interleaved =
        [&node(&[("a", inline(RAW, &[1; 100]))], b"x")[..], &node(&[("b", vec![1])], b"y")].concat();
    assert!(decode(interleaved.into()).is_err());
}

proptest::proptest! {
    #[test]
    fn arbitrary_nodes_do_not_panic(bytes: Vec<u8>, hash: Vec<u8>) {
        let cid = sha256(DAG_PB, b"");
        let _ = (decode(bytes.clone().into()), inlined(&cid, &bytes.into()));
        let long = node(&[("a", inline(RAW, &[1; 100])), ("b", hash)], &directory_data());
        let _ = (decode(long.clone()), inlined(&cid, &long));
    }
}
