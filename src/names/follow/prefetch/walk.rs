//! Walks from a root to its repositories by what differs from the last complete root, and fetches what each one added.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use futures::{StreamExt, stream};
use ocipfs_node::{Cid, IpnsName};
use ocipfs_oci::{Digest, Name};

use super::Prefetch;
use crate::{
    content::{self, CidPath, Content, Difference, Nodes, differences},
    images::{
        Error,
        layout::{FetchCount, Files, Prefetched},
    },
    names::{
        Resolver,
        followed::{Depth, FollowedRoot, MissingContent, RepositoryVersion, WalkCounts},
    },
};

/// Repositories whose blobs are compared at once.
const BATCH_SIZE: usize = 128;
/// Repositories that are fetched at a time.
const CONCURRENCY: usize = 4;
/// A deeper tree of directories is not looked into.
const MAX_DEPTH: usize = 64;
const DAG_PB: u64 = 0x70;

/// A directory of the tree, and its previous version.
struct WalkedDirectory {
    path: String,
    new: Cid,
    old: Option<Cid>,
}

/// A repository that may have changed.
struct WalkedRepository {
    name: Name,
    directory: Cid,
    before: Option<RepositoryVersion>,
}

/// One walk from one root.
pub struct Walk<'a> {
    resolver: &'a Resolver,
    name: &'a IpnsName,
    depth: Depth,
    root: &'a CidPath,
    sequence: u64,
    nodes: Nodes,
    missing: MissingContent,
    why: Option<String>,
    counts: WalkCounts,
    /// All repositories of the tree, where it is not compared with another.
    seen: HashSet<String>,
}

impl<'a> Walk<'a> {
    pub fn new(
        resolver: &'a Resolver,
        name: &'a IpnsName,
        policy: Prefetch,
        root: &'a CidPath,
        sequence: u64,
    ) -> Self {
        let nodes = resolver.content().nodes(root.search_root());
        let (missing, counts, seen) = Default::default();
        let depth = policy.depth();
        Self { resolver, name, depth, root, sequence, nodes, missing, why: None, counts, seen }
    }

    /// Counts what it does.
    pub fn counted(self, counts: WalkCounts) -> Self {
        Self { counts, ..self }
    }

