//! Followed names: what each one means now, and what of it is served.
//!
//! ```text
//! node: heads ─► prefetch (fetches) ─► rows (complete versions, held) ─► search (a client's read)
//! ```
//!
//! A repository is served from its newest complete version. What only the newest root has is read from there.

mod catalog;
mod rows;
mod search;
mod summary;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ocipfs_node::{Cid, IpnsName, Node};
use ocipfs_oci::Name;
use tokio::{sync::Notify, time::Instant};

use super::{Prefetch, ipns};
use crate::content::{self, CidPath, Content, Database};
use rows::FollowedRows;

pub use rows::{Depth, FollowedRoot, Version};
pub use search::{Target, blob, manifest, origin, referrers, tags};
pub use summary::{FollowedRepository, FollowedSummary};

/// Versions before the complete one that are remembered, for clients in the middle of a pull.
const MAX_OLDER_VERSIONS: usize = 2;
/// Repositories whose older versions are remembered.
const CACHE_ENTRIES: usize = 10_000;

/// The names that are followed, in order. Clones share that.
#[derive(Clone)]
pub struct Followed(Arc<Inner>);

struct Inner {
    /// Those that `serve` is told, which come first.
    settled: Vec<IpnsName>,
    policy: Prefetch,
    rows: FollowedRows,
    state: Mutex<FollowedState>,
    /// Told when other names are followed.
    changed: Notify,
}

#[derive(Default)]
struct FollowedState {
    /// Those that are followed by command.
    by_command: Vec<IpnsName>,
    /// How far the newest root of each is fetched.
    fetching: HashMap<IpnsName, Fetching>,
    /// Earlier versions of repositories, the newest first.
    older: HashMap<(IpnsName, Name), VecDeque<Cid>>,
    /// Repositories that were last answered from an older version because the newest could not be had.
    stale: HashSet<Name>,
    /// When a root of each could not be had.
    unreachable: HashMap<IpnsName, Instant>,
}

/// Part of a name's newest root that is not fetched yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// Repositories whose newest version is not complete.
    pub repositories: u64,
    /// Bytes of them, as far as manifests say.
    pub bytes: u64,
}

/// How far the newest root of a name is fetched.
#[derive(Clone, Debug)]
pub struct Fetching {
    /// The CID that its record leads to.
    pub root: Cid,
    /// The sequence of that record.
    pub sequence: u64,
    /// Content that is not fetched yet.
    pub missing: Missing,
    /// Why not, once something was found to be unreachable.
    pub why: Option<String>,
}

