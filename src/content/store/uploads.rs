//! Uploads that were saved: they outlive the process.

use std::collections::HashSet;

use redb::{ReadableTable, WriteTransaction};

use super::{
    Error, Store, disk,
    tables::{self, Tables, UPLOADS},
};

/// The saved part of an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedUpload {
    /// Its id.
    pub id: String,
    /// Its owner.
    pub owner: String,
    /// The id of its file.
    pub file: u64,
    /// When it was saved, in seconds since 1970.
    pub at: u64,
    /// How many bytes.
    pub length: u64,
}

/// Forgets an upload in the transaction that stores it, or drops it.
pub fn forget_upload(write: &WriteTransaction, id: &str) -> Result<(), Error> {
    write.open_table(UPLOADS)?.remove(id)?;
    Ok(())
}

impl Store {
    /// Records an upload, whose bytes are synced.
    pub fn save_upload(&self, saved: SavedUpload) -> Result<(), Error> {
        let store = self.clone();
        self.0.database.write_together(move |write| {
            let mut tables = Tables::open(write)?;
            let row = (saved.owner.as_str(), saved.file, saved.at, saved.length);
            tables.uploads.insert(saved.id.as_str(), row)?;
            tables.used_ids(store.ids_used())
        })
    }

    /// The saved part of an upload.
    pub fn saved_upload(&self, id: &str) -> Result<Option<SavedUpload>, Error> {
        let saved = |(owner, file, at, length): (&str, u64, u64, u64)| SavedUpload {
            id: id.into(),
            owner: owner.into(),
            file,
            at,
            length,
        };
        self.0.database.read(|read| tables::row(read, UPLOADS, id, saved))
    }

    /// All that are saved.
    pub fn saved_uploads(&self) -> Result<Vec<SavedUpload>, Error> {
        self.0.database.read(|read| {
            let mut all = Vec::new();
            for row in read.open_table(UPLOADS)?.iter()? {
                let (id, row) = row?;
                let (owner, file, at, length) = row.value();
                all.push(SavedUpload { id: id.value().into(), owner: owner.into(), file, at, length });
            }
            Ok(all)
        })
    }

    /// Drops the saved part of an upload.
    pub fn drop_upload(&self, saved: &SavedUpload) -> Result<(), Error> {
        let id = saved.id.clone();
        self.0.database.write_together(move |write| forget_upload(write, &id))?;
        self.uncount_saved(saved.length);
        disk::unlink(&self.0.disk.incoming(saved.file))
    }

    /// The files of the uploads; rows whose files are not there are dropped.
    pub(super) fn upload_files(&self) -> Result<HashSet<u64>, Error> {
        let mut files = HashSet::new();
        for saved in self.saved_uploads()? {
            match self.0.disk.incoming(saved.file).exists() {
                true => drop(files.insert(saved.file)),
                false => self.drop_upload(&saved)?,
            }
        }
        Ok(files)
    }
}
