//! Rabin fingerprints over 16 bytes, by the polynomial that boxo fixed.

use std::sync::LazyLock;

/// The smallest minimum: a window.
pub const WINDOW_BYTES: usize = 16;
const POLYNOMIAL: u64 = 17_437_180_132_763_653;
const DEGREE: u32 = POLYNOMIAL.ilog2();

/// Where chunks end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RabinSizes {
    /// The shortest chunk, but for the last one.
    pub min: usize,
    /// The power of two that is about the average.
    pub average: usize,
    /// The longest chunk.
    pub max: usize,
}

impl RabinSizes {
    /// The sizes that follow from an average.
    pub const fn around(average: usize) -> Self {
        Self { min: average / 3, average, max: average + average / 2 }
    }
}

/// What a byte adds to a fingerprint.
struct Tables {
    /// A byte that leaves the window.
    out: [u64; 256],
    /// What is above the degree of the polynomial.
    modulo: [u64; 256],
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let mut tables = Tables { out: [0; 256], modulo: [0; 256] };
    for byte in 0..256u64 {
        let leaves = (1..WINDOW_BYTES).fold(reduce(byte), |hash, _| reduce(hash << 8));
        tables.out[byte as usize] = leaves;
        let above = byte << DEGREE;
        tables.modulo[byte as usize] = reduce(above) | above;
    }
    tables
});

/// The remainder of a division by the polynomial.
fn reduce(mut value: u64) -> u64 {
    while value >> DEGREE > 0 {
        value ^= POLYNOMIAL << (value.ilog2() - DEGREE);
    }
    value
}

/// The fingerprint of the last bytes of a chunk, as far as it was read.
#[derive(Debug)]
pub struct Rabin {
    sizes: RabinSizes,
    window: [u8; WINDOW_BYTES],
    at: usize,
    digest: u64,
    length: usize,
}

impl Rabin {
    /// Begins a chunk.
    pub fn new(sizes: RabinSizes) -> Self {
        // What is before the minimum, but for a window, has no influence.
        let length = sizes.min - WINDOW_BYTES;
        let mut rabin = Self { sizes, window: [0; WINDOW_BYTES], at: 0, digest: 0, length };
        rabin.slide(1);
        rabin
    }

    fn slide(&mut self, byte: u8) {
        let out = std::mem::replace(&mut self.window[self.at], byte);
        self.at = (self.at + 1) % WINDOW_BYTES;
        let digest = self.digest ^ TABLES.out[usize::from(out)];
        let above = (digest >> (DEGREE - 8)) as usize & 0xff;
        self.digest = ((digest << 8) | u64::from(byte)) ^ TABLES.modulo[above];
    }

    /// Reads on in a chunk, and returns its length if it ends in these bytes.
    pub fn end(&mut self, bytes: &[u8]) -> Option<usize> {
        let mask = (1u64 << self.sizes.average.ilog2()) - 1;
        for byte in bytes.get(self.length..).unwrap_or_default() {
            self.slide(*byte);
            self.length += 1;
            let is_end = self.digest & mask == 0 || self.length >= self.sizes.max;
            if is_end && self.length >= self.sizes.min {
                return Some(self.length);
            }
        }
        None
    }
}
