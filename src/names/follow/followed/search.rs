//! Reading from followed names: the newest complete version of a repository, then what only the newest root has.

use std::time::Duration;

use futures::{FutureExt, future::BoxFuture};
use ocipfs_node::{Cid, IpnsName};
use ocipfs_oci::{Digest, Name, Reference, Tag};

use super::{Depth, Followed, RepositoryVersion};
use crate::{
    content::{self, CidPath},
    images::layout::Referrers,
    names::{BlobSource, Document, Error, Prefetch, Resolver, resolve::layout},
};

/// A root that could not be had is not asked for again for so long, where there is an older version to serve.
const RETRY_INTERVAL: Duration = Duration::from_secs(30);

/// A version of a repository.
enum VersionLocation {
    /// Complete: its directory.
    Here(CidPath),
    /// Complete before: its directory, as far as that was not collected.
    Older(CidPath),
    /// Below the newest root.
    Newest(CidPath),
}

/// Result of a search in one followed name.
enum SearchAnswer<T> {
    Found(T),
    /// It has the repository, but not the requested content.
    Absent(Error),
    /// Its content cannot be determined.
    Failed(Error),
    /// It has no such repository.
    NoRepository,
}

/// Returns the manifest of a repository: of the first name that has it.
pub async fn manifest(resolver: &Resolver, name: &Name, reference: &Reference) -> Result<Document, Error> {
    let by_digest = matches!(reference, Reference::Digest(_));
    first_found(resolver, name, by_digest, |image| async move { image.manifest(reference).await }.boxed())
        .await
}

/// Returns a blob of a repository: of the first name that has it.
pub async fn blob(resolver: &Resolver, name: &Name, digest: &Digest) -> Result<BlobSource, Error> {
    first_found(resolver, name, true, |image| async move { image.blob(digest).await }.boxed()).await
}

/// Content to look up in a repository.
pub enum Target<'a> {
    /// A manifest, by a tag or its digest.
    Manifest(&'a Reference),
    /// A blob.
    Blob(&'a Digest),
}

/// Returns the followed name that has it.
pub async fn origin<'a>(resolver: &'a Resolver, name: &'a Name, target: &'a Target<'a>) -> Option<IpnsName> {
    for followed in resolver.followed().names() {
        let ask = |image: layout::IpfsImage<'a>| match target {
            Target::Manifest(reference) => async move { image.manifest(reference).await.map(drop) }.boxed(),
            Target::Blob(digest) => async move { image.blob(digest).await.map(drop) }.boxed(),
        };
        if let Ok(SearchAnswer::Found(())) = search_name(resolver, &followed, name, false, &ask).await {
            return Some(followed);
        }
    }
    None
}

/// Returns the tags that any name has of a repository, sorted.
pub async fn tags(resolver: &Resolver, name: &Name) -> Result<Vec<Tag>, Error> {
    let all = all(resolver, name, |image| async move { image.tags().await }.boxed()).await?;
    let mut tags: Vec<Tag> = all.into_iter().flatten().collect();
    tags.sort();
    tags.dedup();
    Ok(tags)
}

/// Returns what refers to a manifest at any name, of what comes after `last`, by digests.
pub async fn referrers(
    resolver: &Resolver,
    name: &Name,
    subject: &Digest,
    last: &str,
) -> Result<Referrers, Error> {
    let all =
        all(resolver, name, |image| async move { image.referrers(subject, last).await }.boxed()).await?;
    Ok(all.into_iter().fold(Referrers::default(), Referrers::and))
}

/// Asks the names in order until one has what is asked for. One that cannot be read is passed over; where no other has it,
/// that is the answer.
async fn first_found<'a, T>(
    resolver: &'a Resolver,
    name: &'a Name,
    older: bool,
    ask: impl Fn(layout::IpfsImage<'a>) -> BoxFuture<'a, Result<T, Error>>,
) -> Result<T, Error> {
    let (mut failed, mut absent) = (None, None);
    for followed in resolver.followed().names() {
        match search_name(resolver, &followed, name, older, &ask).await? {
            SearchAnswer::Found(found) => return Ok(found),
            SearchAnswer::Failed(error) => drop(failed.get_or_insert(error)),
            SearchAnswer::Absent(error) => drop(absent.get_or_insert(error)),
            SearchAnswer::NoRepository => {}
        }
    }
    Err(failed.or(absent).unwrap_or_else(|| Error::UnknownName(name.clone())))
}

