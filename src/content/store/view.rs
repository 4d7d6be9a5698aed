//! Who sees what was pushed: content of a repository is for those who may pull from it, by whatever name they ask.
//!
//! What came from peers, what commands added and blocks of no file are for all. A pushed file is for those who see a
//! repository that holds its root; one that no repository holds any more, for those who see everything.

use std::{collections::HashSet, sync::Arc};

use ocipfs_node::{Cid, as_v1};
use ocipfs_oci::Digest;
use redb::{ReadTransaction, TableError};

use super::{
    Error, Origin, Store,
    blocks::{FORMER_OWNER, NO_OWNER},
    files::sha256,
    index,
    layout::BlockKey,
    origin::noted,
    sweep::is_removed,
    tables::{ALIASES, BLOCKS, FILES, HIDES_REPOSITORIES, META, PARTIAL, ROOTS, SHARED, STORED, number, row},
    trees::TREE,
};

/// One who reads content by its CID or its digest.
pub trait Viewer: Send + Sync {
    /// Whether it may pull from a repository.
    fn sees(&self, repository: &str) -> bool;
}

/// What all may read, peers too.
pub trait Readers: Send + Sync {
    /// Whether all may pull from a repository.
    fn all_see(&self, repository: &str) -> bool;
    /// Whether there is nothing that not all may pull.
    fn hides_nothing(&self) -> bool;
    /// Whether peers get also what not all may pull: those of a private swarm.
    fn peers_see_all(&self) -> bool;
}

tokio::task_local! {
    static VIEW: View;
}

/// The viewer that a task reads for; none reads for the node itself, and sees everything.
#[derive(Clone, Default)]
pub struct View(Option<Arc<dyn Viewer>>);

impl View {
    /// The view of a viewer.
    pub fn of(viewer: Option<Arc<dyn Viewer>>) -> Self {
        Self(viewer)
    }

    /// Whether nothing is hidden from the viewer.
    pub fn sees_all(&self) -> bool {
        self.0.is_none()
    }

    /// Returns the view of this task.
    pub fn current() -> Self {
        VIEW.try_with(Self::clone).unwrap_or_default()
    }

    /// Runs a task that reads for this viewer.
    pub async fn scope<T>(self, task: impl Future<Output = T>) -> T {
        VIEW.scope(self, task).await
    }

    /// Runs work on this thread that reads for this viewer.
    pub fn enter<T>(self, work: impl FnOnce() -> T) -> T {
        VIEW.sync_scope(self, work)
    }
}

impl Store {
    /// Asks these readers from now on what all may read. Set once.
    pub fn set_readers(&self, readers: Arc<dyn Readers>) {
        let _ = self.0.readers.set(readers);
    }

    /// Whether peers may be told of a repository.
    pub fn peers_see_repository(&self, repository: &str) -> bool {
        self.0.readers.get().is_none_or(|readers| readers.peers_see_all() || readers.all_see(repository))
    }

    /// Whether any repository may be hidden from peers, or was when the tree was made.
    pub fn may_hide_repositories(&self) -> Result<bool, Error> {
        let before = self.0.database.read(|read| number(&read.open_table(META)?, HIDES_REPOSITORIES))?;
        Ok(before > 0 || self.0.readers.get().is_some())
    }

    /// Notes whether the tree leaves out repositories.
    pub fn note_hidden_repositories(&self, hides: bool) -> Result<(), Error> {
        self.0.database.write(|write| {
            write.open_table(META)?.insert(HIDES_REPOSITORIES, u64::from(hides))?;
            Ok(())
        })
    }

    /// Whether peers may be told of a block, as far as repositories say.
    pub fn peers_see(&self, cid: &Cid) -> Result<bool, Error> {
        match self.0.readers.get() {
            Some(readers) if !readers.peers_see_all() => self.all_see_by(readers.as_ref(), cid),
            _ => Ok(true),
        }
    }

    /// Whether all may read a block, peers or not.
    pub fn all_see(&self, cid: &Cid) -> Result<bool, Error> {
        self.0.readers.get().map_or(Ok(true), |readers| self.all_see_by(readers.as_ref(), cid))
    }

    fn all_see_by(&self, readers: &dyn Readers, cid: &Cid) -> Result<bool, Error> {
        if readers.hides_nothing() {
            return Ok(true);
        }
        self.is_seen(cid, !readers.peers_see_all(), &|repository| readers.all_see(repository))
    }

    /// Whether the viewer of this task may read a block, be it here or not.
    pub fn is_visible(&self, cid: &Cid) -> Result<bool, Error> {
        let Some(viewer) = View::current().0 else { return Ok(true) };
        self.is_seen(cid, self.tree_is_open(), &|repository| viewer.sees(repository))
    }

