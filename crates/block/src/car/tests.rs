use multihash_codetable::{Code, MultihashDigest};

use super::*;

fn block(data: &'static [u8]) -> Block {
    Block { cid: Cid::new_v1(0x55, Code::Sha2_256.digest(data)), data: Bytes::from_static(data) }
}

fn archive(roots: &[Cid], blocks: &[Block]) -> Vec<u8> {
    let mut out = header(roots);
    for block in blocks {
        out.extend(section(&block.cid, block.data.len()));
        out.extend_from_slice(&block.data);
    }
    out
}

fn decode(archive: &[u8], piece: usize) -> Result<Vec<Item>, Error> {
    let (mut decoder, mut items) = (Decoder::default(), Vec::new());
    for piece in archive.chunks(piece) {
        decoder.push(Bytes::copy_from_slice(piece));
        while let Some(item) = decoder.next()? {
            items.push(item);
        }
    }
    decoder.finish().map(|()| items)
}

#[test]
fn a_car_is_read_as_it_was_written_in_pieces_of_any_length() {
    let blocks = [block(b"hello"), block(b""), block(&[7; 1000])];
    let legacy = Cid::new_v0(Code::Sha2_256.digest(b"x")).unwrap();
    for roots in [vec![], vec![blocks[0].cid], vec![legacy; 300]] {
        let expected: Vec<Item> = [Item::Header(roots.clone())]
            .into_iter()
            .chain(blocks.iter().cloned().map(Item::Block))
            .collect();
        let bytes = archive(&roots, &blocks);
        for piece in [1, 7, 100, bytes.len()] {
            assert_eq!(decode(&bytes, piece).unwrap(), expected, "{piece}");
        }
        assert_eq!(decode(&bytes[..bytes.len() - 1], 100), Err(Error::Truncated));
    }
}

/// The header of the carv1-basic fixture of the specification, which has two roots.
const BASIC: &str = "63a265726f6f747382d82a58250001711220f88bc853804cf294fe417e4fa83028689fcdb1b1592c5102e1474dbc200fab8bd82a5825000171122069ea0740f9807a28f4d932c62e7c1c83be055e55072c90266ab3e79df63a365b6776657273696f6e01";

#[test]
fn a_car_header_equals_the_one_of_the_specifications_fixture() {
    let roots = [
        "bafyreihyrpefhacm6kkp4ql6j6udakdit7g3dmkzfriqfykhjw6cad5lrm",
        "bafyreidj5idub6mapiupjwjsyyxhyhedxycv4vihfsicm2vt46o7morwlm",
    ];
    let header = header(&roots.map(|root| root.parse().unwrap()));
    let hex: String = header.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, BASIC);
}

#[test]
fn a_section_begins_with_the_length_of_cid_and_block() {
    let cid: Cid = "bafkqaaa".parse().unwrap();
    assert_eq!(&section(&cid, 300)[..], [0xb0, 2, 1, 0x55, 0, 0]);
}

#[test]
fn an_invalid_car_is_rejected() {
    let (good, mut other) = (block(b"hello"), block(b"hello"));
    other.data = Bytes::from_static(b"jello");
    let identity = Cid::try_from(&[1, 0x55, 0, 2, b'h', b'i'][..]).unwrap();
    let carried = Block { cid: identity, data: Bytes::from_static(b"hi") };
    assert!(decode(&archive(&[], &[carried]), 9).is_ok());
    let v2 = [&[0x0a][..], b"\xa1\x67version\x02"].concat();
    for (bytes, refused) in [
        (vec![], Error::Truncated),
        (archive(&[], &[other]), Error::Block(good.cid)),
        (v2, Error::Header("version 2: only version 1 is supported")),
        ([&header(&[])[..], &[0xff, 0xff, 0xff, 0x7f]].concat(), Error::TooLong(0x0fff_ffff)),
        ([&header(&[])[..], &[0xff; 11]].concat(), Error::TooLong(u64::MAX)),
        (vec![1, 0xa0], Error::Header("expected version 1")),
        (vec![1, 0x80], Error::Header("expected a map of roots and version")),
        (b"\x08\xa1\x65roots\x9b".to_vec(), Error::Header("truncated")),
        (b"\x0e\xa2\x65roots\x9b\xff\xff\xff\xff\xff\xff".to_vec(), Error::Header("truncated")),
    ] {
        assert_eq!(decode(&bytes, 100), Err(refused), "{bytes:?}");
    }
    assert!(matches!(decode(&[&header(&[])[..], &[1, 7]].concat(), 9), Err(Error::Cid(_))));
}

#[test]
fn a_car_with_any_byte_changed_or_missing_is_read_or_refused() {
    let blocks = [block(b"hello"), block(b"world")];
    let bytes = archive(&[blocks[0].cid], &blocks);
    for at in 0..bytes.len() {
        for change in [1, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[at] ^= change;
            let _ = decode(&changed, 7);
        }
        assert!(decode(&bytes[..at], 7).is_err() || at == bytes.len() - 42 || at == 59, "{at}");
    }
}