/// Asks all names; fails only where none has the repository.
async fn all<'a, T>(
    resolver: &'a Resolver,
    name: &'a Name,
    ask: impl Fn(layout::IpfsImage<'a>) -> BoxFuture<'a, Result<T, Error>>,
) -> Result<Vec<T>, Error> {
    let (mut failed, mut found) = (None, Vec::new());
    for followed in resolver.followed().names() {
        match search_name(resolver, &followed, name, false, &ask).await? {
            SearchAnswer::Found(one) => found.push(one),
            SearchAnswer::Failed(error) | SearchAnswer::Absent(error) => drop(failed.get_or_insert(error)),
            SearchAnswer::NoRepository => {}
        }
    }
    match found.is_empty() {
        true => Err(failed.unwrap_or_else(|| Error::UnknownName(name.clone()))),
        false => Ok(found),
    }
}

/// Asks one name, version by version.
async fn search_name<'a, T>(
    resolver: &'a Resolver,
    followed: &IpnsName,
    name: &'a Name,
    older: bool,
    ask: &impl Fn(layout::IpfsImage<'a>) -> BoxFuture<'a, Result<T, Error>>,
) -> Result<SearchAnswer<T>, Error> {
    let all = resolver.followed();
    let VersionsToRead { places, is_current, is_decided } =
        all.versions(resolver, followed, name, older).await?;
    let (mut absent, mut failed, mut is_behind) = (None, None, false);
    for place in places {
        if let VersionLocation::Older(at) = &place
            && !resolver.content().is_here(at.root()).await?
        {
            continue;
        }
        let is_newest = matches!(place, VersionLocation::Newest(_));
        let opened = match &place {
            VersionLocation::Here(at) | VersionLocation::Older(at) => {
                layout::open_here(resolver, name, at).await
            }
            VersionLocation::Newest(at) => all.open_newest(resolver, followed, name, at).await,
        };
        let is_there = opened.is_ok();
        let answer = match opened {
            Ok(image) => ask(image).await,
            Err(error) => Err(error),
        };
        match answer {
            Ok(found) => {
                is_behind |= failed.is_some() || all.is_newest_missing(followed);
                all.answered(resolver, followed, name, is_behind && !is_newest && !is_current && !older);
                return Ok(SearchAnswer::Found(found));
            }
            // An earlier version only helps a pull that began with it.
            Err(_) if matches!(place, VersionLocation::Older(_)) => {}
            Err(error) if is_newest && is_decided && !error.is_absence() => is_behind = true,
            Err(error) if !error.is_absence() => drop(failed.get_or_insert(error)),
            Err(error) if is_there => drop(absent.get_or_insert(error)),
            Err(_) => {}
        }
    }
    Ok(match (failed, absent) {
        (Some(error), _) => SearchAnswer::Failed(error),
        (None, Some(error)) => SearchAnswer::Absent(error),
        (None, None) => SearchAnswer::NoRepository,
    })
}

/// Where a repository of one name may be, in the order in which that is asked.
struct VersionsToRead {
    places: Vec<VersionLocation>,
    /// Whether the complete version is that of the newest root.
    is_current: bool,
    /// Whether what the complete versions do not have counts as absent where the newest root cannot be had.
    is_decided: bool,
}

