//! One entry of the archive: a ustar header, and PAX records before it for what does not fit.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;

use tar::{EntryType, Header};

use crate::images::pack::padding;

/// The permissions with the setuid, setgid and sticky bits, without the kind of file.
const MODE: u32 = 0o7777;

/// The largest size that eleven octal digits can say.
const SIZE_MAX: u64 = (1 << 33) - 1;

/// An extended attribute.
pub(super) struct Attribute {
    pub(super) name: OsString,
    pub(super) value: Vec<u8>,
}

/// Fields of a file's tar headers.
pub(super) struct TarEntry<'a> {
    name: &'a [u8],
    kind: EntryType,
    mode: u32,
    size: u64,
    link: &'a [u8],
    device: u64,
    attributes: Vec<Attribute>,
}

impl<'a> TarEntry<'a> {
    pub(super) fn new(name: &'a [u8], kind: EntryType, mode: u32) -> Self {
        Self { name, kind, mode, size: 0, link: &[], device: 0, attributes: Vec::new() }
    }

    pub(super) fn link(self, link: &'a [u8]) -> Self {
        Self { link, ..self }
    }

    pub(super) fn size(self, size: u64) -> Self {
        Self { size, ..self }
    }

    /// Takes the number of a device as the kernel packs it.
    pub(super) fn device(self, device: u64) -> Self {
        Self { device, ..self }
    }

    pub(super) fn attributes(self, attributes: Vec<Attribute>) -> Self {
        Self { attributes, ..self }
    }

    /// Writes the headers; the caller writes the content.
    pub(super) fn write(&self, epoch: u64, out: &mut impl Write) -> io::Result<()> {
        let header = self.header(epoch)?;
        let records = self.records();
        if !records.is_empty() {
            let size = records.len() as u64;
            out.write_all(extension(size).as_bytes())?;
            out.write_all(&records)?;
            out.write_all(padding(size))?;
        }
        out.write_all(header.as_bytes())
    }

    fn header(&self, epoch: u64) -> io::Result<Header> {
        let mut header = Header::new_ustar();
        fill(&mut header.as_old_mut().name, self.name);
        fill(&mut header.as_old_mut().linkname, self.link);
        header.set_entry_type(self.kind);
        header.set_mode(self.mode & MODE);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(epoch);
        header.set_size(self.size);
        let (major, minor) = split(self.device);
        header.set_device_major(major)?;
        header.set_device_minor(minor)?;
        header.set_cksum();
        Ok(header)
    }

    fn records(&self) -> Vec<u8> {
        let mut records = Vec::new();
        let old = Header::new_old();
        if self.name.len() > old.as_old().name.len() {
            record(&mut records, b"path", self.name);
        }
        if self.link.len() > old.as_old().linkname.len() {
            record(&mut records, b"linkpath", self.link);
        }
        if self.size > SIZE_MAX {
            record(&mut records, b"size", self.size.to_string().as_bytes());
        }
        for Attribute { name, value } in &self.attributes {
            let key = [b"SCHILY.xattr.", name.as_bytes()].concat();
            record(&mut records, &key, value);
        }
        records
    }
}

/// Copies what fits; a record says the rest.
fn fill(field: &mut [u8], value: &[u8]) {
    let length = value.len().min(field.len());
    field[..length].copy_from_slice(&value[..length]);
}

/// The header of a block of records: the same for every entry, so that it depends on no entry.
fn extension(size: u64) -> Header {
    let mut header = Header::new_ustar();
    fill(&mut header.as_old_mut().name, b"././@PaxHeader");
    header.set_entry_type(EntryType::XHeader);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    header
}

/// Appends `<length> <key>=<value>\n`, where the length counts its own digits too.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let others = key.len() + value.len() + b" =\n".len();
    let mut length = others;
    while length != others + length.to_string().len() {
        length = others + length.to_string().len();
    }
    records.extend_from_slice(format!("{length} ").as_bytes());
    for part in [key, b"=", value, b"\n"] {
        records.extend_from_slice(part);
    }
}

/// Splits the number of a device into major and minor, as glibc's `makedev` joins them.
fn split(device: u64) -> (u32, u32) {
    let major = (device >> 8) & 0xfff | (device >> 32) & 0xffff_f000;
    let minor = device & 0xff | (device >> 12) & 0xffff_ff00;
    (major as u32, minor as u32)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::images::pack::END;

    #[test]
    fn the_length_of_a_pax_record_includes_its_own_digits() {
        for (length, expected) in [(1, "6 k="), (4, "9 k="), (5, "11 k="), (6, "12 k=")] {
            let mut records = Vec::new();
            record(&mut records, b"k", &vec![b'v'; length]);
            assert!(records.starts_with(expected.as_bytes()), "{length}");
        }
        for length in 1..2000 {
            let mut records = Vec::new();
            record(&mut records, b"key", &vec![b'v'; length]);
            let stated = String::from_utf8(records.clone()).unwrap();
            let stated = stated.split_once(' ').unwrap().0;
            assert_eq!(stated, records.len().to_string());
        }
    }

    #[test]
    fn a_size_beyond_eleven_octal_digits_is_a_pax_record() {
        for (size, expected) in [(SIZE_MAX, ""), (SIZE_MAX + 1, "19 size=8589934592\n")] {
            let entry = TarEntry::new(b"huge", EntryType::Regular, 0o644).size(size);
            assert_eq!(entry.records(), expected.as_bytes());
            assert_eq!(entry.header(0).unwrap().size().unwrap(), size);
        }
    }

    #[test]
    fn names_up_to_a_hundred_bytes_have_no_pax_record() {
        for (length, extended) in [(99, false), (100, false), (101, true)] {
            let name = vec![b'n'; length];
            let link = vec![b'l'; length];
            let entry = TarEntry::new(&name, EntryType::Symlink, 0o777).link(&link);
            assert_eq!(!entry.records().is_empty(), extended, "{length}");

            let mut bytes = Vec::new();
            entry.write(0, &mut bytes).unwrap();
            let mut archive = tar::Archive::new(bytes.chain(&END[..]));
            let read = archive.entries().unwrap().next().unwrap().unwrap();
            assert_eq!(*read.path_bytes(), name);
            assert_eq!(*read.link_name_bytes().unwrap(), link);
        }
    }

    #[test]
    fn device_numbers_are_split_into_major_and_minor_like_glibc() {
        for (device, expected) in
            [(0x103, (1, 3)), (0x1111_0370, (259, 70_000)), (0xffff_ffff, (0xfff, 0xf_ffff))]
        {
            assert_eq!(split(device), expected);
        }
    }
}
