use proptest::prelude::*;

use super::*;

fn parsed(header: &str) -> ByteRanges {
    ByteRanges::parse(header).unwrap().unwrap_or_else(|| panic!("{header} is not ignored"))
}

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
        assert_eq!(parsed(header).resolve(100), Ok(vec![expected]), "{header}");
    }
}

#[test]
fn several_byte_ranges_keep_their_order_and_only_overlapping_ones_are_joined() {
    let table = [
        ("bytes=0-9,20-29", "[0..10, 20..30]"),
        ("bytes=20-29,0-9", "[20..30, 0..10]"),
        ("bytes=0-9,10-19", "[0..10, 10..20]"),
        ("bytes=0-9,11-19", "[0..10, 11..20]"),
        ("bytes=0-9,9-19", "[0..20]"),
        ("bytes=50-59,0-9,55-64", "[50..65, 0..10]"),
        ("bytes=0-99,5-6,7-8", "[0..100]"),
        ("bytes=5-6,5-6,5-6", "[5..7]"),
        ("bytes=0-,-1", "[0..100]"),
        ("bytes=-1,0-0", "[99..100, 0..1]"),
        ("bytes=0-9,100-,200-300", "[0..10]"),
        ("bytes=0-9,-0,1000-", "[0..10]"),
        ("bytes= 0-0 ,\t2-2\t, 4-4 ", "[0..1, 2..3, 4..5]"),
        ("bytes=,0-0,, ,2-2,", "[0..1, 2..3]"),
    ];
    for (header, expected) in table {
        assert_eq!(format!("{:?}", parsed(header).resolve(100).unwrap()), expected, "{header}");
    }
}

#[test]
fn at_most_1000_byte_ranges_are_taken() {
    let of = |count: usize, range: &str| format!("bytes={}", vec![range; count].join(","));
    for range in ["0-0", "-", "", "99999999999999999999999-"] {
        for (count, is_taken) in [(1_000, true), (1_001, false), (10_000, false)] {
            assert_eq!(
                ByteRanges::parse(&of(count, range)).is_ok(),
                is_taken || range == "-",
                "{count} {range}"
            );
        }
    }
    let each: Vec<String> = (0..1_000).map(|n| format!("{}-{}", 2 * n, 2 * n)).collect();
    assert_eq!(parsed(&format!("bytes={}", each.join(","))).resolve(5_000).unwrap().len(), 1_000);
    assert!(TooManyRanges.to_string().contains("1000"));
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
        ("bytes=100-,200-300,-0", 100),
        ("bytes=0-9,9-0", 100),
        ("bytes=0-0,-1", 0),
    ] {
        let refusal = parsed(header).resolve(size).unwrap_err();
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
        "bytes=,",
        "bytes= , ,",
        "bytes=0-9;20-29",
        "bytes=0-9,x",
        "bytes=0-9,1",
        "bytes=0-9, 20 - 29",
        "bytes=0-9,bytes=20-29",
        "bytes=0-9\n,20-29",
        "bytes=0-1-2",
        "bytes:0-9",
        "items=0-9",
        "bytes =0-9",
        "0-9",
        "bytes=\u{663}-",
    ] {
        assert_eq!(ByteRanges::parse(header), Ok(None), "{header}");
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
    fn resolved_byte_ranges_are_inside_the_content_and_disjoint(
        specs in prop::collection::vec((any::<u8>(), any::<u8>(), 0..3), 1..9),
        size in 0..300u64,
    ) {
        let specs = specs.into_iter().map(|(first, last, form)| match form {
            0 => format!("{first}-{last}"),
            1 => format!("{first}-"),
            _ => format!("-{last}"),
        });
        let header = format!("bytes={}", specs.collect::<Vec<_>>().join(","));
        if let Ok(mut ranges) = parsed(&header).resolve(size) {
            prop_assert!(ranges.iter().all(|range| range.start < range.end && range.end <= size));
            ranges.sort_by_key(|range| range.start);
            prop_assert!(ranges.windows(2).all(|two| two[0].end <= two[1].start));
        }
    }

    #[test]
    fn byte_ranges_round_trip_through_the_header(start in 0..1000u64, length in 1..1000u64, rest in 0..1000u64) {
        let (range, size) = (start..start + length, start + length + rest);
        let header = format!("bytes={}-{}", range.start, range.end - 1);
        prop_assert_eq!(parsed(&header).resolve(size), Ok(vec![range]));
    }

    #[test]
    fn arbitrary_text_does_not_panic(text in "(bytes=)?[0-9,-]{0,30}\\PC*", size: u64) {
        let _ = ByteRanges::parse(&text).map(|ranges| ranges.map(|ranges| ranges.resolve(size)));
    }
}

/// A header of these words in any order, with positions of any size.
fn header(random: &mut impl FnMut() -> u64) -> String {
    const WORDS: [&str; 14] = [
        "bytes=",
        "-",
        ",",
        ",",
        "-",
        "=",
        " ",
        "\t",
        "x",
        "BYTES=",
        "0",
        "18446744073709551615",
        "99999999999999999999",
        "\u{e9}",
    ];
    let mut text = if random().is_multiple_of(8) { String::new() } else { "bytes=".to_string() };
    if random().is_multiple_of(64) {
        let ranges: Vec<String> =
            (0..random() % 2_000).map(|at| format!("{at}-{}", at + random() % 9)).collect();
        return format!("bytes={}", ranges.join(","));
    }
    for _ in 0..random() % 24 {
        match random() % 4 {
            0 => text.push_str(WORDS[(random() % WORDS.len() as u64) as usize]),
            1 => text.push_str(&format!("{}-{},", random() % 300, random() % 300)),
            2 => text.push_str(&(random() >> (random() % 64)).to_string()),
            _ => text.push_str(&format!("-{},", random() % 300)),
        }
    }
    text
}

#[test]
fn any_range_header_is_ignored_rejected_or_resolves_within_the_content() {
    let runs = std::env::var("OCIPFS_TEST_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(20_000u64);
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 8
    };
    let mut counts = [0u64; 4];
    for run in 0..runs {
        let text = header(&mut random);
        let size = random() >> (random() % 64);
        let at = match ByteRanges::parse(&text).map(|ranges| ranges.map(|ranges| ranges.resolve(size))) {
            Ok(None) => 0,
            Err(TooManyRanges) => 1,
            Ok(Some(Err(refusal))) => {
                assert_eq!(refusal.content_range(), format!("bytes */{size}"), "run {run}");
                2
            }
            Ok(Some(Ok(mut ranges))) => {
                assert!(!ranges.is_empty() && ranges.len() <= MAX_RANGES, "run {run}: {text}");
                assert!(ranges.iter().all(|range| range.start < range.end && range.end <= size), "{text}");
                ranges.sort_by_key(|range| range.start);
                assert!(ranges.windows(2).all(|two| two[0].end <= two[1].start), "{text}");
                3
            }
        };
        counts[at] += 1;
    }
    assert!(counts.iter().all(|count| count * 500 > runs), "all outcomes are common: {counts:?}");
}
