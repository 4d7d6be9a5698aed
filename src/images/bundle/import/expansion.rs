//! How many bytes of files an import may write for the bytes that it reads.
//!
//! A bundle has each block once, which fills all of its places at once. Whole bundles expand little, unless their files repeat
//! themselves; a part of one may have a block that its files have in other parts, too.

use crate::images::bundle::Error;

/// Written without regard to what was read.
const FREE_BYTES: u64 = if cfg!(test) { 2 << 20 } else { 1 << 30 };

/// Bytes that were written, and the most that may be.
pub struct Expansion {
    /// The ratio; none for no limit.
    most: Option<u64>,
    /// The bytes of all files, where they are known.
    total: Option<u64>,
    written: u64,
}

impl Expansion {
    /// Begins an import of `total` bytes, or of an unknown number.
    pub fn new(most: Option<u64>, total: Option<u64>) -> Self {
        Self { most, total, written: 0 }
    }

    /// Counts bytes that are about to be written, after `read` bytes were read. Refuses them where they are too many.
    pub fn add(&mut self, bytes: u64, read: u64, what: &str) -> Result<(), Error> {
        let written = self.written.saturating_add(bytes);
        if let Some(most) = self.most
            && written
                > self.total.unwrap_or_default().max(read).saturating_mul(most).saturating_add(FREE_BYTES)
        {
            let why = format!(
                "its blocks expand to more than {most} times its size, since files have them in many places"
            );
            let hint = match self.total {
                Some(_) => {
                    "if you trust its origin, `--max-expansion` sets another limit; give all parts of a bundle at once"
                }
                None => {
                    "give the file by its name: of standard input the size is not known; or set another limit with `--max-expansion`"
                }
            };
            return Err(Error::Refused { what: what.into(), why, hint });
        }
        self.written = written;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn an_import_expands_to_a_multiple_of_its_size_at_most() {
        let mut expansion = Expansion::new(Some(32), Some(3 * MIB));
        assert!(expansion.add(FREE_BYTES, MIB, "a.car").is_ok());
        assert!(expansion.add(96 * MIB, MIB, "a.car").is_ok());
        let refused = expansion.add(1, MIB, "a.car").unwrap_err();
        assert!(refused.to_string().starts_with("a.car is not imported: its blocks expand"), "{refused}");
        // Of an input of unknown size that counts which was read.
        assert!(expansion.add(32 * MIB, 4 * MIB, "a.car").is_ok());
        let mut unlimited = Expansion::new(None, Some(1));
        assert!(unlimited.add(u64::MAX, 1, "a.car").is_ok() && unlimited.add(1, 1, "a.car").is_ok());
    }
}
