//! Checks whether bytes are plausibly a tar.

use super::Error;

const BLOCK: usize = 512;

/// Where a header keeps its checksum, which counts these bytes as spaces.
const CHECKSUM: std::ops::Range<usize> = 148..156;

/// Looks at the first header and at the length of a tar that passes by.
#[derive(Default)]
pub(super) struct TarCheck {
    first: Vec<u8>,
    /// Whether the first block is all zero: then the archive is empty and all of it has to be.
    blank: bool,
    length: u64,
}

impl TarCheck {
    pub(super) fn update(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.length += bytes.len() as u64;
        let missing = BLOCK - self.first.len();
        if missing > 0 && !bytes.is_empty() {
            self.first.extend_from_slice(&bytes[..missing.min(bytes.len())]);
            self.judge()?;
        }
        // A disk image starts with zeros too: ISO 9660 leaves its first 32 KiB free.
        match self.blank && bytes.iter().any(|byte| *byte != 0) {
            true => Err(Error::NotTar),
            false => Ok(()),
        }
    }

    /// Counts bytes of a tar whose first header was seen: none of what is looked for stands in them.
    pub(super) fn skip(&mut self, length: u64) -> bool {
        let is_judged = self.first.len() == BLOCK && !self.blank;
        self.length += if is_judged { length } else { 0 };
        is_judged
    }

    pub(super) fn finish(self) -> Result<(), Error> {
        match self.length {
            0..512 => Err(not_a_tar(&self.first)),
            length if length % BLOCK as u64 != 0 => Err(Error::PartialBlock(length)),
            _ => Ok(()),
        }
    }

    fn judge(&mut self) -> Result<(), Error> {
        if self.first.len() < BLOCK {
            return Ok(());
        }
        self.blank = self.first.iter().all(|byte| *byte == 0);
        match self.blank || has_checksum(&self.first) {
            true => Ok(()),
            false => Err(not_a_tar(&self.first)),
        }
    }
}

/// The error for bytes that start with no header.
fn not_a_tar(first: &[u8]) -> Error {
    match first {
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Error::Unsupported("xz"),
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Error::Unsupported("bzip2"),
        _ => Error::NotTar,
    }
}

/// All formats since v7 share this checksum, and no tool extracts a header where it is wrong.
fn has_checksum(header: &[u8]) -> bool {
    let Some(stated) = octal(&header[CHECKSUM]) else {
        return false;
    };
    let counted = |index| !CHECKSUM.contains(&index);
    let bytes = || header.iter().enumerate().filter(|(i, _)| counted(*i));
    let spaces = CHECKSUM.len() as i64 * i64::from(b' ');
    // Some old tools added the bytes as signed numbers, and readers still accept those.
    let unsigned: i64 = bytes().map(|(_, byte)| i64::from(*byte)).sum();
    let signed: i64 = bytes().map(|(_, byte)| i64::from(*byte as i8)).sum();
    stated == unsigned + spaces || stated == signed + spaces
}

/// Reads digits between spaces and zero bytes, which tools have placed in every way.
fn octal(field: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(field).ok()?;
    let digits = text.trim_matches([' ', '\0']);
    i64::from_str_radix(digits, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(bytes: &[u8]) -> Result<(), Error> {
        let mut check = TarCheck::default();
        // In odd pieces, as decoders give them.
        for piece in bytes.chunks(100) {
            check.update(piece)?;
        }
        check.finish()
    }

    fn header(mut header: tar::Header) -> Vec<u8> {
        header.set_path("file").unwrap();
        header.set_size(0);
        header.set_cksum();
        header.as_bytes().to_vec()
    }

    #[test]
    fn tar_headers_of_every_format_are_recognized() {
        for format in [tar::Header::new_gnu(), tar::Header::new_ustar(), tar::Header::new_old()] {
            assert!(judge(&header(format)).is_ok());
        }
    }

    #[test]
    fn an_empty_archive_of_zero_blocks_is_a_tar() {
        assert!(judge(&[0; 1024]).is_ok());
    }

    #[test]
    fn zeros_followed_by_other_bytes_are_not_a_tar() {
        let mut image = vec![0; 2048];
        image[1500] = 1;
        assert!(matches!(judge(&image), Err(Error::NotTar)));
    }

    #[test]
    fn a_tar_checksum_of_signed_bytes_is_accepted() {
        let mut block = header(tar::Header::new_old());
        block[10] = 0xff;
        let unsigned = octal(&block[CHECKSUM]).unwrap() + 0xff;
        for (sum, accepted) in [(unsigned, true), (unsigned - 256, true), (unsigned - 1, false)] {
            let field = format!("{sum:06o}\0 ");
            block[CHECKSUM].copy_from_slice(field.as_bytes());
            assert_eq!(judge(&block).is_ok(), accepted, "{sum}");
        }
    }

    #[test]
    fn other_bytes_are_not_a_tar() {
        for bytes in [&b"short"[..], &[b' '; 512], &[b'1'; 512], &[0xff; 1024]] {
            assert!(matches!(judge(bytes), Err(Error::NotTar)));
        }
    }

    #[test]
    fn a_tar_compressed_with_xz_or_bzip2_is_rejected_by_name() {
        for length in [100, 2000] {
            for (magic, name) in [(&b"\xfd7zXZ\0"[..], "xz"), (b"BZh9", "bzip2")] {
                let bytes = [magic, &vec![7; length]].concat();
                let error = judge(&bytes).unwrap_err();
                assert!(matches!(error, Error::Unsupported(found) if found == name), "{error}");
            }
        }
    }

    #[test]
    fn a_partial_tar_block_is_rejected() {
        let mut bytes = header(tar::Header::new_ustar());
        bytes.push(0);
        assert!(matches!(judge(&bytes), Err(Error::PartialBlock(513))));
    }
}
