//! Random moments that can be had again: `OCIPFS_TEST_SEED` is what an earlier run printed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// SplitMix64.
pub struct Chance(u64);

impl Chance {
    /// Tells its seed, so that a run can be made again.
    pub fn new(story: &str) -> Self {
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64;
        let seed =
            std::env::var("OCIPFS_TEST_SEED").map_or_else(|_| now(), |text| text.parse().expect("a number"));
        eprintln!("{story}: OCIPFS_TEST_SEED={seed}");
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// A moment within a time.
    pub fn moment(&mut self, within: Duration) -> Duration {
        Duration::from_micros(self.below(within.as_micros().max(1) as u64))
    }

    /// Bytes that no other call gives.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend(self.next().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}