impl Followed {
    /// Follows `settled`, and then what is followed by command.
    pub async fn open(
        node: &Node,
        database: Arc<Database>,
        settled: Vec<IpnsName>,
        policy: Prefetch,
    ) -> Result<Self, ocipfs_node::Error> {
        for name in &settled {
            node.follow(*name).await?;
        }
        let by_command = node.persistently_followed().await?;
        let state = Mutex::new(FollowedState { by_command, ..FollowedState::default() });
        Ok(Self(Arc::new(Inner {
            settled,
            policy,
            rows: FollowedRows::new(database),
            state,
            changed: Notify::new(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, FollowedState> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the names in order, each once.
    pub fn names(&self) -> Vec<IpnsName> {
        let mut names = self.0.settled.clone();
        let state = self.lock();
        names.extend(state.by_command.iter().filter(|name| !self.is_settled(name)));
        names
    }

    /// Whether `serve` is told to follow the name.
    pub fn is_settled(&self, name: &IpnsName) -> bool {
        self.0.settled.contains(name)
    }

    /// Reads again what is followed by command.
    pub async fn refresh(&self, node: &Node) -> Result<(), ocipfs_node::Error> {
        let by_command = node.persistently_followed().await?;
        self.lock().by_command = by_command;
        // The node has told of the change before this list had it.
        self.0.changed.notify_one();
        Ok(())
    }

    /// Waits until other names are followed. One task may wait.
    pub async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// Returns what a name means now; none where it was never heard of, or leads to no content.
    pub async fn target(&self, content: &Content, name: &IpnsName) -> Option<CidPath> {
        let node = content.node();
        let head = node.followed_record(name)?;
        let following = async { ipns::follow(node, head.value.parse()?, content.find_timeout()).await };
        match following.await {
            Ok(target) => Some(target.at),
            Err(error) => {
                tracing::warn!(%name, %error, "cannot resolve a followed name");
                None
            }
        }
    }

    /// Whether a repository was last answered from an older version because the newest could not be had.
    pub fn is_stale(&self, repository: &Name) -> bool {
        self.lock().stale.contains(repository)
    }

    /// Notes that a repository was answered by what is pushed here.
    pub fn set_fresh(&self, repository: &Name) {
        self.set_stale(repository, false);
    }

    fn set_stale(&self, repository: &Name, is_stale: bool) {
        let mut state = self.lock();
        if !is_stale {
            state.stale.remove(repository);
        } else if state.stale.len() < CACHE_ENTRIES {
            state.stale.insert(repository.clone());
        }
    }

    /// Returns how far the newest root of a name is fetched.
    pub fn fetching(&self, name: &IpnsName) -> Option<Fetching> {
        self.lock().fetching.get(name).cloned()
    }

    /// Notes what is missing while a root is fetched.
    pub fn set_missing(&self, name: &IpnsName, missing: Missing) {
        if let Some(fetching) = self.lock().fetching.get_mut(name) {
            fetching.missing = missing;
        }
    }

    /// Records how far the newest root of a name is fetched.
    pub fn set_fetching(&self, name: &IpnsName, fetching: Fetching) {
        self.lock().fetching.insert(*name, fetching);
    }

    async fn ask<T: Send + 'static>(
        &self,
        content: &Content,
        ask: impl FnOnce(&FollowedRows) -> Result<T, content::StoreError> + Send + 'static,
    ) -> Result<T, content::Error> {
        let rows = self.0.rows.clone();
        Ok(content.store().run(move |_| ask(&rows)).await?)
    }

    /// Changes rows; what is let go of is collected later.
    async fn edit(
        &self,
        content: &Content,
        edit: impl FnOnce(&FollowedRows) -> Result<bool, content::StoreError> + Send + 'static,
    ) -> Result<(), content::Error> {
        if self.ask(content, edit).await? {
            // A directory leads to much that has no row of its own among what is released.
            content.collect_later();
            content.collect_unreachable_later();
        }
        Ok(())
    }

    /// Returns the newest complete version of a repository.
    pub async fn version(
        &self,
        content: &Content,
        name: &IpnsName,
        repository: &str,
    ) -> Result<Option<Version>, content::Error> {
        let (name, repository) = (*name, repository.to_string());
        self.ask(content, move |rows| rows.version(&name, &repository)).await
    }

    /// Returns a page of the repositories that have a complete version.
    pub async fn page(
        &self,
        content: &Content,
        name: &IpnsName,
        last: &str,
        most: usize,
    ) -> Result<Vec<(Name, Version)>, content::Error> {
        let (name, last) = (*name, last.to_string());
        self.ask(content, move |rows| rows.repositories(&name, &last, most)).await
    }

    /// Returns the newest root of which every repository is complete.
    pub async fn root(
        &self,
        content: &Content,
        name: &IpnsName,
    ) -> Result<Option<FollowedRoot>, content::Error> {
        let name = *name;
        self.ask(content, move |rows| rows.root(&name)).await
    }

    /// Returns whether a walk has begun since the last one that ended.
    pub async fn is_unfinished(&self, content: &Content, name: &IpnsName) -> Result<bool, content::Error> {
        let name = *name;
        self.ask(content, move |rows| rows.is_unfinished(&name)).await
    }

    /// Holds a root while it is fetched, and announces it.
    pub async fn begin(&self, content: &Content, name: &IpnsName, root: &Cid) -> Result<(), content::Error> {
        let (name, root) = (*name, *root);
        self.edit(content, move |rows| rows.begin(&name, &root)).await?;
        content.announce(vec![root]).await
    }

    /// Serves another version of a repository from now on.
    pub async fn complete(
        &self,
        content: &Content,
        name: &IpnsName,
        repository: &Name,
        version: Version,
    ) -> Result<(), content::Error> {
        let before = self.version(content, name, repository.as_str()).await?;
        if let Some(before) = before.filter(|before| before.directory != version.directory) {
            let mut state = self.lock();
            if state.older.len() >= CACHE_ENTRIES {
                state.older.clear();
            }
            let older = state.older.entry((*name, repository.clone())).or_default();
            older.retain(|directory| *directory != before.directory);
            older.push_front(before.directory);
            older.truncate(MAX_OLDER_VERSIONS);
        }
        let (name, repository) = (*name, repository.to_string());
        self.edit(content, move |rows| rows.complete(&name, &repository, version)).await
    }

    /// Records that every repository below a root is complete.
    pub async fn finish(
        &self,
        content: &Content,
        name: &IpnsName,
        root: FollowedRoot,
    ) -> Result<(), content::Error> {
        let name = *name;
        self.edit(content, move |rows| rows.finish(&name, root)).await
    }

    /// Forgets the repository `below` and those within it, unless `keep` says otherwise.
    pub async fn remove(
        &self,
        content: &Content,
        name: &IpnsName,
        below: &str,
        keep: impl Fn(&str) -> bool + Clone + Send + 'static,
    ) -> Result<(), content::Error> {
        let (name, below) = (*name, below.to_string());
        self.edit(content, move |rows| rows.remove(&name, &below, keep)).await
    }

    /// Releases everything of names that are not followed any more.
    pub async fn forget_others(&self, content: &Content) -> Result<(), content::Error> {
        let names = self.names();
        for name in self.ask(content, FollowedRows::names).await? {
            if !names.contains(&name) {
                self.edit(content, move |rows| rows.forget(&name)).await?;
                let mut state = self.lock();
                state.fetching.remove(&name);
                state.unreachable.remove(&name);
                state.older.retain(|(of, _), _| *of != name);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
