//! The rounds of two sha256 over the same blocks, by the instructions that a processor has for them.

use sha2::block_api::compress256;

use super::BLOCK_BYTES;

type State = [u32; 8];
type Block = [u8; BLOCK_BYTES];

/// Returns whether the processor has the instructions.
#[cfg(target_arch = "x86_64")]
pub fn are_supported() -> bool {
    is_x86_feature_detected!("sha") && is_x86_feature_detected!("sse4.1") && is_x86_feature_detected!("ssse3")
}

/// Returns whether the processor has the instructions.
#[cfg(not(target_arch = "x86_64"))]
pub fn are_supported() -> bool {
    false
}

/// Adds the blocks to both hashes.
pub fn compress_both(one: &mut State, other: &mut State, blocks: &[Block]) {
    #[cfg(target_arch = "x86_64")]
    if are_supported() {
        // SAFETY: the processor has the instructions.
        return unsafe { x86::compress_both(one, other, blocks) };
    }
    compress256(one, blocks);
    compress256(other, blocks);
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_extract_epi32, _mm_set_epi32, _mm_set_epi64x,
        _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi8,
        _mm_shuffle_epi32,
    };

    use super::{Block, State};

    /// The constants of the rounds (FIPS 180-4, 4.2.2).
    const ROUND: [u32; 64] = [
        0x428a_2f98,
        0x7137_4491,
        0xb5c0_fbcf,
        0xe9b5_dba5,
        0x3956_c25b,
        0x59f1_11f1,
        0x923f_82a4,
        0xab1c_5ed5,
        0xd807_aa98,
        0x1283_5b01,
        0x2431_85be,
        0x550c_7dc3,
        0x72be_5d74,
        0x80de_b1fe,
        0x9bdc_06a7,
        0xc19b_f174,
        0xe49b_69c1,
        0xefbe_4786,
        0x0fc1_9dc6,
        0x240c_a1cc,
        0x2de9_2c6f,
        0x4a74_84aa,
        0x5cb0_a9dc,
        0x76f9_88da,
        0x983e_5152,
        0xa831_c66d,
        0xb003_27c8,
        0xbf59_7fc7,
        0xc6e0_0bf3,
        0xd5a7_9147,
        0x06ca_6351,
        0x1429_2967,
        0x27b7_0a85,
        0x2e1b_2138,
        0x4d2c_6dfc,
        0x5338_0d13,
        0x650a_7354,
        0x766a_0abb,
        0x81c2_c92e,
        0x9272_2c85,
        0xa2bf_e8a1,
        0xa81a_664b,
        0xc24b_8b70,
        0xc76c_51a3,
        0xd192_e819,
        0xd699_0624,
        0xf40e_3585,
        0x106a_a070,
        0x19a4_c116,
        0x1e37_6c08,
        0x2748_774c,
        0x34b0_bcb5,
        0x391c_0cb3,
        0x4ed8_aa4a,
        0x5b9c_ca4f,
        0x682e_6ff3,
        0x748f_82ee,
        0x78a5_636f,
        0x84c8_7814,
        0x8cc7_0208,
        0x90be_fffa,
        0xa450_6ceb,
        0xbef9_a3f7,
        0xc671_78f2,
    ];
    /// A state as the instructions take it: its words a, b, e, f and c, d, g, h, from the highest.
    type Halves = (__m128i, __m128i);

    #[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
    pub fn compress_both(one: &mut State, other: &mut State, blocks: &[Block]) {
        let mut both = [halves(one), halves(other)];
        for block in blocks {
            let before = both;
            let mut words = words(block);
            for (n, words) in words.iter().enumerate() {
                four_rounds(&mut both, *words, n);
            }
            for lap in 1..4 {
                for n in 0..4 {
                    words[n] = next_words(&words, n);
                    four_rounds(&mut both, words[n], 4 * lap + n);
                }
            }
            for (now, before) in both.iter_mut().zip(before) {
                *now = (_mm_add_epi32(now.0, before.0), _mm_add_epi32(now.1, before.1));
            }
        }
        (*one, *other) = (state(both[0]), state(both[1]));
    }

    #[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
    fn four_rounds(both: &mut [Halves; 2], words: __m128i, n: usize) {
        let [a, b, c, d] = [0, 1, 2, 3].map(|at| ROUND[4 * n + at] as i32);
        let first = _mm_add_epi32(words, _mm_set_epi32(d, c, b, a));
        let second = _mm_shuffle_epi32::<0x0e>(first);
        // One round of either, so that neither waits for the other.
        for (abef, cdgh) in both.iter_mut() {
            *cdgh = _mm_sha256rnds2_epu32(*cdgh, *abef, first);
        }
        for (abef, cdgh) in both {
            *abef = _mm_sha256rnds2_epu32(*abef, *cdgh, second);
        }
    }

    /// Returns the four words after the last sixteen, of which those at `n` are the oldest.
    #[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
    fn next_words(words: &[__m128i; 4], n: usize) -> __m128i {
        let [oldest, older, newer, newest] = [0, 1, 2, 3].map(|at| words[(n + at) % 4]);
        let begun = _mm_add_epi32(_mm_sha256msg1_epu32(oldest, older), _mm_alignr_epi8::<4>(newest, newer));
        _mm_sha256msg2_epu32(begun, newest)
    }

    /// Returns the sixteen words of a block.
    #[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
    fn words(block: &Block) -> [__m128i; 4] {
        let big_endian = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
        let (halves, _) = block.as_chunks::<8>();
        let half = |n: usize| i64::from_le_bytes(halves[n]);
        [0, 1, 2, 3].map(|n| _mm_shuffle_epi8(_mm_set_epi64x(half(2 * n + 1), half(2 * n)), big_endian))
    }

    #[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
    fn halves(state: &State) -> Halves {
        let [a, b, c, d, e, f, g, h] = state.map(|word| word as i32);
        (_mm_set_epi32(a, b, e, f), _mm_set_epi32(c, d, g, h))
    }

    #[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
    fn state((abef, cdgh): Halves) -> State {
        let [a, b, e, f] = words_of(abef);
        let [c, d, g, h] = words_of(cdgh);
        [a, b, c, d, e, f, g, h]
    }

    #[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
    fn words_of(half: __m128i) -> [u32; 4] {
        [
            _mm_extract_epi32::<3>(half),
            _mm_extract_epi32::<2>(half),
            _mm_extract_epi32::<1>(half),
            _mm_extract_epi32::<0>(half),
        ]
        .map(|word| word as u32)
    }
}
