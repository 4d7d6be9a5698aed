//! Who sees what was pushed: content of a repository is for those who may pull from it, by whatever name they ask.
//!
//! What came from peers, what commands added and blocks of no file are for all. A pushed file is for those who see a
//! repository that holds its root; one that no repository holds any more, for those who see everything. Where content of a
//! repository has to be signed, unsigned content is for those who may sign it.

use std::{collections::HashSet, sync::Arc};

use ocipfs_node::{Cid, FetchError, as_v1};
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
    /// Whether it gets content of a repository that is not signed as it has to be.
    fn sees_unsigned(&self, repository: &str) -> bool;
}

/// What tells whether content of repositories is signed as it has to be.
pub trait SignatureCheck: Send + Sync {
    /// Whether content of a repository has to be signed.
    fn covers(&self, repository: &str) -> bool;
    /// Whether content of any repository has to be signed.
    fn covers_anything(&self) -> bool;
    /// Whether what a repository has under this digest is signed, or is the signature of something. Called outside of
    /// transactions.
    fn passes(&self, store: &Store, repository: &str, digest: &Digest) -> Result<bool, Error>;
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
pub struct View {
    viewer: Option<Arc<dyn Viewer>>,
    /// It reads what is here, and asks no peer.
    is_local: bool,
}

impl View {
    /// The view of a viewer.
    pub fn of(viewer: Option<Arc<dyn Viewer>>) -> Self {
        Self { viewer, is_local: false }
    }

    /// The same view, of what is here: no peer is asked.
    pub fn local(self) -> Self {
        Self { is_local: true, ..self }
    }

    /// Fails for a block that is not here, where no peer is asked for it.
    pub fn ask_peers_for(&self, cid: &Cid) -> Result<(), FetchError> {
        if self.is_local { Err(FetchError::Offline(*cid)) } else { Ok(()) }
    }

    /// Whether no peer is asked for what is not here.
    pub fn is_local(&self) -> bool {
        self.is_local
    }

