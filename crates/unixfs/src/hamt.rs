//! The slots of names in a sharded directory (HAMT).

use std::io::Cursor;

use ocipfs_block::Cid;

/// Which link of a shard a name is behind.
#[derive(Debug, PartialEq, Eq)]
pub enum Slot {
    /// The entry itself.
    Entry(Cid),
    /// A deeper shard.
    Deeper(Cid),
    /// No such name.
    Empty,
}

/// The bits of a name's hash, most significant first: murmur3 x64, the first 64 of 128 bits.
pub struct Bits {
    hash: u64,
    left: u32,
}

impl Bits {
    /// Returns all bits of a name's hash.
    pub fn of(name: &str) -> Self {
        Self::after(name, 0)
    }

    /// Returns the bits of the name's hash that follow the first `taken`.
    pub fn after(name: &str, taken: u32) -> Self {
        // Reading from memory cannot fail; an empty hash would only find nothing.
        let hash = murmur3::murmur3_x64_128(&mut Cursor::new(name), 0).unwrap_or_default();
        Self { hash: hash as u64, left: u64::BITS.saturating_sub(taken) }
    }

    /// Whether none was taken.
    pub(crate) fn is_whole(&self) -> bool {
        self.left == u64::BITS
    }

    /// Takes the next `bits` bits, if so many are left.
    pub fn next(&mut self, bits: u32) -> Option<u64> {
        self.left = self.left.checked_sub(bits)?;
        Some((self.hash >> self.left) & ((1 << bits) - 1))
    }
}

/// Finds `name` among the links of a shard whose slot prefixes are `width` hex digits wide.
pub(crate) fn find(
    bits: &mut Bits,
    name: &str,
    width: usize,
    fanout_bits: u32,
    links: &[(String, Cid)],
) -> Slot {
    let Some(slot) = bits.next(fanout_bits) else { return Slot::Empty };
    let prefix = format!("{slot:0width$X}");
    for (link, target) in links {
        match link.strip_prefix(&prefix) {
            Some("") => return Slot::Deeper(*target),
            Some(entry) if entry == name => return Slot::Entry(*target),
            _ => {}
        }
    }
    Slot::Empty
}
