//! The entries of a tar with their headers as they stand in it, and what these say.

use std::{
    collections::BTreeMap,
    io::{self, Read},
};

use tar::{EntryType, Header};

use super::{
    Error, header,
    toc::{Bytes64, TocEntry, modtime},
};
use crate::images::pack::{BLOCK, padding};

/// All headers of one entry.
const MAX_HEADERS: usize = 1 << 20;
const XATTR: &str = "SCHILY.xattr.";

/// An entry of a tar.
pub struct RawEntry {
    /// Its headers, with the long names and the records before the last one.
    pub headers: Vec<u8>,
    /// Its path without what does not matter.
    pub path: String,
    /// What the table of contents says of it.
    pub toc: TocEntry,
    /// The bytes of a file.
    pub size: u64,
}

impl RawEntry {
    /// A file that belongs to the format.
    pub fn file(name: &str, size: u64) -> Self {
        let header = header(name, size);
        let toc = TocEntry { name: name.into(), kind: "reg", size, mode: 0o444, ..TocEntry::default() };
        Self { headers: header.as_bytes().to_vec(), path: name.into(), toc, size }
    }
}

/// What stands before the header of an entry and goes before it.
#[derive(Default)]
struct Extended {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    records: BTreeMap<String, Vec<u8>>,
}

/// Reads a tar from its start to its end.
pub struct TarReader<R> {
    input: R,
    /// Bytes of the current entry that were not read, and those after them.
    left: u64,
    padding: u64,
    has_ended: bool,
}

impl<R: Read> TarReader<R> {
    /// Begins at the first entry.
    pub fn new(input: R) -> Self {
        Self { input, left: 0, padding: 0, has_ended: false }
    }

    /// Takes the input for the bytes of an entry.
    pub fn payload(&mut self, size: u64) -> &mut Self {
        self.left = size;
        self
    }

    /// Reads the next `length` bytes of the entry.
    pub fn read(&mut self, length: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::with_capacity(length as usize + 4 * BLOCK);
        self.input.by_ref().take(length).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != length || length > self.left {
            return Err(truncated());
        }
        self.left -= length;
        Ok(bytes)
    }

    /// Returns the next entry; none at the end of the tar, up to which all of the input is read.
    pub fn next(&mut self) -> Result<Option<RawEntry>, Error> {
        self.skip(self.left + self.padding)?;
        (self.left, self.padding) = (0, 0);
        let (mut headers, mut extended) = (Vec::new(), Extended::default());
        loop {
            let Some(block) = self.header()? else { return Ok(None) };
            let header = Header::from_byte_slice(&block);
            headers.extend_from_slice(&block);
            let kind = header.entry_type();
            let is_extension = kind.is_gnu_longname()
                || kind.is_gnu_longlink()
                || kind.is_pax_local_extensions()
                || kind.is_pax_global_extensions();
            if !is_extension {
                return self.entry(header, headers, extended).map(Some);
            }
            let size = header.entry_size().map_err(invalid_size)?;
            if headers.len() as u64 + size > MAX_HEADERS as u64 {
                return Err(Error::Unsupported("the header of an entry is too large".into()));
            }
            let start = headers.len();
            self.left = size + padding(size).len() as u64;
            headers.extend(self.read(self.left)?);
            extended.add(kind, &headers[start..start + size as usize])?;
        }
    }

    fn entry(&mut self, header: &Header, headers: Vec<u8>, extended: Extended) -> Result<RawEntry, Error> {
        let described = Described { header, extended };
        let (toc, size) = described.entry()?;
        // Of other kinds than files the size means nothing.
        (self.left, self.padding) = (size, padding(size).len() as u64);
        Ok(RawEntry { headers, path: clean(&toc.name), toc, size })
    }

