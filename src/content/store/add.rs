//! Storing blobs, layouts and blocks.

use std::sync::PoisonError;

use ocipfs_node::Block;
use ocipfs_oci::Digest;
use ocipfs_unixfs::inlined;
use redb::{ReadableTable, WriteTransaction};

use super::{
    BlobLayout, Error, Store, Stored, disk,
    files::{self, NewBlob, NewBlobRow},
    layout::BlockKey,
    tables::{self, Hash, STORED, Tables},
};

impl Store {
    /// Keeps blocks that belong to no file, whose bytes the caller has verified.
    pub fn put_blocks(&self, blocks: &[Block]) -> Result<(), Error> {
        // What only a link carries is stored with the node that has the link.
        let carried = blocks.iter().flat_map(|block| inlined(&block.cid, &block.data));
        let blocks: Vec<Block> = blocks.iter().cloned().chain(carried).collect();
        #[cfg(test)]
        self.work().puts.fetch_add(blocks.len() as u64, std::sync::atomic::Ordering::Relaxed);
        self.0.disk.check_space()?;
        self.check_quota(blocks.iter().map(|block| block.data.len() as u64).sum())?;
        self.guard_keys(blocks.iter().map(|block| BlockKey::of(&block.cid)));
        self.0.database.write_together(move |write| Tables::open(write)?.put_blocks(&blocks))
    }

    /// Adds another DAG over a stored blob.
    pub fn add_layout(&self, stored: &Stored, layout: &BlobLayout) -> Result<Stored, Error> {
        let sha256 = files::sha256(&stored.digest)?;
        let whole = NewBlobRow { sha256, size: stored.size, aliases: &[], small: None };
        self.0.disk.check_space()?;
        self.guard_layouts(std::slice::from_ref(layout));
        let id = self.next_id();
        let id = self.0.database.write(|write| {
            let mut tables = Tables::open(write)?;
            if tables.stored.get(&sha256)?.is_none() {
                return Err(Error::Gone(stored.digest.clone()));
            }
            tables.used_ids(self.ids_used())?;
            tables.add_layout(id, layout, &whole)
        })?;
        Ok(Stored { id, root: layout.root, ..stored.clone() })
    }

    /// Stores new blobs, whose files, if they have any, are `incoming/<draft>` and are synced, and `blocks` that
    /// belong to no file. `record` runs in the same commit, which others share: it may run twice.
    pub(super) fn add_blobs<T: Send + 'static>(
        &self,
        new_blobs: Vec<NewBlob>,
        blocks: Vec<Block>,
        mut record: impl FnMut(&WriteTransaction, &[Stored]) -> Result<T, Error> + Send + 'static,
    ) -> Result<(Vec<Stored>, T), Error> {
        new_blobs.iter().for_each(|new_blob| self.guard_layouts(&new_blob.layouts));
        self.guard_keys(blocks.iter().map(|block| BlockKey::of(&block.cid)));
        let places: Vec<_> =
            new_blobs.iter().map(|draft| (draft.id, draft.sha256, draft.small.is_some())).collect();
        let roots = self.partial_among(&new_blobs)?;
        let mut begun = Vec::new();
        for draft in &new_blobs {
            if let Some(layout) = draft.layouts.first() {
                begun.extend(self.begin_layout(draft.id, layout)?);
            }
        }
        let _moving = self.0.moving_files.read().unwrap_or_else(PoisonError::into_inner);
        let store = self.clone();
        // One commit for all callers that wait: `database.rs`.
        let added = self.0.database.write_together(move |write| {
            let stored = {
                let mut tables = Tables::open(write)?;
                let stored = new_blobs.iter().map(|new_blob| store.add_rows(&mut tables, new_blob));
                let stored = stored.collect::<Result<Vec<_>, Error>>()?;
                tables.put_blocks(&blocks)?;
                tables.used_ids(store.ids_used())?;
                stored
            };
            let value = record(write, &stored)?;
            Ok((stored, value))
        })?;
        places.iter().for_each(|(id, sha256, in_index)| self.move_into_place(*id, sha256, *in_index));
        for root in &roots {
            if let Err(error) = self.drop_copy(root) {
                tracing::warn!(%root, "partial download of a stored blob stays until the next start: {error}");
            }
        }
        Ok(added)
    }

    /// Does something in a commit in which the blob is still stored, and is known by these digests too.
    pub fn commit_while_stored<T: Send + 'static>(
        &self,
        stored: &Stored,
        aliases: &[Digest],
        record: impl FnMut(&WriteTransaction, &Stored) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.keep_stored_with(stored, aliases, None, record)
    }

    /// Does the same as [`Self::commit_while_stored`], and writes the bytes of a blob that is stored in the index.
    pub(super) fn keep_stored_with<T: Send + 'static>(
        &self,
        stored: &Stored,
        aliases: &[Digest],
        small: Option<Vec<u8>>,
        mut record: impl FnMut(&WriteTransaction, &Stored) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (stored, aliases) = (stored.clone(), aliases.to_vec());
        self.0.database.write_together(move |write| {
            update_if_stored(write, &stored, &aliases, small.as_deref())?;
            record(write, &stored)
        })
    }

    fn add_rows(&self, tables: &mut Tables, new_blob: &NewBlob) -> Result<Stored, Error> {
        let (first, others) = new_blob.layouts.split_first().ok_or(Error::NoLayout)?;
        let whole = new_blob.row();
        tables.add_blob(&whole)?;
        let id = tables.add_layout(new_blob.id, first, &whole)?;
        for layout in others {
            tables.add_layout(self.next_id(), layout, &whole)?;
        }
        files::stored(id, (&whole.sha256, whole.size, &first.root.to_bytes()))
    }

    /// Puts the file of a blob in its place, or away if the blob needs none. A file that is there already gives way: this
    /// one was hashed just now. What fails is done at the next opening.
    pub(super) fn move_into_place(&self, id: u64, sha256: &Hash, in_index: bool) {
        let disk = &self.0.disk;
        let settled = match in_index {
            true => disk::unlink(&disk.incoming(id)),
            false => disk.place(id, sha256).and_then(|()| self.forget_sources(sha256)),
        };
        match settled {
            Ok(()) => self.0.last_hashed.note(sha256),
            Err(error) => {
                tracing::warn!("cannot move a stored blob into place before the next start: {error}")
            }
        }
        self.0.sources.forget(id);
    }

    /// Closes the files of a blob that was written again.
    fn forget_sources(&self, sha256: &Hash) -> Result<(), Error> {
        let ids = self.0.database.read(|read| tables::row(read, STORED, sha256, |(_, ids, _)| ids))?;
        ids.unwrap_or_default().into_iter().for_each(|id| self.0.sources.forget(id));
        Ok(())
    }
}

/// Adds what else is known of a stored blob; fails if it is not stored any more.
pub(super) fn update_if_stored(
    write: &WriteTransaction,
    stored: &Stored,
    aliases: &[Digest],
    small: Option<&[u8]>,
) -> Result<(), Error> {
    let sha256 = files::sha256(&stored.digest)?;
    let mut tables = Tables::open(write)?;
    if tables.stored.get(&sha256)?.is_none() {
        return Err(Error::Gone(stored.digest.clone()));
    }
    tables.add_blob(&NewBlobRow { sha256, size: stored.size, aliases, small })?;
    tables.share_again(stored.id)
}