impl Followed {
    async fn versions(
        &self,
        resolver: &Resolver,
        followed: &IpnsName,
        name: &Name,
        older: bool,
    ) -> Result<VersionsToRead, content::Error> {
        let content = resolver.content();
        let (of, repository) = (*followed, name.to_string());
        let rows = move |rows: &super::FollowedRows| Ok((rows.version(&of, &repository)?, rows.root(&of)?));
        let (version, complete_root) = self.read_rows(content, rows).await?;
        let target = self.target(content, followed).await;
        let search_root = target.as_ref().map(CidPath::search_root);
        let at = |directory: Cid| {
            let at = CidPath::from(directory);
            search_root.map_or(at.clone(), |search_root| at.with_search_root(search_root))
        };
        let sequence = content.node().followed_record(followed).map(|record| record.sequence);
        let is_current = complete_root.zip(target.as_ref()).is_some_and(|(complete_root, target)| {
            Some(complete_root.sequence) == sequence
                && (!target.names().is_empty() || complete_root.directory == *target.root())
        });
        // A request by digest, or for a repository that the complete root lacks, does not wait for a newer root that could not be
        // fetched a moment ago.
        let is_decided = complete_root.is_some() && (older || version.is_none());
        let is_asked = !is_current && !(self.failed_lately(followed) && (is_decided || version.is_some()));
        let complete = version.map(|version| VersionLocation::Here(at(version.directory)));
        let newest =
            target.filter(|_| is_asked).map(|at| VersionLocation::Newest(at.below(name.components())));
        // Where nothing is fetched beforehand, the newest root is asked first.
        let is_newest_first = self.0.policy == Prefetch::None && !self.failed_lately(followed);
        let mut places: Vec<VersionLocation> = match is_newest_first {
            true => newest.into_iter().chain(complete).collect(),
            false => complete.into_iter().chain(newest).collect(),
        };
        if older {
            places.extend(
                self.older(followed, name).into_iter().map(|directory| VersionLocation::Older(at(directory))),
            );
        }
        Ok(VersionsToRead { places, is_current, is_decided })
    }

    /// The versions of a repository before the complete one.
    fn older(&self, followed: &IpnsName, name: &Name) -> Vec<Cid> {
        self.lock().older.get(&(*followed, name.clone())).into_iter().flatten().copied().collect()
    }

    /// Opens a repository below the newest root. Where nothing is fetched beforehand, what could be opened is served from
    /// then on, also when the next root cannot be had.
    async fn open_newest<'a>(
        &self,
        resolver: &'a Resolver,
        followed: &IpnsName,
        name: &'a Name,
        at: &CidPath,
    ) -> Result<layout::IpfsImage<'a>, Error> {
        let content = resolver.content();
        let opened = layout::open_below(resolver, name, at).await;
        match opened {
            Ok((image, directory)) => {
                if self.0.policy == Prefetch::None {
                    self.begin_root(content, followed, at.root()).await?;
                    content.wait_for_blocks().await;
                    let since = content::now();
                    let version =
                        RepositoryVersion { directory, depth: Depth::Index, is_sparse: false, since };
                    self.serve_version_once(content, followed, name, version).await?;
                }
                self.lock().last_failure.remove(followed);
                Ok(image)
            }
            Err(error) => {
                if !error.is_absence() {
                    self.lock().last_failure.insert(*followed, tokio::time::Instant::now());
                }
                Err(error)
            }
        }
    }

    async fn serve_version_once(
        &self,
        content: &content::Content,
        followed: &IpnsName,
        name: &Name,
        version: RepositoryVersion,
    ) -> Result<(), content::Error> {
        let before = self.version(content, followed, name.as_str()).await?;
        match before.is_some_and(|before| before.directory == version.directory) {
            true => Ok(()),
            false => self.serve_version(content, followed, name, version).await,
        }
    }

    /// Whether the newest root of a name could not be had just now.
    pub(in crate::names::follow) fn failed_lately(&self, followed: &IpnsName) -> bool {
        self.lock().last_failure.get(followed).is_some_and(|when| when.elapsed() < RETRY_INTERVAL)
    }

    /// Whether something of the newest root could not be had when that was tried last.
    fn is_newest_missing(&self, followed: &IpnsName) -> bool {
        self.failed_lately(followed) || self.fetching(followed).is_some_and(|fetching| fetching.why.is_some())
    }

    /// Notes whether a repository was answered from what its name meant before.
    fn answered(&self, resolver: &Resolver, followed: &IpnsName, name: &Name, is_behind: bool) {
        let record = resolver.content().node().followed_record(followed);
        let is_stale = is_behind || record.is_some_and(|record| record.stale);
        if is_stale && !self.is_stale(name) {
            tracing::warn!(%followed, repository = %name, "the publisher is unreachable: serving an earlier version");
        }
        self.set_stale(name, is_stale);
    }
}