    /// The next header; none at the end.
    fn header(&mut self) -> Result<Option<[u8; BLOCK]>, Error> {
        let mut block = [0; BLOCK];
        let mut length = 0;
        while length < BLOCK && !self.has_ended {
            match self.input.read(&mut block[length..]) {
                Ok(0) if length == 0 => self.has_ended = true,
                Ok(0) => return Err(truncated()),
                Ok(read) => length += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        if self.has_ended || block == [0; BLOCK] {
            self.has_ended = true;
            io::copy(&mut self.input, &mut io::sink())?;
            return Ok(None);
        }
        let mut summed = *Header::from_byte_slice(&block).as_bytes();
        summed[148..156].fill(b' ');
        let sum: u32 = summed.iter().map(|byte| u32::from(*byte)).sum();
        match Header::from_byte_slice(&block).cksum() {
            Ok(stated) if stated == sum => Ok(Some(block)),
            _ => Err(Error::Unsupported("it is not a tar: a header has a wrong checksum".into())),
        }
    }

    fn skip(&mut self, length: u64) -> Result<(), Error> {
        match io::copy(&mut self.input.by_ref().take(length), &mut io::sink())? {
            skipped if skipped == length => Ok(()),
            _ => Err(truncated()),
        }
    }
}

fn invalid_size(error: io::Error) -> Error {
    Error::Unsupported(format!("a header of its tar has an invalid size: {error}"))
}

fn truncated() -> Error {
    Error::Unsupported("its tar ends early".into())
}

impl Extended {
    fn add(&mut self, kind: EntryType, bytes: &[u8]) -> Result<(), Error> {
        let text = || bytes.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
        if kind.is_gnu_longname() {
            self.name = Some(text());
        } else if kind.is_gnu_longlink() {
            self.link = Some(text());
        } else {
            let is_global = kind.is_pax_global_extensions();
            records(bytes, |key, value| match key {
                "comment" => Ok(()),
                _ if is_global => Err(Error::Unsupported(format!("it has a global header with {key:?}"))),
                _ if key.starts_with("GNU.sparse.") => Err(Error::Unsupported("it has a sparse file".into())),
                _ => {
                    self.records.insert(key.into(), value.to_vec());
                    Ok(())
                }
            })?;
        }
        Ok(())
    }
}

/// Passes each record `<length> <key>=<value>\n`.
fn records(mut bytes: &[u8], mut each: impl FnMut(&str, &[u8]) -> Result<(), Error>) -> Result<(), Error> {
    let invalid = || Error::Unsupported("a header of its tar has invalid records".into());
    while !bytes.is_empty() && bytes[0] != 0 {
        let space = bytes.iter().position(|byte| *byte == b' ').ok_or_else(invalid)?;
        let length = std::str::from_utf8(&bytes[..space]).ok().and_then(|text| text.parse::<usize>().ok());
        let length =
            length.filter(|length| (space + 2..=bytes.len()).contains(length)).ok_or_else(invalid)?;
        let (record, rest) = bytes.split_at(length);
        let record = record[space + 1..].strip_suffix(b"\n").ok_or_else(invalid)?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(invalid)?;
        each(&text(&record[..equals])?, &record[equals + 1..])?;
        bytes = rest;
    }
    Ok(())
}

/// A header, and what stands before it.
struct Described<'a> {
    header: &'a Header,
    extended: Extended,
}

impl Described<'_> {
    fn entry(mut self) -> Result<(TocEntry, u64), Error> {
        let header = self.header;
        let name = self.value("path", |extended| extended.name.take());
        let name = text(&name.unwrap_or_else(|| header.path_bytes().into_owned()))?;
        let kind = self.kind(&name)?;
        let has_link = matches!(kind, "symlink" | "hardlink");
        let link = self.value("linkpath", |extended| extended.link.take());
        let link = link.or_else(|| header.link_name_bytes().map(|link| link.into_owned()));
        let size = if kind == "reg" { self.size()? } else { 0 };
        let has_device = matches!(kind, "char" | "block");
        let device = |number: io::Result<Option<u32>>| number.ok().flatten().filter(|_| has_device);
        let user = self.record("uname").or_else(|| header.username_bytes().map(Vec::from));
        let group = self.record("gname").or_else(|| header.groupname_bytes().map(Vec::from));
        let owner = |id: io::Result<u64>| id.unwrap_or_default();
        let (uid, gid) = (self.number("uid", owner(header.uid()))?, self.number("gid", owner(header.gid()))?);
        let modtime = self.modtime();
        let xattrs = std::mem::take(&mut self.extended.records).into_iter();
        let xattrs =
            xattrs.filter_map(|(key, value)| Some((key.strip_prefix(XATTR)?.to_owned(), Bytes64(value))));
        let xattrs: BTreeMap<_, _> = xattrs.collect();
        let toc = TocEntry {
            kind,
            size,
            modtime,
            link_name: if has_link { text(&link.unwrap_or_default())? } else { String::new() },
            mode: header.mode().unwrap_or_default(),
            uid,
            gid,
            user_name: String::from_utf8_lossy(&user.unwrap_or_default()).into_owned(),
            group_name: String::from_utf8_lossy(&group.unwrap_or_default()).into_owned(),
            dev_major: device(header.device_major()).unwrap_or_default(),
            dev_minor: device(header.device_minor()).unwrap_or_default(),
            xattrs,
            name,
            ..TocEntry::default()
        };
        Ok((toc, size))
    }

