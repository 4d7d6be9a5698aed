//! A damaged block of the index gets its right bytes back, which the caller has from elsewhere.

use ocipfs_node::Block;
use redb::ReadableTable;

use super::{Error, Store, layout::BlockKey, tables::Tables};

impl Store {
    /// Puts the right bytes of a block into the index, wherever it stands there.
    pub fn repair_block(&self, block: &Block) -> Result<(), Error> {
        let key = BlockKey::of(&block.cid);
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
}
