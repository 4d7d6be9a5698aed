//! Damaged files and blocks get their right bytes back, which the caller has from elsewhere.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    os::unix::fs::FileExt,
    sync::PoisonError,
};

use ocipfs_node::Block;
use ocipfs_oci::Digest;
use redb::ReadableTable;

use super::{
    Error, Store, Stored, files,
    layout::Key,
    tables::{self, Hash, SMALL, Tables},
    verify::Damaged,
};

/// A damaged file that gets its right bytes back.
pub enum Mending {
    /// In its place.
    File(File),
    /// Anew, under an id, where nothing was left.
    Anew(u64, File),
    /// In the index.
    Small(Vec<u8>),
}

impl Store {
    /// Puts the right bytes of a block into the index, wherever it stands there.
    pub fn mend_block(&self, block: &Block) -> Result<(), Error> {
        let key = Key::of(&block.cid);
        self.0.database.write(|write| {
            let mut tables = Tables::open(write)?;
            let row = (None, &*block.data);
            let first = tables.blocks.get(key.bytes())?.map(|row| (row.value().0, row.value().1.0));
            if let Some((owner, None)) = first {
                tables.blocks.insert(key.bytes(), (owner, row))?;
            }
            let mut inline = Vec::new();
            for other in tables.shared.range((key.bytes(), 0)..=(key.bytes(), u64::MAX))? {
                let (other, place) = other?;
                if place.value().0.is_none() {
                    inline.push(other.value().1);
                }
            }
            inline.into_iter().try_for_each(|owner| {
                tables.shared.insert((key.bytes(), owner), row)?;
                Ok(())
            })
        })
    }

    /// Begins to mend a file.
    pub fn mend(&self, damaged: &Damaged) -> Result<Mending, Error> {
        let file = &damaged.file;
        let sha256 = files::sha256(&file.digest)?;
        let path = match damaged.is_stored {
            true => self.0.disk.blob(&sha256),
            false => self.0.disk.incoming(file.id),
        };
        let small = self.0.database.read(|read| tables::row(read, SMALL, &sha256, <[u8]>::to_vec))?;
        if let Some(mut small) = small {
            small.resize(file.size as usize, 0);
            return Ok(Mending::Small(small));
        }
        match File::options().read(true).write(true).open(&path) {
            Ok(opened) => {
                if damaged.is_stored {
                    opened.set_len(file.size).map_err(Error::at(&path))?;
                }
                Ok(Mending::File(opened))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let id = self.next_id();
                Ok(Mending::Anew(id, self.0.disk.create(id)?))
            }
            Err(error) => Err(Error::at(&path)(error)),
        }
    }

    /// Ends mending; whether the file is right now.
    pub fn mended(&self, damaged: &Damaged, mending: Mending) -> Result<bool, Error> {
        let file = &damaged.file;
        let sha256 = files::sha256(&file.digest)?;
        match mending {
            Mending::Small(bytes) => {
                if Digest::sha256_of(&bytes) != file.digest {
                    return Ok(false);
                }
                self.0.database.write(|write| {
                    let mut tables = Tables::open(write)?;
                    if tables.small.get(&sha256)?.is_some() {
                        tables.small.insert(&sha256, bytes.as_slice())?;
                    }
                    Ok(())
                })?;
            }
            Mending::File(opened) => opened.sync_all().map_err(Error::at(&self.0.disk.blob(&sha256)))?,
            Mending::Anew(id, opened) => self.place_anew(id, &opened, file, &sha256)?,
        }
        self.0.sources.forget(file.id);
        let still = match damaged.is_stored {
            true => self.verify_blob(file, &mut |_| ())?,
            false => self.verify_arriving(file, &mut |_| ())?,
        };
        Ok(still.is_none())
    }

    /// Puts a file that was written anew in its place, if it is the right one and still wanted.
    fn place_anew(&self, id: u64, opened: &File, file: &Stored, sha256: &Hash) -> Result<(), Error> {
        let path = self.0.disk.incoming(id);
        opened.sync_all().map_err(Error::at(&path))?;
        let source = self.open_at(&path)?;
        let digest = source.map(|source| self.hash(&source, file.size, &mut |_| ()));
        let _placing = self.0.placing.read().unwrap_or_else(PoisonError::into_inner);
        if matches!(digest, Some(Ok(digest)) if digest == file.digest) && self.file(&file.root)?.is_some() {
            return self.0.disk.place(id, sha256);
        }
        fs::remove_file(&path).map_err(Error::at(&path))
    }
}

impl Mending {
    /// Writes the data of a block where it belongs.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        match self {
            Self::File(file) | Self::Anew(_, file) => file.write_all_at(data, offset),
            Self::Small(bytes) => {
                let start = usize::try_from(offset).map_err(|_| ErrorKind::UnexpectedEof)?;
                let window = bytes.get_mut(start..start + data.len()).ok_or(ErrorKind::UnexpectedEof)?;
                window.copy_from_slice(data);
                Ok(())
            }
        }
    }
}
