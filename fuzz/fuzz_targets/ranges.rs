//! Any `Range` header is ignored, refused, or resolves to ranges within the content that do not overlap.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ocipfs_oci::{ByteRanges, range::MAX_RANGES};

fuzz_target!(|bytes: &[u8]| {
    let Some((size, text)) = bytes.split_first_chunk() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    // Small contents, too, which most ranges lie outside of.
    let size = u64::from_le_bytes(*size) >> (size[0] % 64);
    for header in [text.to_string(), format!("bytes={text}")] {
        let Ok(Some(ranges)) = ByteRanges::parse(&header) else { continue };
        match ranges.resolve(size) {
            Ok(mut ranges) => {
                assert!(!ranges.is_empty() && ranges.len() <= MAX_RANGES);
                assert!(ranges.iter().all(|range| range.start < range.end && range.end <= size));
                ranges.sort_by_key(|range| range.start);
                assert!(ranges.windows(2).all(|two| two[0].end <= two[1].start));
            }
            Err(refusal) => assert_eq!(refusal.content_range(), format!("bytes */{size}")),
        }
    }
});
