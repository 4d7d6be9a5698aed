//! Repositories of followed names: each name's tree of image layouts is looked into by what its newest record says.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{FutureExt, future::BoxFuture};
use ocipfs_node::Node;
use ocipfs_oci::{Digest, Name, Reference, Tag};

use super::{Document, Error, Resolver, Source, ipns, path};
use crate::{
    content::{self, CidPath},
    images::layout::Referrers,
};

/// What a name meant before is remembered so far back, for those in the middle of a pull.
const VERSIONS: usize = 3;

/// The names that are followed, in order. Clones share that.
#[derive(Clone)]
pub struct Followed(Arc<Inner>);

struct Inner {
    /// Those that `serve` is told, which come first.
    settled: Vec<ocipfs_node::Name>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Those that are followed by command.
    by_command: Vec<ocipfs_node::Name>,
    /// What each meant lately, the newest first.
    roots: HashMap<ocipfs_node::Name, VecDeque<CidPath>>,
}

impl Followed {
    /// Follows `settled`, and then what is followed by command.
    pub async fn open(node: &Node, settled: Vec<ocipfs_node::Name>) -> Result<Self, ocipfs_node::Error> {
        for name in &settled {
            node.follow(*name).await?;
        }
        let by_command = node.followed_for_good().await?;
        let state = Mutex::new(State { by_command, roots: HashMap::new() });
        Ok(Self(Arc::new(Inner { settled, state })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The names in order, each once.
    pub fn names(&self) -> Vec<ocipfs_node::Name> {
        let mut names = self.0.settled.clone();
        let state = self.lock();
        names.extend(state.by_command.iter().filter(|name| !self.is_settled(name)));
        names
    }

    /// Whether `serve` is told to follow the name.
    pub fn is_settled(&self, name: &ocipfs_node::Name) -> bool {
        self.0.settled.contains(name)
    }

    /// Reads anew what is followed by command.
    pub async fn refresh(&self, node: &Node) -> Result<(), ocipfs_node::Error> {
        let by_command = node.followed_for_good().await?;
        self.lock().by_command = by_command;
        Ok(())
    }

    /// What a name means now, and what it meant before; nothing where it was never heard of.
    pub async fn roots(&self, content: &content::Content, name: &ocipfs_node::Name) -> Vec<CidPath> {
        let node = content.node();
        let Some(head) = node.head(name) else { return Vec::new() };
        let following = async { ipns::follow(node, head.value.parse()?, content.find_timeout()).await };
        let target = match following.await {
            Ok(target) => target.at,
            Err(error) => {
                tracing::warn!(%name, %error, "a followed name leads nowhere");
                return Vec::new();
            }
        };
        let mut state = self.lock();
        let roots = state.roots.entry(*name).or_default();
        if roots.front() != Some(&target) {
            roots.retain(|root| *root != target);
            roots.push_front(target);
            roots.truncate(VERSIONS);
        }
        roots.iter().cloned().collect()
    }
}

/// The manifest of a repository that a followed name has: the first of those that have the repository.
pub async fn manifest(resolver: &Resolver, name: &Name, reference: &Reference) -> Result<Document, Error> {
    let by_digest = matches!(reference, Reference::Digest(_));
    let found =
        search(resolver, name, by_digest, |image| async move { image.manifest(reference).await }.boxed());
    found.await?.ok_or_else(|| Error::UnknownName(name.clone()))
}

/// The blob of such a repository.
pub async fn blob(resolver: &Resolver, name: &Name, digest: &Digest) -> Result<Source, Error> {
    let found = search(resolver, name, true, |image| async move { image.blob(digest).await }.boxed());
    found.await?.ok_or_else(|| Error::UnknownName(name.clone()))
}

/// The tags of such a repository.
pub async fn tags(resolver: &Resolver, name: &Name) -> Result<Vec<Tag>, Error> {
    let found = search(resolver, name, false, |image| async move { image.tags().await }.boxed());
    found.await?.ok_or_else(|| Error::UnknownName(name.clone()))
}

/// What refers to a manifest of such a repository, of what comes after `last`.
pub async fn referrers(
    resolver: &Resolver,
    name: &Name,
    subject: &Digest,
    last: &str,
) -> Result<Referrers, Error> {
    let found =
        search(resolver, name, false, |image| async move { image.referrers(subject, last).await }.boxed());
    found.await?.ok_or_else(|| Error::UnknownName(name.clone()))
}

/// Asks the newest tree of each name, and those before it where `older`. The first name that has the repository answers; one
/// that cannot be read is passed over, and told of where no other has it.
async fn search<'a, T>(
    resolver: &'a Resolver,
    name: &'a Name,
    older: bool,
    ask: impl Fn(path::Image<'a>) -> BoxFuture<'a, Result<T, Error>>,
) -> Result<Option<T>, Error> {
    let mut failed = None;
    for followed in resolver.followed().names() {
        let mut absent = None;
        let roots = resolver.followed().roots(resolver.content(), &followed).await;
        for root in roots.into_iter().take(if older { VERSIONS } else { 1 }) {
            let opened = path::open_below(resolver, name, &root.below(name.components())).await;
            let is_there = opened.is_ok();
            let answer = match opened {
                Ok(image) => ask(image).await,
                Err(error) => Err(error),
            };
            match answer {
                Ok(found) => {
                    // What is asked for by its digest is right whatever the name means.
                    if !older && resolver.content().node().head(&followed).is_some_and(|head| head.stale) {
                        tracing::warn!(%followed, repository = %name, "its record has expired, so it is taken for what it was");
                    }
                    return Ok(Some(found));
                }
                Err(error) if !error.is_absence() => drop(failed.get_or_insert(error)),
                Err(error) if is_there => drop(absent.get_or_insert(error)),
                Err(_) => {}
            }
        }
        if let Some(absent) = absent {
            return Err(failed.unwrap_or(absent));
        }
    }
    failed.map_or(Ok(None), Err)
}

#[cfg(test)]
mod tests;