    fn kind(&self, name: &str) -> Result<&'static str, Error> {
        Ok(match self.header.entry_type() {
            // Before POSIX a directory was a file whose name ends so.
            EntryType::Regular if name.ends_with('/') => "dir",
            EntryType::Regular => "reg",
            EntryType::Directory => "dir",
            EntryType::Symlink => "symlink",
            EntryType::Link => "hardlink",
            EntryType::Char => "char",
            EntryType::Block => "block",
            EntryType::Fifo => "fifo",
            other => {
                let kind = char::from(other.as_byte());
                return Err(Error::Unsupported(format!("{name:?} is of the unsupported kind {kind:?}")));
            }
        })
    }

    fn record(&self, key: &str) -> Option<Vec<u8>> {
        self.extended.records.get(key).cloned()
    }

    /// A record, or the long name of another kind.
    fn value(&mut self, key: &str, other: impl FnOnce(&mut Extended) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
        self.record(key).or_else(|| other(&mut self.extended))
    }

    fn size(&self) -> Result<u64, Error> {
        match self.record("size") {
            Some(_) => self.number("size", 0),
            None => self.header.entry_size().map_err(invalid_size),
        }
    }

    fn number(&self, key: &str, stated: u64) -> Result<u64, Error> {
        match self.record(key) {
            Some(value) => text(&value)?
                .parse()
                .map_err(|_| Error::Unsupported(format!("a header of its tar has an invalid {key}"))),
            None => Ok(stated),
        }
    }

    /// When it was changed, to the nearest second.
    fn modtime(&self) -> Option<String> {
        let Some(value) = self.record("mtime") else { return modtime(self.header.mtime().ok()?) };
        let value = String::from_utf8(value).ok()?;
        let (seconds, fraction) = value.split_once('.').unwrap_or((&value, ""));
        let rounds_up = fraction.starts_with(['5', '6', '7', '8', '9']);
        modtime(seconds.parse::<u64>().ok()?.checked_add(rounds_up.into())?)
    }
}

fn text(bytes: &[u8]) -> Result<String, Error> {
    let invalid = |_| {
        let name = String::from_utf8_lossy(bytes);
        Error::Unsupported(format!("the name {name:?} is not UTF-8, which a table of contents must be"))
    };
    std::str::from_utf8(bytes).map(Into::into).map_err(invalid)
}

/// A path as the root of a container sees it.
pub fn clean(name: &str) -> String {
    let mut names = Vec::new();
    for name in name.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    names.join("/")
}
