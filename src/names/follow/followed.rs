//! Followed names: what each one means now, and what of it is served.
//!
//! ```text
//! node: records ─► prefetch (fetches) ─► rows (complete versions, retained) ─► search (a client's read)
//! ```
//!
//! A repository is served from its newest complete version. What only the newest root has is read from there.

mod rows;
mod search;
mod summary;
mod walked;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ocipfs_node::{Cid, IpnsName, Node};
use ocipfs_oci::Name;
use tokio::{sync::Notify, time::Instant};

use super::policy::Prefetch;
use crate::{
    content::{self, CidPath, Content, Database},
    names::ipns,
};
use rows::FollowedRows;

pub use super::policy::Depth;
pub use rows::{FollowedRoot, RepositoryVersion};
pub use search::{Target, blob, manifest, origin, referrers, tags};
pub use summary::{FollowedRepository, FollowedSummary};
pub use walked::WalkCounts;

/// Versions before the complete one that are remembered, for clients in the middle of a pull.
const MAX_OLDER_VERSIONS: usize = 2;
/// Repositories whose older versions are remembered.
const CACHE_ENTRIES: usize = 10_000;

/// The names that are followed, in order. Clones share that.
#[derive(Clone)]
pub struct Followed(Arc<FollowedInner>);

struct FollowedInner {
    /// Those that `serve` is told, which come first.
    configured: Vec<IpnsName>,
    policy: Prefetch,
    rows: FollowedRows,
    state: Mutex<FollowedState>,
    /// Told when other names are followed.
    changed: Notify,
}

#[derive(Default)]
struct FollowedState {
    /// Those that are followed by command.
    followed_by_command: Vec<IpnsName>,
    /// How far the newest root of each is fetched.
    fetching: HashMap<IpnsName, FetchProgress>,
    /// Earlier versions of repositories, the newest first.
    older: HashMap<(IpnsName, Name), VecDeque<Cid>>,
    /// Repositories that were last answered from an older version because the newest could not be had.
    stale: HashSet<Name>,
    /// When a root of each could not be had.
    last_failure: HashMap<IpnsName, Instant>,
    /// Since when the newest root of each has been known and not fetched.
    behind: HashMap<IpnsName, Instant>,
}

/// Part of a name's newest root that is not fetched yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MissingContent {
    /// Repositories whose newest version is not complete.
    pub repositories: u64,
    /// Bytes of them, as far as manifests say.
    pub bytes: u64,
}

/// How far the newest root of a name is fetched.
#[derive(Clone, Debug)]
pub struct FetchProgress {
    /// The CID that its record leads to.
    pub root: Cid,
    /// The sequence of that record.
    pub sequence: u64,
    /// Content that is not fetched yet.
    pub missing: MissingContent,
    /// Why not, once something was found to be unreachable.
    pub why: Option<String>,
    /// How far the last walk of it is.
    pub counts: WalkCounts,
}