    /// Whether nothing is hidden from the viewer.
    pub fn sees_all(&self) -> bool {
        self.viewer.is_none()
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

    /// Asks this check from now on what has to be signed. Set once.
    pub fn set_signature_check(&self, check: Arc<dyn SignatureCheck>) {
        let _ = self.0.signatures.set(check);
    }

    fn needs_signatures(&self, repository: &str) -> bool {
        self.0.signatures.get().is_some_and(|check| check.covers(repository))
    }

    /// Whether peers may be told of a repository.
    pub fn peers_see_repository(&self, repository: &str) -> bool {
        self.0.readers.get().is_none_or(|readers| readers.peers_see_all() || readers.all_see(repository))
    }

    /// Whether everything that comes into a repository is for all, by whatever name they ask.
    pub fn is_for_all(&self, repository: &str) -> bool {
        self.peers_see_repository(repository) && !self.needs_signatures(repository)
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
        self.is_open_to(cid, self.0.readers.get().is_some_and(|readers| readers.peers_see_all()))
    }

    /// Whether all may read a block, peers or not.
    pub fn all_see(&self, cid: &Cid) -> Result<bool, Error> {
        self.is_open_to(cid, false)
    }

    /// Whether those may read a block who see every repository, or only those that all see. What has to be signed and is not,
    /// is for neither.
    fn is_open_to(&self, cid: &Cid, see_every: bool) -> Result<bool, Error> {
        let readers = self.0.readers.get();
        let is_checked = self.0.signatures.get().is_some_and(|check| check.covers_anything());
        let is_hidden = !see_every && readers.is_some_and(|readers| !readers.hides_nothing());
        if !is_checked && !is_hidden {
            return Ok(true);
        }
        let sight = Sight {
            tree_is_open: see_every || self.tree_is_open(),
            sees: &|repository| see_every || readers.is_none_or(|readers| readers.all_see(repository)),
            sees_unsigned: &|repository| !self.needs_signatures(repository),
        };
        self.is_seen(cid, &sight)
    }

    /// Whether the viewer of this task may read a block, be it here or not.
    pub fn is_visible(&self, cid: &Cid) -> Result<bool, Error> {
        let Some(viewer) = View::current().viewer else { return Ok(true) };
        self.is_seen(cid, &self.sight_of(&|name| viewer.sees(name), &|name| viewer.sees_unsigned(name)))
    }

    fn sight_of<'a>(&self, sees: &'a dyn Fn(&str) -> bool, unsigned: &'a dyn Fn(&str) -> bool) -> Sight<'a> {
        Sight { tree_is_open: self.tree_is_open(), sees, sees_unsigned: unsigned }
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
        let Some(viewer) = View::current().viewer else { return Ok(true) };
        let (sees, unsigned) = (|name: &str| viewer.sees(name), |name: &str| viewer.sees_unsigned(name));
        let sight = self.sight_of(&sees, &unsigned);
        let found = self.0.database.read(|read| {
            let ids = find(read)?;
            let mut search = Search::new(read, &sight);
            for id in &ids {
                if row(read, FILES, *id, |_| ())?.is_none() || search.is_open(*id)? {
                    return Ok(Seen::Yes);
                }
            }
            Ok(if ids.is_empty() { Seen::Yes } else { Seen::IfSigned(search.unsigned) })
        });
        self.settle(found?)
    }

    /// Asks whether any of what is seen only if it is signed is signed. Not within a transaction: the check reads, too.
    fn settle(&self, seen: Seen) -> Result<bool, Error> {
        let Seen::IfSigned(all) = seen else { return Ok(true) };
        let Some(check) = self.0.signatures.get() else { return Ok(false) };
        for (repository, digest) in all {
            if check.passes(self, &repository, &digest)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the published tree names only repositories that all may pull from.
    fn tree_is_open(&self) -> bool {
        self.0.readers.get().is_none_or(|readers| !readers.peers_see_all())
    }

    fn is_seen(&self, cid: &Cid, sight: &Sight<'_>) -> Result<bool, Error> {
        let key = BlockKey::of(cid);
        if self.0.pending.get(&key).is_some_and(|waiting| waiting.origin == Origin::Peers) {
            return Ok(true);
        }
        let seen = self.0.database.read(|read| {
            let Some(first) = row(read, BLOCKS, key.bytes(), |(owner, _)| owner)? else {
                return Ok(Seen::Yes);
            };
            let mut search = Search::new(read, sight);
            if search.is_open(first)? {
                return Ok(Seen::Yes);
            }
            for other in read.open_table(SHARED)?.range((key.bytes(), 0)..=(key.bytes(), u64::MAX))? {
                if search.is_open(other?.0.value().1)? {
                    return Ok(Seen::Yes);
                }
            }
            Ok(Seen::IfSigned(search.unsigned))
        });
        self.settle(seen?)
    }
}

/// What a reader may see.
struct Sight<'a> {
    tree_is_open: bool,
    sees: &'a dyn Fn(&str) -> bool,
    sees_unsigned: &'a dyn Fn(&str) -> bool,
}

/// Result of a look at the owners of a block.
enum Seen {
    Yes,
    /// Only if any of it is signed: repositories that would show it, and its digests there.
    IfSigned(Vec<(String, Digest)>),
}

/// A look at the owners of one block.
struct Search<'a> {
    read: &'a ReadTransaction,
    sight: &'a Sight<'a>,
    seen: HashSet<u64>,
    unsigned: Vec<(String, Digest)>,
}

impl<'a> Search<'a> {
    fn new(read: &'a ReadTransaction, sight: &'a Sight<'a>) -> Self {
        Self { read, sight, seen: HashSet::new(), unsigned: Vec::new() }
    }
}

impl Search<'_> {
    /// Whether an owner of the block has it for this viewer.
    fn is_open(&mut self, owner: u64) -> Result<bool, Error> {
        match owner {
            NO_OWNER | FORMER_OWNER => return Ok(true),
            TREE => return Ok(self.sight.tree_is_open),
            id if !self.seen.insert(id) || is_removed(self.read, id)? => return Ok(false),
            id if noted(self.read, id)? == Some(Origin::Peers) => return Ok(true),
            _ => {}
        }
        let Some(root) = root_of(self.read, owner)? else { return Ok(false) };
        Ok(index::is_added(self.read, &root)? || self.is_held(&root)?)
    }

    /// Whether a repository that the viewer sees holds a root, signed or not.
    fn is_held(&mut self, root: &Cid) -> Result<bool, Error> {
        let retained = match self.read.open_multimap_table(index::RETAINED) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(false),
            retained => retained?,
        };
        for key in retained.get(as_v1(root).to_bytes().as_slice())? {
            let key = key?;
            let Some((repository, digest)) = index::held_by(key.value()) else { continue };
            if !(self.sight.sees)(repository) {
                continue;
            }
            if (self.sight.sees_unsigned)(repository) {
                return Ok(true);
            }
            self.unsigned.extend(digest.parse().ok().map(|digest| (repository.into(), digest)));
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
