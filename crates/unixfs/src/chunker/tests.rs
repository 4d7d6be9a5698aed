use super::*;

fn input(length: usize) -> Vec<u8> {
    (0..length as u64).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}

fn random(length: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

fn lengths(chunker: Chunker, bytes: &[u8], piece: usize) -> Vec<usize> {
    let (mut chunks, mut lengths, mut all) = (Chunks::new(chunker), Vec::new(), Vec::new());
    let mut take = |chunk: &[u8]| {
        lengths.push(chunk.len());
        all.extend_from_slice(chunk);
    };
    bytes.chunks(piece).for_each(|piece| chunks.push(piece, &mut take));
    chunks.finish(take);
    assert!(all == bytes, "{chunker:?}, pieces of {piece}");
    lengths
}

#[test]
fn chunks_do_not_depend_on_the_pieces_that_the_bytes_come_in() {
    for bytes in [input(0), input(1), input(3_000_000), random(3_000_000)] {
        let rabin = Chunker::Rabin(RabinSizes { min: 100, average: 1000, max: 3000 });
        for chunker in [Chunker::default(), Chunker::Size(1), Chunker::Size(1000), Chunker::Buzhash, rabin] {
            let whole = lengths(chunker, &bytes, 1 << 20);
            for piece in [999, 100_000, 262_144, 3_000_000] {
                assert_eq!(lengths(chunker, &bytes, piece), whole, "{chunker:?}, pieces of {piece}");
            }
        }
    }
    assert_eq!(lengths(Chunker::Size(1000), &input(2500), 7), [1000, 1000, 500]);
    assert!(
        lengths(Chunker::Buzhash, &random(3_000_000), 1 << 20)
            .iter()
            .rev()
            .skip(1)
            .all(|length| { (128 << 10..=512 << 10).contains(length) })
    );
}

#[test]
fn a_chunker_is_parsed_and_its_size_is_bounded() {
    for (text, chunker) in [
        ("", Chunker::Size(262_144)),
        ("default", Chunker::Size(262_144)),
        ("size-1048576", Chunker::Size(1 << 20)),
        ("buzhash", Chunker::Buzhash),
        ("rabin", Chunker::Rabin(RabinSizes { min: 87_381, average: 262_144, max: 393_216 })),
        ("rabin-1000", Chunker::Rabin(RabinSizes { min: 333, average: 1000, max: 1500 })),
        ("rabin-16-100-200", Chunker::Rabin(RabinSizes { min: 16, average: 100, max: 200 })),
        ("rabin-min:16-avg:100-max:200", Chunker::Rabin(RabinSizes { min: 16, average: 100, max: 200 })),
    ] {
        assert_eq!(text.parse(), Ok(chunker), "{text}");
    }
    for text in [
        "size-0",
        "size-2097152",
        "size-x",
        "size-",
        "rabin-",
        "rabin-10",
        "rabin-1-2-3",
        "rabin-100-100-200",
        "rabin-100-200-200",
        "rabin-100-200-3000000",
        "rabin-18446744073709551615",
        "rabin-1-2",
        "nonsense",
    ] {
        assert!(text.parse::<Chunker>().unwrap_err().contains("chunk"), "{text}");
    }
}
