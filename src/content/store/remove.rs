use std::sync::PoisonError;

use ocipfs_node::Cid;

use super::{Error, Store, disk, files, tables::Tables};

impl Store {
    /// Removes the layout with this root, and with its last layout the blob; says whether it was stored.
    pub fn remove(&self, root: &Cid) -> Result<bool, Error> {
        let _placing = self.0.placing.write().unwrap_or_else(PoisonError::into_inner);
        let Some(stored) = self.file(root)? else { return Ok(false) };
        let sha256 = files::sha256(&stored.digest)?;
        let is_last = self.0.database.write(|write| {
            let mut tables = Tables::open(write)?;
            // Those of earlier calls are unlinked by now.
            tables.forget_doomed()?;
            tables.remove_file(stored.id, &stored.root, &sha256)
        })?;
        self.0.sources.forget(stored.id);
        if is_last {
            disk::unlink(&self.0.disk.blob(&sha256))?;
            disk::unlink(&self.0.disk.incoming(stored.id))?;
        }
        Ok(true)
    }
}

impl Tables<'_> {
    /// Forgets which blobs were to be unlinked.
    pub fn forget_doomed(&mut self) -> Result<(), Error> {
        Ok(self.doomed.retain(|_, ()| false)?)
    }
}
