//! Changes of a tree of directories, by path.

use std::collections::BTreeMap;

use crate::{chunked::Edited, document::Document, profile::Root};

/// Changes to a tree of directories, by path. A directory that becomes empty is removed.
#[derive(Clone, Debug, Default)]
pub struct Changes(pub(super) BTreeMap<String, EntryChange>);

/// Change of one entry.
#[derive(Clone, Debug)]
pub enum EntryChange {
    /// A file that is kept elsewhere.
    Set(Root),
    /// The entry is removed; its content is kept elsewhere.
    Unset,
    /// A file whose blocks belong to the tree.
    Write(Document),
    /// Edited version of such a file.
    Edit(Edited),
    /// That such a file goes.
    Erase,
    /// A directory, in which something changes.
    Within(Changes),
}

impl Changes {
    /// Names a file that is kept elsewhere; false where another change is in the way.
    pub fn set(&mut self, path: &str, file: Root) -> bool {
        self.insert(path, EntryChange::Set(file))
    }

    /// Removes an entry.
    pub fn unset(&mut self, path: &str) -> bool {
        self.insert(path, EntryChange::Unset)
    }

    /// Writes a file that belongs to the tree.
    pub fn write(&mut self, path: &str, document: Document) -> bool {
        self.insert(path, EntryChange::Write(document))
    }

    /// Puts a file in the place of the one that it was made of, which belongs to the tree.
    pub fn edit(&mut self, path: &str, edited: Edited) -> bool {
        self.insert(path, EntryChange::Edit(edited))
    }

    /// Removes a file that was written.
    pub fn erase(&mut self, path: &str) -> bool {
        self.insert(path, EntryChange::Erase)
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn insert(&mut self, path: &str, change: EntryChange) -> bool {
        match path.split_once('/') {
            None if self.0.contains_key(path) => false,
            None => self.0.insert(path.into(), change).is_none(),
            Some((directory, rest)) => {
                match self.0.entry(directory.into()).or_insert_with(|| EntryChange::Within(Self::default())) {
                    EntryChange::Within(within) => within.insert(rest, change),
                    _ => false,
                }
            }
        }
    }
}
