use proptest::prelude::*;

use super::*;

#[test]
fn a_byte_range_is_clamped_to_the_content() {
    let table = [
        ("bytes=0-0", 0..1),
        ("bytes=0-9", 0..10),
        ("bytes=90-99", 90..100),
        ("bytes=90-100", 90..100),
        ("bytes=99-18446744073709551615", 99..100),
        ("bytes=5-99999999999999999999999", 5..100),
        ("bytes=10-", 10..100),
        ("bytes=99-", 99..100),
        ("bytes=-1", 99..100),
        ("bytes=-100", 0..100),
        ("bytes=-101", 0..100),
        ("bytes=-99999999999999999999999", 0..100),
        ("BYTES=007-008", 7..9),
        (" bytes= 1-2 ", 1..3),
    ];
    for (header, expected) in table {
        assert_eq!(ByteRange::parse(header).unwrap().resolve(100), Ok(expected), "{header}");
    }
}

#[test]
fn a_byte_range_outside_the_content_is_unsatisfiable() {
    for (header, size) in [
        ("bytes=100-", 100),
        ("bytes=100-200", 100),
        ("bytes=-0", 100),
        ("bytes=9-0", 100),
        ("bytes=0-", 0),
        ("bytes=0-0", 0),
        ("bytes=-1", 0),
        ("bytes=18446744073709551615-", u64::MAX),
        ("bytes=99999999999999999999999-", u64::MAX),
    ] {
        let refusal = ByteRange::parse(header).unwrap().resolve(size).unwrap_err();
        assert_eq!(refusal.content_range(), format!("bytes */{size}"), "{header}");
    }
}

#[test]
fn an_unsupported_range_header_is_ignored() {
    for header in [
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=1",
        "bytes=a-b",
        "bytes=+1-2",
        "bytes=1-+2",
        "bytes=--1",
        "bytes=1 - 2",
        "bytes=0-9,20-29",
        "bytes=0-9,",
        "bytes:0-9",
        "items=0-9",
        "bytes =0-9",
        "0-9",
        "bytes=\u{663}-",
    ] {
        assert_eq!(ByteRange::parse(header), None, "{header}");
    }
}

#[test]
fn content_range_is_inclusive() {
    assert_eq!(content_range(&(0..10), 100), "bytes 0-9/100");
    assert_eq!(content_range(&(99..100), 100), "bytes 99-99/100");
}

#[test]
fn if_range_matches_only_the_same_strong_etag() {
    let table = [
        (None, "\"a\"", true),
        (Some("\"a\""), "\"a\"", true),
        (Some(" \"a\" "), "\"a\"", true),
        (Some("\"b\""), "\"a\"", false),
        (Some("a"), "\"a\"", false),
        (Some("W/\"a\""), "\"a\"", false),
        (Some("\"a\""), "W/\"a\"", false),
        (Some("W/\"a\""), "W/\"a\"", false),
        (Some("*"), "\"a\"", false),
        (Some(""), "\"a\"", false),
        (Some("Wed, 21 Oct 2015 07:28:00 GMT"), "\"a\"", false),
        (Some("Wed, 21 Oct 2015 07:28:00 GMT"), "Wed, 21 Oct 2015 07:28:00 GMT", false),
    ];
    for (if_range, etag, expected) in table {
        assert_eq!(if_range_holds(if_range, etag), expected, "{if_range:?} {etag}");
    }
}

proptest! {
    #[test]
    fn a_resolved_byte_range_is_inside_the_content_and_not_empty(first: u64, last: u64, size: u64) {
        for header in [format!("bytes={first}-{last}"), format!("bytes={first}-"), format!("bytes=-{last}")] {
            if let Some(Ok(range)) = ByteRange::parse(&header).map(|range| range.resolve(size)) {
                prop_assert!(range.start < range.end && range.end <= size);
            }
        }
    }

    #[test]
    fn byte_ranges_round_trip_through_the_header(start in 0..1000u64, length in 1..1000u64, rest in 0..1000u64) {
        let (range, size) = (start..start + length, start + length + rest);
        let header = format!("bytes={}-{}", range.start, range.end - 1);
        prop_assert_eq!(ByteRange::parse(&header).unwrap().resolve(size), Ok(range));
    }

    #[test]
    fn arbitrary_text_does_not_panic(text in "(bytes=)?[0-9,-]{0,30}\\PC*", size: u64) {
        let _ = ByteRange::parse(&text).map(|range| range.resolve(size));
    }
}
