//! The blocks of a large file, recorded in lots before the commit that stores it: no other writer waits long for it.
//!
//! Until that commit the file counts as removed: its blocks are not served, and after a crash they are swept.

use ocipfs_node::Cid;

use super::{
    BlobLayout, Error, Store,
    layout::{BlockKey, BlockPlace},
    lock,
    sweep::BATCH_SIZE,
    tables::Tables,
};

/// Bytes of inner nodes in one commit.
const LOT_BYTES: usize = 4 << 20;

/// A file whose blocks are being recorded: no sweep takes them while it lives.
pub struct Begun {
    store: Store,
    id: u64,
}

impl Drop for Begun {
    fn drop(&mut self) {
        lock(&self.store.0.begun).remove(&self.id);
    }
}

impl Store {
    /// Records the blocks of a layout, if they are too many for the commit that stores it.
    pub(super) fn begin_layout(&self, id: u64, layout: &BlobLayout) -> Result<Option<Begun>, Error> {
        let bytes: usize = layout.nodes.iter().map(|node| node.data.len()).sum();
        let is_small = layout.leaves.len() <= BATCH_SIZE && bytes <= LOT_BYTES;
        if is_small || self.file(&layout.root)?.is_some() {
            return Ok(None);
        }
        lock(&self.0.begun).insert(id);
        let begun = Begun { store: self.clone(), id };
        let mut lot = Vec::new();
        let mut bytes = 0;
        // Parents before their children, so that a sweep finds the way to all that is here.
        for node in layout.nodes.iter().rev() {
            bytes += node.data.len();
            lot.push((BlockKey::of(&node.cid), BlockPlace::Inline(node.data.clone())));
            if bytes >= LOT_BYTES {
                self.record(id, &layout.root, std::mem::take(&mut lot))?;
                bytes = 0;
            }
        }
        self.record(id, &layout.root, lot)?;
        for leaves in layout.leaves.chunks(BATCH_SIZE) {
            let places = leaves.iter().map(|leaf| (BlockKey::of(&leaf.cid), BlockPlace::window(leaf)));
            self.record(id, &layout.root, places.collect())?;
        }
        Ok(Some(begun))
    }

    fn record(&self, id: u64, root: &Cid, mut lot: Vec<(BlockKey, BlockPlace)>) -> Result<(), Error> {
        // In the order of the table: neighbours fall into one page.
        lot.sort_by(|(one, _), (other, _)| one.cmp(other));
        self.0.database.write(|write| {
            let mut tables = Tables::open(write)?;
            tables.removed.insert(id, root.to_bytes().as_slice())?;
            tables.used_ids(self.ids_used())?;
            lot.iter().try_for_each(|(key, place)| tables.own(key, id, place))
        })
    }
}