    fn content(&self) -> &'a Content {
        self.resolver.content()
    }

    /// Fetches what is new below the root. Gives what could not be had, and why.
    pub async fn fetch_changes(mut self) -> Result<(MissingContent, Option<String>), Error> {
        let (resolver, followed) = (self.resolver, self.resolver.followed());
        let is_unfinished = followed.is_unfinished(self.content(), self.name).await?;
        followed.begin_root(self.content(), self.name, self.root.root()).await?;
        let top = self.content().directory(self.root).await?;
        let before = followed.complete_root(self.content(), self.name).await?;
        // The walk may skip what the last complete root has in common with this one only if that root was fetched to the same
        // depth, and if no walk was interrupted since: an interrupted walk has replaced some of it.
        let before = before.filter(|before| before.depth >= self.depth && !is_unfinished);
        let before = before.map(|before| before.directory);
        if before != Some(top) {
            let fetch = Box::pin(self.fetch_below(top, before));
            let (fetched, unstored) = resolver.content().fetch_to_keep(fetch).await;
            fetched?;
            // A directory was read that is not here.
            if let Some(error) = unstored {
                self.why.get_or_insert_with(|| error.to_string());
            }
            if before.is_none() && self.why.is_none() {
                let seen = std::mem::take(&mut self.seen);
                followed.remove(self.content(), self.name, "", move |name| seen.contains(name)).await?;
            }
        }
        if self.why.is_none() {
            let since = content::now();
            let root = FollowedRoot { directory: top, depth: self.depth, sequence: self.sequence, since };
            followed.set_complete_root(self.content(), self.name, root).await?;
        }
        Ok((self.missing, self.why))
    }

    async fn fetch_below(&mut self, top: Cid, before: Option<Cid>) -> Result<(), Error> {
        let repositories = self.changed_repositories(top, before).await?;
        self.fetch_repositories(repositories).await
    }

    /// Compares the directories level by level; gives the repositories that may have changed.
    async fn changed_repositories(
        &mut self,
        top: Cid,
        before: Option<Cid>,
    ) -> Result<Vec<WalkedRepository>, Error> {
        let mut repositories = Vec::new();
        let mut level = vec![WalkedDirectory { path: String::new(), new: top, old: before }];
        for _ in 0..MAX_DEPTH {
            if level.is_empty() {
                break;
            }
            let pairs: Vec<_> = level.iter().map(|directory| (directory.new, directory.old)).collect();
            let compared = differences(&mut self.nodes, &pairs).await?;
            let mut next = Vec::new();
            for (directory, difference) in level.into_iter().zip(compared) {
                // A file, or a directory that could not be had.
                let Some(difference) = difference else { continue };
                repositories.extend(self.compare_directory(&directory, difference, &mut next).await?);
            }
            if let Some(error) = self.nodes.failure() {
                self.why.get_or_insert_with(|| error.to_string());
            }
            level = next;
        }
        Ok(repositories)
    }

    /// Takes up what changed in one directory: the repository that it is, if it is one, and the directories below.
    async fn compare_directory(
        &mut self,
        directory: &WalkedDirectory,
        difference: Difference,
        next: &mut Vec<WalkedDirectory>,
    ) -> Result<Option<WalkedRepository>, Error> {
        let WalkedDirectory { path, new, .. } = directory;
        let followed = self.resolver.followed();
        self.counts.directories().add(1);
        let before = followed.version(self.content(), self.name, path).await?;
        let is_layout = match difference.changed.contains_key("oci-layout") {
            true => true,
            false => before.is_some() && !difference.removed.iter().any(|name| name == "oci-layout"),
        };
        let gone = |name: &String| !(is_layout && is_part(name));
        for name in difference.removed.iter().filter(|name| gone(name)) {
            let (all, below) =
                if name == "oci-layout" { (false, path.clone()) } else { (true, join(path, name)) };
            let own = path.clone();
            followed.remove(self.content(), self.name, &below, move |name| !all && name != own).await?;
        }
        for (name, (cid, old)) in difference.changed {
            if !(is_layout && is_part(&name)) && name != "oci-layout" && cid.codec() == DAG_PB {
                next.push(WalkedDirectory { path: join(path, &name), new: cid, old });
            }
        }
        let name = path.parse::<Name>().ok().filter(|_| is_layout);
        let Some(name) = name else { return Ok(None) };
        self.seen.insert(path.clone());
        Ok(Some(WalkedRepository { name, directory: *new, before }))
    }

    async fn fetch_repositories(&mut self, mut all: Vec<WalkedRepository>) -> Result<(), Error> {
        let (depth, counts) = (self.depth, self.counts.bytes().clone());
        all.retain(|repository| {
            let before = repository.before;
            before.is_none_or(|it| it.directory != repository.directory || it.depth < depth)
        });
        self.missing.repositories = all.len() as u64;
        self.counts.repositories().expect(self.missing.repositories);
        self.resolver.followed().set_missing(self.name, self.missing);
        while !all.is_empty() {
            let lot: Vec<WalkedRepository> = all.drain(..all.len().min(BATCH_SIZE)).collect();
            let added = self.added_blobs(&lot).await?;
            let (resolver, root) = (self.resolver, self.root.search_root());
            let blobs = &counts;
            // Those whose directories could not be had are left for the next walk.
            let known =
                lot.into_iter().zip(added).filter_map(|(repository, added)| Some((repository, added?)));
            let fetched = known.map(|(repository, added)| async move {
                let added = Arc::new(added);
                let fetched = fetch_repository(resolver, root, &repository, &added, depth, blobs).await;
                (repository, fetched)
            });
            let mut fetched = stream::iter(fetched).buffer_unordered(CONCURRENCY);
            while let Some((repository, fetched)) = fetched.next().await {
                self.serve_if_complete(&repository, fetched).await?;
                self.resolver.followed().set_missing(self.name, self.missing);
            }
        }
        Ok(())
    }

    /// Serves the new version of a repository from now on, if all of it is here.
    async fn serve_if_complete(
        &mut self,
        repository: &WalkedRepository,
        fetched: Result<Prefetched, Error>,
    ) -> Result<(), Error> {
        let is_sparse = match fetched {
            Ok(Prefetched { why: None, is_sparse, .. }) => is_sparse,
            Ok(Prefetched { why: Some(why), missing, .. }) => {
                self.missing.bytes += missing;
                self.why.get_or_insert(why.to_string());
                return Ok(());
            }
            Err(error) => {
                self.why.get_or_insert(error.to_string());
                return Ok(());
            }
        };
        let WalkedRepository { name, directory, .. } = repository;
        if let Some(why) = self.unsigned(name, *directory).await {
            self.why.get_or_insert(why);
            return Ok(());
        }
        let version =
            RepositoryVersion { directory: *directory, depth: self.depth, is_sparse, since: content::now() };
        self.resolver.followed().serve_version(self.content(), self.name, name, version).await?;
        self.missing.repositories -= 1;
        self.counts.repositories().add(1);
        Ok(())
    }

    /// Why a version is not served as complete though all of it is here: it is not signed as the policies say. Where only
    /// indexes are fetched beforehand, each pull is checked alone.
    async fn unsigned(&self, name: &Name, directory: Cid) -> Option<String> {
        if self.depth == Depth::Index {
            return None;
        }
        let at = CidPath::from(directory).with_search_root(self.root.search_root());
        match self.resolver.unsigned_tag(name, &at).await {
            Ok(None) => None,
            Ok(Some((tag, why))) => Some(format!("{name}:{tag} is not served: {why}")),
            Err(error) => Some(error.to_string()),
        }
    }

    /// For each repository, the blobs that its complete version does not have; none where its directories could not be
    /// had.
    async fn added_blobs(
        &mut self,
        lot: &[WalkedRepository],
    ) -> Result<Vec<Option<BTreeSet<Digest>>>, Error> {
        let mut blobs = Vec::new();
        for repository in lot {
            blobs.push(self.blobs_of(repository).await);
            self.counts.directories().add(1);
        }
        let pairs: Vec<_> = blobs.iter().flatten().flatten().copied().collect();
        let mut compared = differences(&mut self.nodes, &pairs).await?.into_iter();
        // Each repository's algorithms, and where their directories are among those that are compared next.
        let (mut algorithms, mut below) = (Vec::new(), Vec::new());
        for pair in blobs {
            let changed = match pair {
                None => None,
                Some(None) => Some(Default::default()),
                Some(Some(_)) => compared.next().flatten().map(|difference| difference.changed),
            };
            algorithms.push(changed.map(|changed| {
                let first = below.len();
                below.extend(changed.values().copied());
                (first, changed.into_keys().collect::<Vec<String>>())
            }));
        }
        let compared = differences(&mut self.nodes, &below).await?;
        if let Some(error) = self.nodes.failure() {
            self.why.get_or_insert_with(|| error.to_string());
        }
        let has_failed = self.nodes.failure().is_some();
        let added = |(first, algorithms): (usize, Vec<String>)| {
            let mut added = BTreeSet::new();
            for (algorithm, difference) in algorithms.iter().zip(&compared[first..]) {
                let hexes = match difference {
                    Some(difference) => difference.changed.keys(),
                    None if has_failed => return None,
                    // A file among the directories of the algorithms.
                    None => continue,
                };
                added.extend(hexes.filter_map(|hex| format!("{algorithm}:{hex}").parse::<Digest>().ok()));
            }
            Some(added)
        };
        Ok(algorithms.into_iter().map(|algorithms| added(algorithms?)).collect())
    }

    /// The directory `blobs` of a repository, if it has one, and that of its complete version; none where that cannot be
    /// known.
    async fn blobs_of(&mut self, repository: &WalkedRepository) -> Option<Option<(Cid, Option<Cid>)>> {
        let at = |directory: Cid| {
            CidPath::from(directory).with_search_root(self.root.search_root()).below(["blobs"])
        };
        let new = match self.content().directory(&at(repository.directory)).await {
            Ok(cid) => cid,
            Err(content::Error::NoEntry { .. }) => return Some(None),
            Err(error) => {
                self.why.get_or_insert(error.to_string());
                return None;
            }
        };
        // Of a version that was fetched in part, everything is looked at again.
        let before = repository.before.filter(|before| before.depth >= self.depth);
        let old = match before {
            Some(before) => self.content().directory(&at(before.directory)).await.ok(),
            None => None,
        };
        Some(Some((new, old)))
    }
}

