//! Result of a mark phase, in an unnamed temporary file: its memory does not grow with the store.

use std::{fs::File, io, os::unix::fs::FileExt};

use ocipfs_node::Cid;
use redb::{Database, Durability, ReadableDatabase, ReadableTable, StorageBackend, Table, TableDefinition};

use crate::content::{
    store::index::RetentionClass,
    store::{
        Error, Store,
        graph::{BlockKey, Graph},
    },
};

/// Memory for the pages of the file.
const CACHE_BYTES: usize = if cfg!(test) { 256 << 10 } else { 4 << 20 };

/// Block -> why it is retained, as the bits of a class.
const MARKS: TableDefinition<&[u8], u8> = TableDefinition::new("marks");
/// Whether it is followed, whether something holds it, when it was used, file id -> its bytes, whether it is whole. What
/// is unreferenced goes first.
const EVICTABLE: TableDefinition<(bool, bool, u64, u64), (u64, bool)> = TableDefinition::new("evictable");
/// Unreferenced block that belongs to no file -> its length.
const LOOSE: TableDefinition<&[u8], u64> = TableDefinition::new("loose");

/// A blob, or part of a file, that may be evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evictable {
    /// The id of its first layout.
    pub id: u64,
    /// The bytes that are here.
    pub bytes: u64,
    /// When it was read last.
    pub used: u64,
    /// Whether it is content of a followed name: that is evicted last.
    pub is_followed: bool,
    /// Whether anything holds it.
    pub is_retained: bool,
    /// Whether it is here whole.
    pub is_stored: bool,
}

/// The tables of a mark phase.
pub struct Marks(Database);

/// The tables while they are written.
pub struct Marking<'t> {
    marks: Table<'t, &'static [u8], u8>,
    evictable: Table<'t, (bool, bool, u64, u64), (u64, bool)>,
    loose: Table<'t, &'static [u8], u64>,
    /// How many blocks were marked; one that is marked for another reason counts again.
    pub visited: u64,
}

impl Marks {
    /// Fills the tables of a new mark phase.
    pub fn fill(store: &Store, with: impl FnOnce(&mut Marking) -> Result<(), Error>) -> Result<Self, Error> {
        let file = Scratch(store.scratch_file()?);
        let database = Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(file)?;
        let mut write = database.begin_write()?;
        write.set_durability(Durability::None).map_err(redb::Error::from)?;
        with(&mut Marking {
            marks: write.open_table(MARKS)?,
            evictable: write.open_table(EVICTABLE)?,
            loose: write.open_table(LOOSE)?,
            visited: 0,
        })?;
        write.commit()?;
        Ok(Self(database))
    }

    /// Why a block is retained.
    pub fn class(&self, cid: &Cid) -> Result<RetentionClass, Error> {
        let marks = self.0.begin_read()?.open_table(MARKS)?;
        let bits = marks.get(BlockKey::of(cid).bytes())?.map(|row| row.value());
        Ok(RetentionClass::from_bits(bits.unwrap_or_default()))
    }

    /// Tells what may be evicted, in the order in which it goes, until `each` has enough.
    pub fn for_each_evictable(
        &self,
        mut each: impl FnMut(Evictable) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        for row in self.0.begin_read()?.open_table(EVICTABLE)?.iter()? {
            let (key, row) = row?;
            let (is_followed, is_retained, used, id) = key.value();
            let (bytes, is_stored) = row.value();
            if !each(Evictable { id, bytes, used, is_followed, is_retained, is_stored })? {
                break;
            }
        }
        Ok(())
    }

    /// Tells the unreferenced blocks that belong to no file, in lots, each with its length.
    pub fn for_each_loose(
        &self,
        lot: usize,
        mut each: impl FnMut(Vec<(Cid, u64)>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut blocks = Vec::new();
        for row in self.0.begin_read()?.open_table(LOOSE)?.iter()? {
            let (key, bytes) = row?;
            blocks.push((BlockKey::from_row(key.value()).cid()?, bytes.value()));
            if blocks.len() == lot {
                each(std::mem::take(&mut blocks))?;
            }
        }
        if blocks.is_empty() { Ok(()) } else { each(blocks) }
    }
}

impl Marking<'_> {
    /// Marks what `root` leads to, as far as it is here.
    pub fn mark(&mut self, graph: &Graph, root: Cid, class: RetentionClass) -> Result<(), Error> {
        let mut waiting = vec![root];
        while let Some(cid) = waiting.pop() {
            let key = BlockKey::of(&cid);
            let before = self.class(&key)?;
            if !before.covers(class) {
                self.marks.insert(key.bytes(), before.and(class).bits())?;
                self.visited += 1;
                graph.push_children(&cid, &key, &mut waiting)?;
            }
        }
        Ok(())
    }

    /// Why a block is retained, as far as is marked.
    pub fn class(&self, key: &BlockKey) -> Result<RetentionClass, Error> {
        Ok(RetentionClass::from_bits(self.marks.get(key.bytes())?.map_or(0, |row| row.value())))
    }

    /// Records what may be evicted.
    pub fn add_evictable(&mut self, item: Evictable) -> Result<(), Error> {
        let Evictable { id, bytes, used, is_followed, is_retained, is_stored } = item;
        self.evictable.insert((is_followed, is_retained, used, id), (bytes, is_stored))?;
        Ok(())
    }

    /// Records an unreferenced block that belongs to no file.
    pub fn add_loose(&mut self, key: &BlockKey, bytes: u64) -> Result<(), Error> {
        self.loose.insert(key.bytes(), bytes)?;
        Ok(())
    }
}

/// A file that is gone after a crash anyway, so that it need not be synced.
#[derive(Debug)]
struct Scratch(File);

impl StorageBackend for Scratch {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }
}
