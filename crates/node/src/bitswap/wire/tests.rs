use libp2p::multihash::Multihash;
use proptest::prelude::*;

use super::*;

fn cid(n: u8) -> Cid {
    Cid::new_v1(0x55, Multihash::wrap(0x12, &[n; 32]).unwrap())
}

fn entry(n: u8, kind: Kind) -> Entry {
    Entry { cid: cid(n), priority: n.into(), cancel: false, kind, send_dont_have: true }
}

fn joined(pieces: Vec<Bytes>) -> Bytes {
    pieces.concat().into()
}

/// Reads what `encode` wrote, length included.
fn read(pieces: Vec<Bytes>) -> Message {
    let mut bytes = joined(pieces);
    let length = varint(&mut bytes).unwrap();
    assert_eq!(length as usize, bytes.len());
    Message::decode(bytes).unwrap()
}

#[test]
fn what_is_written_is_read() {
    let message = Message {
        wants: vec![
            entry(1, Kind::Block),
            entry(2, Kind::Have),
            Entry { cancel: true, priority: -5, ..entry(3, Kind::Block) },
        ],
        full: true,
        blocks: vec![
            Payload { prefix: Prefix::of(&cid(4)), data: "four".into() },
            Payload { prefix: Prefix::V0, data: Bytes::new() },
        ],
        presences: vec![(cid(5), true), (cid(6), false)],
        pending: 300,
    };
    assert_eq!(read(message.encode(Version::V1_2)), message);
    assert_eq!(read(Message::default().encode(Version::V1_2)), Message::default());
}

#[test]
fn older_versions_are_spared_what_they_do_not_know() {
    let message = Message {
        wants: vec![entry(1, Kind::Block)],
        blocks: vec![Payload { prefix: Prefix::of(&cid(4)), data: "four".into() }],
        presences: vec![(cid(5), true)],
        ..Message::default()
    };
    let plain = Entry { send_dont_have: false, ..entry(1, Kind::Block) };
    let read_1_1 = read(message.encode(Version::V1_1));
    assert_eq!(read_1_1, Message { wants: vec![plain.clone()], presences: vec![], ..message.clone() });
    let read_1_0 = read(message.encode(Version::V1_0));
    let bare = vec![Payload { prefix: Prefix::V0, data: "four".into() }];
    assert_eq!(read_1_0, Message { wants: vec![plain], presences: vec![], blocks: bare, ..message });
}

#[test]
fn a_block_is_a_slice_of_its_message_and_a_piece_of_what_is_sent() {
    let data = Bytes::from(vec![7; 1 << 16]);
    let message = Message {
        blocks: vec![Payload { prefix: Prefix::of(&cid(1)), data: data.clone() }],
        ..Message::default()
    };
    let pieces = message.encode(Version::V1_2);
    assert!(pieces.iter().any(|piece| piece.as_ptr() == data.as_ptr()), "sent without a copy");
    let mut bytes = joined(pieces);
    varint(&mut bytes).unwrap();
    let inside = bytes.as_ptr_range();
    let read = Message::decode(bytes).unwrap();
    assert!(inside.contains(&read.blocks[0].data.as_ptr()), "read without a copy");
}

/// Bytes as boxo writes them.
#[test]
fn the_bytes_are_those_of_the_specification() {
    let message = Message {
        wants: vec![Entry { priority: 10, ..entry(1, Kind::Have) }],
        presences: vec![(cid(2), false)],
        ..Message::default()
    };
    let mut expected = vec![0x0a, 0x2e, 0x0a, 0x2c, 0x0a, 0x24];
    expected.extend(cid(1).to_bytes());
    expected.extend([0x10, 10, 0x20, 1, 0x28, 1, 0x22, 0x28, 0x0a, 0x24]);
    expected.extend(cid(2).to_bytes());
    expected.extend([0x10, 1]);
    let bytes = joined(message.encode(Version::V1_2));
    assert_eq!(bytes[0] as usize, expected.len());
    assert_eq!(bytes[1..], expected);
}

#[test]
fn damaged_messages_are_refused_by_what_is_wrong() {
    for (bytes, why) in [
        (&[0x0a, 5, 1][..], "inside a field"),
        (&[0x28], "inside a number"),
        (&[0x28, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], "more than 64 bits"),
        (&[0x0b], "unknown wire type"),
        (&[0x0a, 2, 0x0a, 0], "a want without a CID"),
        (&[0x1a, 0], "without a prefix"),
        (&[0x22, 0], "presence without a CID"),
        (&[0x22, 4, 0x0a, 2, 1, 0x55], "a CID is damaged"),
    ] {
        let error = Message::decode(Bytes::copy_from_slice(bytes)).unwrap_err();
        assert!(error.to_string().contains(why), "{bytes:x?}: {error}");
    }
}

#[test]
fn a_list_of_very_many_wants_is_cut() {
    let message = Message { wants: vec![entry(1, Kind::Have); MAX_ENTRIES + 10], ..Message::default() };
    assert_eq!(read(message.encode(Version::V1_2)).wants.len(), MAX_ENTRIES);
}

#[test]
fn of_very_many_blocks_no_more_are_read_than_can_have_been_asked_for() {
    let empty = Payload { prefix: Prefix::of(&cid(1)), data: Bytes::new() };
    let message = Message { blocks: vec![empty; MAX_BLOCKS + 10], ..Message::default() };
    assert_eq!(read(message.encode(Version::V1_2)).blocks.len(), MAX_BLOCKS);
}

#[test]
fn a_numbers_length_is_what_is_written() {
    for value in [0, 1, 0x7f, 0x80, 0x3fff, 0x4000, u64::from(u32::MAX), u64::MAX] {
        let mut out = BytesMut::new();
        put_varint(&mut out, value);
        assert_eq!(out.len(), varint_len(value), "{value}");
        assert_eq!(varint(&mut out.freeze()), Ok(value));
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>) {
        if let Ok(message) = Message::decode(bytes.into()) {
            prop_assert_eq!(read(message.encode(Version::V1_2)), message);
        }
    }
}