    /// Whether the viewer of this task may read the stored file of a root; true where none is stored. A block of it that is
    /// open does not open the file.
    pub fn is_visible_file(&self, root: &Cid) -> Result<bool, Error> {
        let find = |read: &ReadTransaction| {
            let id = row(read, ROOTS, BlockKey::of(root).bytes(), |id| id)?;
            Ok(id.into_iter().collect())
        };
        self.any_file_is_visible(find)
    }

    /// Whether the viewer of this task may read a stored blob, by any of its DAGs; true where it is not stored.
    pub fn is_visible_blob(&self, digest: &Digest) -> Result<bool, Error> {
        let find = |read: &ReadTransaction| {
            let hash = match sha256(digest) {
                Ok(hash) => Some(hash),
                Err(_) => row(read, ALIASES, digest.bytes(), |hash| *hash)?,
            };
            let Some(hash) = hash else { return Ok(Vec::new()) };
            Ok(row(read, STORED, &hash, |(_, ids, _)| ids)?.unwrap_or_default())
        };
        self.any_file_is_visible(find)
    }

    fn any_file_is_visible(
        &self,
        find: impl Fn(&ReadTransaction) -> Result<Vec<u64>, Error>,
    ) -> Result<bool, Error> {
        let Some(viewer) = View::current().0 else { return Ok(true) };
        let (tree_is_open, sees) = (self.tree_is_open(), |repository: &str| viewer.sees(repository));
        self.0.database.read(|read| {
            let ids = find(read)?;
            let mut search = Search { read, tree_is_open, sees: &sees, seen: HashSet::new() };
            for id in &ids {
                if row(read, FILES, *id, |_| ())?.is_none() || search.is_open(*id)? {
                    return Ok(true);
                }
            }
            Ok(ids.is_empty())
        })
    }

    /// Whether the published tree names only repositories that all may pull from.
    fn tree_is_open(&self) -> bool {
        self.0.readers.get().is_none_or(|readers| !readers.peers_see_all())
    }

    fn is_seen(&self, cid: &Cid, tree_is_open: bool, sees: &dyn Fn(&str) -> bool) -> Result<bool, Error> {
        let key = BlockKey::of(cid);
        if self.0.pending.get(&key).is_some_and(|waiting| waiting.origin == Origin::Peers) {
            return Ok(true);
        }
        self.0.database.read(|read| {
            let Some(first) = row(read, BLOCKS, key.bytes(), |(owner, _)| owner)? else { return Ok(true) };
            let mut search = Search { read, tree_is_open, sees, seen: HashSet::new() };
            if search.is_open(first)? {
                return Ok(true);
            }
            for other in read.open_table(SHARED)?.range((key.bytes(), 0)..=(key.bytes(), u64::MAX))? {
                if search.is_open(other?.0.value().1)? {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }
}

/// A look at the owners of one block.
struct Search<'a> {
    read: &'a ReadTransaction,
    tree_is_open: bool,
    sees: &'a dyn Fn(&str) -> bool,
    seen: HashSet<u64>,
}

impl Search<'_> {
    /// Whether an owner of the block has it for this viewer.
    fn is_open(&mut self, owner: u64) -> Result<bool, Error> {
        match owner {
            NO_OWNER | FORMER_OWNER => return Ok(true),
            TREE => return Ok(self.tree_is_open),
            id if !self.seen.insert(id) || is_removed(self.read, id)? => return Ok(false),
            id if noted(self.read, id)? == Some(Origin::Peers) => return Ok(true),
            _ => {}
        }
        let Some(root) = root_of(self.read, owner)? else { return Ok(false) };
        Ok(index::is_added(self.read, &root)? || self.is_held(&root)?)
    }

    /// Whether a repository that the viewer sees holds a root.
    fn is_held(&self, root: &Cid) -> Result<bool, Error> {
        let retained = match self.read.open_multimap_table(index::RETAINED) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(false),
            retained => retained?,
        };
        for key in retained.get(as_v1(root).to_bytes().as_slice())? {
            if index::repository_of(key?.value()).is_some_and(|repository| (self.sees)(repository)) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The root of a file, stored or arriving.
fn root_of(read: &ReadTransaction, id: u64) -> Result<Option<Cid>, Error> {
    let root = match row(read, FILES, id, |(_, _, root)| Cid::try_from(root))? {
        Some(root) => Some(root),
        None => row(read, PARTIAL, id, |(root, ..)| Cid::try_from(root))?,
    };
    root.transpose().map_err(|e| Error::Damaged(e.to_string()))
}
