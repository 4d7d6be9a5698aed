use libp2p::multihash::Multihash;
use proptest::prelude::*;

use super::*;

fn cid(n: u8) -> Cid {
    Cid::new_v1(0x55, Multihash::wrap(0x12, &[n; 32]).unwrap())
}

fn entry(n: u8, kind: Kind) -> WantlistEntry {
    WantlistEntry { cid: cid(n), priority: n.into(), cancel: false, kind, send_dont_have: true }
}

fn joined(pieces: Vec<Bytes>) -> Bytes {
    pieces.concat().into()
}

/// Decodes the output of `encode`, length included.
fn read(pieces: Vec<Bytes>) -> Message {
    let mut bytes = joined(pieces);
    let length = varint(&mut bytes).unwrap();
    assert_eq!(length as usize, bytes.len());
    Message::decode(bytes).unwrap()
}

fn message() -> Message {
    Message {
        wants: vec![
            entry(1, Kind::Block),
            entry(2, Kind::Have),
            WantlistEntry { cancel: true, priority: -5, ..entry(3, Kind::Block) },
        ],
        full: true,
        blocks: vec![
            Payload { prefix: Prefix::of(&cid(4)), data: "four".into() },
            Payload { prefix: Prefix::V0, data: Bytes::new() },
        ],
        presences: vec![(cid(5), true), (cid(6), false)],
        pending: 300,
    }
}

#[test]
fn encoded_messages_decode_to_the_same_message() {
    let message = message();
    assert_eq!(read(message.encode(Version::V1_2)), message);
    assert_eq!(read(Message::default().encode(Version::V1_2)), Message::default());
}

#[test]
fn wants_and_presences_of_inline_blocks_are_ignored_and_the_rest_of_the_message_is_read() {
    let inline = |length: usize| {
        let mut cid = BytesMut::from(&[1, 0x55, 0][..]);
        put_varint(&mut cid, length as u64);
        [&cid[..], &vec![7; length]].concat()
    };
    for length in [0, 1, 64, 65, 100, 128, 129, 5000] {
        let (mut list, mut message) = (BytesMut::new(), BytesMut::new());
        let mut want = BytesMut::new();
        put_slice(&mut want, 1, &inline(length));
        put_slice(&mut list, 1, &encode_entry(&entry(1, Kind::Block), Version::V1_2));
        put_slice(&mut list, 1, &want);
        put_slice(&mut list, 1, &encode_entry(&entry(2, Kind::Have), Version::V1_2));
        put_slice(&mut message, 1, &list);
        put_slice(&mut message, 4, &want);
        let decoded = Message::decode(message.freeze()).unwrap();
        assert_eq!(decoded.wants, [entry(1, Kind::Block), entry(2, Kind::Have)], "{length}");
        assert!(decoded.presences.is_empty());
    }
    let mut message = BytesMut::new();
    put_slice(&mut message, 4, &[1 << 3 | 2, 2, 1, 0x55]);
    assert!(Message::decode(message.freeze()).is_err(), "a CID that is cut");
}

#[test]
fn older_protocol_versions_get_no_presences() {
    let message = Message {
        wants: vec![entry(1, Kind::Block)],
        blocks: vec![Payload { prefix: Prefix::of(&cid(4)), data: "four".into() }],
        presences: vec![(cid(5), true)],
        ..Message::default()
    };
    let plain = WantlistEntry { send_dont_have: false, ..entry(1, Kind::Block) };
    let read_1_1 = read(message.encode(Version::V1_1));
    assert_eq!(read_1_1, Message { wants: vec![plain.clone()], presences: vec![], ..message.clone() });
    let read_1_0 = read(message.encode(Version::V1_0));
    let bare = vec![Payload { prefix: Prefix::V0, data: "four".into() }];
    assert_eq!(read_1_0, Message { wants: vec![plain], presences: vec![], blocks: bare, ..message });
}

#[test]
fn blocks_are_encoded_and_decoded_without_copying() {
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

/// The bytes that boxo writes.
#[test]
fn the_encoding_matches_the_specification() {
    let message = Message {
        wants: vec![WantlistEntry { priority: 10, ..entry(1, Kind::Have) }],
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
fn malformed_messages_are_rejected_with_a_reason() {
    for (bytes, why) in [
        (&[0x0a, 5, 1][..], "truncated field"),
        (&[0x28], "truncated varint"),
        (&[0x28, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], "longer than 64 bits"),
        (&[0x0b], "unknown wire type"),
        (&[0x0a, 2, 0x0a, 0], "want without a CID"),
        (&[0x1a, 0], "block without a prefix"),
        (&[0x22, 0], "presence without a CID"),
        (&[0x22, 4, 0x0a, 2, 1, 0x55], "invalid CID"),
    ] {
        let error = Message::decode(Bytes::copy_from_slice(bytes)).unwrap_err();
        assert!(error.to_string().contains(why), "{bytes:x?}: {error}");
    }
}

#[test]
fn a_want_list_beyond_the_limit_is_truncated() {
    let message = Message { wants: vec![entry(1, Kind::Have); MAX_ENTRIES + 10], ..Message::default() };
    assert_eq!(read(message.encode(Version::V1_2)).wants.len(), MAX_ENTRIES);
}

#[test]
fn a_message_with_too_many_blocks_is_truncated() {
    let empty = Payload { prefix: Prefix::of(&cid(1)), data: Bytes::new() };
    let message = Message { blocks: vec![empty; MAX_BLOCKS + 10], ..Message::default() };
    assert_eq!(read(message.encode(Version::V1_2)).blocks.len(), MAX_BLOCKS);
}

#[test]
fn varint_len_matches_the_encoding() {
    for value in [0, 1, 0x7f, 0x80, 0x3fff, 0x4000, u64::from(u32::MAX), u64::MAX] {
        let mut out = BytesMut::new();
        put_varint(&mut out, value);
        assert_eq!(out.len(), varint_len(value), "{value}");
        assert_eq!(varint(&mut out.freeze()), Ok(value));
    }
}

/// Decodes bytes, and what is read of them again in each version.
fn decode_twice(bytes: Vec<u8>) {
    let Ok(message) = Message::decode(bytes.into()) else { return };
    for version in [Version::V1_0, Version::V1_1] {
        read(message.encode(version));
    }
    assert_eq!(read(message.encode(Version::V1_2)), message);
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_not_panic(bytes: Vec<u8>) {
        decode_twice(bytes);
    }

    #[test]
    fn a_damaged_message_is_rejected_or_read_as_another_one(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        length: prop::sample::Index,
    ) {
        let mut bytes = joined(message().encode(Version::V1_2)).to_vec();
        // The length comes first.
        bytes.drain(..2);
        for (at, byte) in changes {
            *at.get_mut(&mut bytes) = byte;
        }
        decode_twice(bytes.clone());
        bytes.truncate(length.index(bytes.len() + 1));
        decode_twice(bytes);
    }
}
