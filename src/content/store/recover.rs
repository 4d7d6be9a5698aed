//! Recovery after a crash: makes files and rows consistent before the store is used.

use std::{collections::BTreeMap, path::Path};

use ocipfs_node::Cid;
use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata};

use super::{
    Error, FORMAT, Store,
    database::Database,
    disk,
    layout::BlockKey,
    tables::{self, DOOMED, Hash, PARTIAL, ROOTS, Tables},
    upgrade::{OLDEST_FORMAT, format_of},
};

/// Refuses a directory of a newer format, or of one too old to be upgraded, before anything is changed in it.
pub fn check_format(dir: &Path) -> Result<(), Error> {
    let earlier = || Err(Error::Earlier(dir.into()));
    if dir.join("blocks").exists() {
        return earlier();
    }
    let path = dir.join("index.redb");
    if !path.exists() {
        return Ok(());
    }
    let (is_empty, format) = Database::open(&path)?.read(|read| {
        let is_empty = read.list_tables()?.next().is_none();
        Ok((is_empty, format_of(read)?))
    })?;
    match format {
        None if is_empty => Ok(()),
        Some(OLDEST_FORMAT..=FORMAT) => Ok(()),
        Some(format) if format > FORMAT => Err(Error::Newer { dir: dir.into(), format }),
        _ => earlier(),
    }
}

impl Store {
    pub(super) fn recover(&self) -> Result<(), Error> {
        self.drop_rows_without_files()?;
        self.settle_incoming()?;
        self.remove_doomed()?;
        self.sweep()
    }

    /// A row says that a file is being downloaded, and it is not there, or came in another way.
    fn drop_rows_without_files(&self) -> Result<(), Error> {
        let rows = self.0.database.read(partial_roots)?;
        let mut lost = BTreeMap::new();
        for (id, (root, is_current)) in rows {
            if !is_current || !self.0.disk.incoming(id).exists() {
                lost.insert(id, root);
            }
        }
        if lost.is_empty() {
            return Ok(());
        }
        self.0.database.write(|write| {
            let mut tables = Tables::open(write)?;
            lost.iter().try_for_each(|(id, root)| tables.remove_partial(*id, root))
        })
    }

    /// Moves what is stored to its place, keeps what is being downloaded, and removes what no row names.
    fn settle_incoming(&self) -> Result<(), Error> {
        let uploads = self.upload_files()?;
        for id in self.0.disk.all_incoming()? {
            match self.file_row(id)? {
                Some((sha256, ..)) if !self.0.disk.blob(&sha256).exists() && !self.is_small(&sha256)? => {
                    self.0.disk.place(id, &sha256)?;
                }
                None if uploads.contains(&id) || self.is_partial(id)? => {}
                _ => disk::unlink(&self.0.disk.incoming(id))?,
            }
        }
        Ok(())
    }

    /// Unlinks blobs whose rows are gone, unless they came again.
    fn remove_doomed(&self) -> Result<(), Error> {
        let doomed = self.0.database.read(|read| {
            let rows = read.open_table(DOOMED)?;
            if rows.is_empty()? {
                return Ok(Vec::new());
            }
            rows.iter()?.map(|row| Ok(*row?.0.value())).collect::<Result<Vec<Hash>, Error>>()
        })?;
        if doomed.is_empty() {
            return Ok(());
        }
        self.unlink_blobs(doomed.into_iter().collect())?;
        let done = self.0.database.write(|write| self.forget_doomed(&mut Tables::open(write)?))?;
        self.forgot_doomed(&done);
        Ok(())
    }

    pub(super) fn is_partial(&self, id: u64) -> Result<bool, Error> {
        Ok(self.0.database.read(|read| tables::row(read, PARTIAL, id, |_| ()))?.is_some())
    }

    fn is_small(&self, sha256: &Hash) -> Result<bool, Error> {
        Ok(self.0.database.read(|read| tables::row(read, tables::SMALL, sha256, |_| ()))?.is_some())
    }
}

/// The partial files, each with its root and whether the root still leads to it.
fn partial_roots(read: &ReadTransaction) -> Result<BTreeMap<u64, (Cid, bool)>, Error> {
    let mut all = BTreeMap::new();
    for row in read.open_table(PARTIAL)?.iter()? {
        let (id, row) = row?;
        let root = Cid::try_from(row.value().0).map_err(|e| Error::Damaged(e.to_string()))?;
        let leads_to = tables::row(read, ROOTS, BlockKey::of(&root).bytes(), |id| id)?;
        all.insert(id.value(), (root, leads_to == Some(id.value())));
    }
    Ok(all)
}