impl Followed {
    /// Follows `configured`, and then what is followed by command.
    pub async fn open(
        node: &Node,
        database: Arc<Database>,
        configured: Vec<IpnsName>,
        policy: Prefetch,
    ) -> Result<Self, ocipfs_node::RecordError> {
        for name in &configured {
            node.follow(*name).await?;
        }
        let followed_by_command = node.persistently_followed().await?;
        let state = Mutex::new(FollowedState { followed_by_command, ..FollowedState::default() });
        Ok(Self(Arc::new(FollowedInner {
            configured,
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
        let mut names = self.0.configured.clone();
        let state = self.lock();
        names.extend(state.followed_by_command.iter().filter(|name| !self.is_configured(name)));
        names
    }

    /// Whether `serve` is told to follow the name.
    pub fn is_configured(&self, name: &IpnsName) -> bool {
        self.0.configured.contains(name)
    }

    /// How much of the followed names is fetched before it is asked for.
    pub(super) fn policy(&self) -> Prefetch {
        self.0.policy
    }

    /// Reads again what is followed by command.
    pub async fn refresh(&self, node: &Node) -> Result<(), ocipfs_node::RecordError> {
        let followed_by_command = node.persistently_followed().await?;
        self.lock().followed_by_command = followed_by_command;
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
        let record = node.followed_record(name)?;
        let following = async { ipns::follow(node, record.value.parse()?, content.find_timeout()).await };
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
    pub fn fetching(&self, name: &IpnsName) -> Option<FetchProgress> {
        self.lock().fetching.get(name).cloned()
    }

    /// Notes what is missing while a root is fetched.
    pub fn set_missing(&self, name: &IpnsName, missing: MissingContent) {
        if let Some(fetching) = self.lock().fetching.get_mut(name) {
            fetching.missing = missing;
        }
    }

    /// Records how far the newest root of a name is fetched.
    pub fn set_fetch_progress(&self, name: &IpnsName, fetching: FetchProgress) {
        self.lock().fetching.insert(*name, fetching);
    }

    /// Notes whether the newest known root of a name is still to be fetched.
    pub fn set_behind(&self, name: &IpnsName, is_behind: bool) {
        let behind = &mut self.lock().behind;
        match is_behind {
            true => drop(behind.entry(*name).or_insert_with(Instant::now)),
            false => drop(behind.remove(name)),
        }
    }

    /// Returns whether the newest known root of a name is still to be fetched.
    pub fn is_behind(&self, name: &IpnsName) -> bool {
        self.lock().behind.contains_key(name)
    }

    /// Returns how long the newest root of a name has been known and not fetched.
    pub fn lag_of(&self, name: &IpnsName) -> Duration {
        self.lock().behind.get(name).map(Instant::elapsed).unwrap_or_default()
    }

    /// Returns the lag of the name that is furthest behind.
    pub fn lag(&self) -> Duration {
        self.lock().behind.values().map(Instant::elapsed).max().unwrap_or_default()
    }

    async fn read_rows<T: Send + 'static>(
        &self,
        content: &Content,
        read: impl FnOnce(&FollowedRows) -> Result<T, content::StoreError> + Send + 'static,
    ) -> Result<T, content::Error> {
        let rows = self.0.rows.clone();
        Ok(content.store().run(move |_| read(&rows)).await?)
    }

    /// Changes rows. What they release is collected later.
    async fn change_rows(
        &self,
        content: &Content,
        change: impl FnOnce(&FollowedRows) -> Result<bool, content::StoreError> + Send + 'static,
    ) -> Result<(), content::Error> {
        if self.read_rows(content, change).await? {
            // A directory leads to much that has no row of its own among what is released.
            content.collect_released_soon();
            content.collect_unreferenced_later();
        }
        Ok(())
    }

    /// Returns the newest complete version of a repository.
    pub async fn version(
        &self,
        content: &Content,
        name: &IpnsName,
        repository: &str,
    ) -> Result<Option<RepositoryVersion>, content::Error> {
        let (name, repository) = (*name, repository.to_string());
        self.read_rows(content, move |rows| rows.version(&name, &repository)).await
    }

    /// Returns a page of the repositories that have a complete version.
    pub async fn page(
        &self,
        content: &Content,
        name: &IpnsName,
        last: &str,
        most: usize,
    ) -> Result<Vec<(Name, RepositoryVersion)>, content::Error> {
        let (name, last) = (*name, last.to_string());
        self.read_rows(content, move |rows| rows.repositories(&name, &last, most)).await
    }

    /// Returns the newest root of which every repository is complete.
    pub async fn complete_root(
        &self,
        content: &Content,
        name: &IpnsName,
    ) -> Result<Option<FollowedRoot>, content::Error> {
        let name = *name;
        self.read_rows(content, move |rows| rows.root(&name)).await
    }

    /// Returns whether a walk has begun since the last one that ended.
    pub async fn is_unfinished(&self, content: &Content, name: &IpnsName) -> Result<bool, content::Error> {
        let name = *name;
        self.read_rows(content, move |rows| rows.is_unfinished(&name)).await
    }

    /// Holds a root while it is fetched, and announces it.
    pub async fn begin_root(
        &self,
        content: &Content,
        name: &IpnsName,
        root: &Cid,
    ) -> Result<(), content::Error> {
        let (name, root) = (*name, *root);
        self.change_rows(content, move |rows| rows.begin_root(&name, &root)).await?;
        content.announce(vec![root]).await
    }

    /// Serves another version of a repository from now on.
    pub async fn serve_version(
        &self,
        content: &Content,
        name: &IpnsName,
        repository: &Name,
        version: RepositoryVersion,
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
        self.change_rows(content, move |rows| rows.serve_version(&name, &repository, version)).await
    }

    /// Records that every repository below a root is complete.
    pub async fn set_complete_root(
        &self,
        content: &Content,
        name: &IpnsName,
        root: FollowedRoot,
    ) -> Result<(), content::Error> {
        let name = *name;
        self.change_rows(content, move |rows| rows.set_complete_root(&name, root)).await
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
        self.change_rows(content, move |rows| rows.remove(&name, &below, keep)).await
    }

    /// Releases everything of names that are not followed any more.
    pub async fn forget_others(&self, content: &Content) -> Result<(), content::Error> {
        let names = self.names();
        for name in self.read_rows(content, FollowedRows::names).await? {
            if !names.contains(&name) {
                self.change_rows(content, move |rows| rows.forget(&name)).await?;
                let mut state = self.lock();
                state.fetching.remove(&name);
                state.last_failure.remove(&name);
                state.behind.remove(&name);
                state.older.retain(|(of, _), _| *of != name);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