/// Fetches what a repository added.
async fn fetch_repository(
    resolver: &Resolver,
    search_root: Cid,
    repository: &WalkedRepository,
    added: &Arc<BTreeSet<Digest>>,
    depth: Depth,
    bytes: &FetchCount,
) -> Result<Prefetched, Error> {
    let at = CidPath::from(repository.directory).with_search_root(search_root);
    let content = resolver.content();
    let files = Files::of(&at);
    let version = repository.before.filter(|before| before.depth >= depth);
    let before = version.map(|before| CidPath::from(before.directory).with_search_root(search_root));
    let is_sparse = repository.before.is_some_and(|before| before.is_sparse);
    let blobs = (depth == Depth::Blobs).then_some(bytes);
    let fetch = async {
        files.check(content).await?;
        match depth {
            Depth::Index => files.prefetch_index(content, before.as_ref()).await,
            Depth::Manifests | Depth::Blobs => {
                files.prefetch(content, before.as_ref(), added, is_sparse, blobs).await
            }
        }
    };
    // Here, and not by the caller: others that run at the same time may hold what it waits for.
    match content.fetch_to_keep(fetch).await {
        (Ok(_), Some(unstored)) => Err(unstored.into()),
        (fetched, _) => fetched,
    }
}

/// Whether an entry belongs to the layout in a directory.
fn is_part(name: &str) -> bool {
    matches!(name, "oci-layout" | "index.json" | "blobs")
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.into() } else { format!("{path}/{name}") }
}
