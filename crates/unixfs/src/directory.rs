//! Directories as Kubo writes them: one block, or sharded where that would pass 256 KiB. A tree of them is changed by
//! reading and writing the nodes on the way to what changes.

mod changes;
mod editor;
mod shard;
mod size;

use bytes::Bytes;
use ocipfs_block::{Block, Cid};

use super::{
    dag_options::DagOptions,
    data,
    document::Document,
    profile::{Profile, Root},
};
use crate::Error;
pub use changes::Changes;
use editor::DirectoryEditor;
pub use size::Entries;

/// A tree after a change, and the nodes that make the difference: each once for every place in the tree.
#[derive(Debug)]
pub struct Changed {
    /// The directory at the top.
    pub root: Root,
    /// Nodes that were not at their places before.
    pub added: Vec<Block>,
    /// Nodes that were removed from their places.
    pub removed: Vec<Cid>,
}

impl Profile {
    /// Changes the tree below `before`, or an empty one; `read` returns blocks of the tree as it was.
    ///
    /// # Errors
    /// Fails if `read` does, or if a block of the tree is invalid.
    pub fn change<E: From<Error>>(
        self,
        before: Option<Root>,
        changes: &Changes,
        read: &dyn Fn(&Cid) -> Result<Bytes, E>,
    ) -> Result<Changed, E> {
        let mut editor = DirectoryEditor::new(self.options(), read);
        let root = match editor.change_directory(before, changes)? {
            Some(root) => root,
            None => {
                let (root, block) = self.options().directory_node(Vec::new(), data::directory_data());
                editor.make(block);
                root
            }
        };
        Ok(Changed { root, added: editor.added, removed: editor.removed })
    }
}

impl DagOptions {
    /// Returns a directory of these entries: in one block, or sharded.
    pub fn directory_of(self, entries: Entries) -> Document {
        let missing = |cid: &Cid| Err::<Bytes, Error>(Error::Missing(*cid));
        let mut editor = DirectoryEditor::new(self, &missing);
        let root = editor.put_directory(entries);
        let (root, blocks) = self.finish(root, editor.added);
        Document { root, blocks }
    }
}

impl Changes {
    /// Returns the tree of what is set and written, on its own.
    ///
    /// # Errors
    /// Fails if an edit or a removal names a file of another tree.
    pub fn document(&self, profile: Profile) -> Result<Document, Error> {
        let missing = |cid: &Cid| Err(Error::Missing(*cid));
        let Changed { root, added: blocks, .. } = profile.change(None, self, &missing)?;
        Ok(Document { root, blocks })
    }
}

/// Returns the names in a directory of a tree, sorted; none if the path leads nowhere.
pub fn entry_names<E: From<Error>>(
    root: Cid,
    path: &str,
    read: &dyn Fn(&Cid) -> Result<Bytes, E>,
) -> Result<Vec<String>, E> {
    let Some(at) = lookup(root, path, read)? else { return Ok(Vec::new()) };
    let editor = DirectoryEditor::new(Profile::default().options(), read);
    Ok(editor.entries(&at)?.into_keys().collect())
}

/// Returns the CID that a path leads to in a tree, if it leads anywhere.
pub fn lookup<E: From<Error>>(
    root: Cid,
    path: &str,
    read: &dyn Fn(&Cid) -> Result<Bytes, E>,
) -> Result<Option<Cid>, E> {
    let editor = DirectoryEditor::new(Profile::default().options(), read);
    let mut at = root;
    for name in path.split('/').filter(|name| !name.is_empty()) {
        let Some(root) = editor.entry_of(at, name)? else { return Ok(None) };
        at = root.cid;
    }
    Ok(Some(at))
}
