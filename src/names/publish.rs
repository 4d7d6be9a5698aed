//! Publishes pushed repositories under a name of this node, in the background.
//!
//! ```text
//! repositories ── changed ─► images::published (a root) ─► node (signed, told to who follows and to the routing system)
//! ```

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use ocipfs_node::{Cid, IpnsName, Keypair, RecordError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    content::{self, Content, SharePolicy, StoreError},
    images::{
        published::{Advanced, Published},
        repository::Repositories,
    },
};

/// Changes of one push come together.
const DEBOUNCE: Duration = Duration::from_millis(20);
/// Blobs alone wait so long for the manifest that they are pushed for.
const MANIFEST_WAIT: Duration = Duration::from_secs(2);
/// Versions that are made before the name means the last of them.
const MAX_BATCHES: usize = 16;
const MIN_PAUSE: Duration = Duration::from_millis(200);
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// A root that was followed by another stays for those who are in the middle of a pull.
const OLD_VERSION_LIFETIME: Duration = Duration::from_secs(120);
/// How long others may use a record without asking again; who follows the name hears of changes anyway.
const TTL: Duration = Duration::from_secs(60);

/// Why the repositories could not be published.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The published tree could not be made or announced.
    #[error(transparent)]
    Content(#[from] content::Error),
    /// Its record could not be signed or sent.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// A name is the one of the pushed repositories.
#[derive(Debug, thiserror::Error)]
#[error("{0} is the name under which pushed repositories are published (--publish-key)")]
pub struct Reserved(IpnsName);

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Self::Content(error.into())
    }
}

/// State of the published tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublisherState {
    /// The root of all that was pushed.
    pub root: Option<Cid>,
    /// The record that says so, where pushes are shared.
    pub sequence: Option<u64>,
    /// Why it could not be published.
    pub failing: Option<String>,
}

/// Publishes the repositories. Clones are handles on the same.
#[derive(Clone)]
pub struct Publisher(Arc<PublisherInner>);

struct PublisherInner {
    content: Content,
    published: Published,
    key: Keypair,
    share: SharePolicy,
    state: watch::Sender<PublisherState>,
}

impl Publisher {
    /// One that publishes under `key`, if pushes are shared.
    pub fn new(content: Content, repositories: Repositories, key: Keypair, share: SharePolicy) -> Self {
        let published = Published::new(content.store().clone(), repositories, content.profile());
        Self(Arc::new(PublisherInner { content, published, key, share, state: watch::Sender::default() }))
    }

    /// Returns the state of the published tree.
    pub fn state(&self) -> PublisherState {
        self.0.state.borrow().clone()
    }

    /// The name that it is published under.
    pub fn name(&self) -> IpnsName {
        IpnsName::of(&self.0.key)
    }

    /// Refuses to publish anything else under the name that pushes are published under, or to take its key away.
    ///
    /// # Errors
    /// Fails for that name.
    pub fn check_manual(&self, name: &IpnsName) -> Result<(), Reserved> {
        if *name == self.name() { Err(Reserved(*name)) } else { Ok(()) }
    }

    /// Returns the sharing policy: which published content peers may get.
    pub fn share(&self) -> SharePolicy {
        self.0.share
    }

    /// How many changes are not published yet; one more where a tree is made and its name does not mean it yet.
    pub async fn behind(&self) -> Result<usize, Error> {
        let published = self.state().root;
        let (changes, current) = self
            .blocking(|published| Ok::<_, StoreError>((published.behind()?, published.current()?)))
            .await??;
        Ok(changes as usize + usize::from(current.map(|version| version.root.cid) != published))
    }

    /// Publishes what changes until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let work = async {
            let mut changed = self.0.published.repositories().changed();
            let mut old = self.old_versions().await;
            self.review().await;
            self.announce_all().await;
            let mut pause = MIN_PAUSE;
            loop {
                match self.step(&mut old).await {
                    Ok(is_behind) => {
                        pause = MIN_PAUSE;
                        if is_behind {
                            continue;
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "publishing failed, will try again");
                        self.0.state.send_modify(|state| state.failing = Some(error.to_string()));
                        tokio::time::sleep(pause).await;
                        pause = (pause * 2).min(MAX_PAUSE);
                        continue;
                    }
                }
                let forget = old.front().map(|since| *since + OLD_VERSION_LIFETIME);
                tokio::select! {
                    woken = changed.changed() => match woken {
                        Ok(()) => self.debounce(&mut changed).await,
                        Err(_) => return,
                    },
                    () = until(forget) => {}
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = work => {}
        }
    }

    /// Waits until what changed is worth publishing.
    async fn debounce(&self, changed: &mut watch::Receiver<()>) {
        tokio::time::sleep(DEBOUNCE).await;
        let matters = async {
            let mut seen = 0;
            loop {
                changed.mark_unchanged();
                match self.blocking(move |published| published.matters(seen)).await {
                    Ok(Ok((false, last))) if changed.changed().await.is_ok() => {
                        seen = last;
                        tokio::time::sleep(DEBOUNCE).await;
                    }
                    _ => return,
                }
            }
        };
        let _ = tokio::time::timeout(MANIFEST_WAIT, matters).await;
    }

    /// Publishes some lots of what changed, and says whether there are more.
    async fn step(&self, old: &mut VecDeque<Instant>) -> Result<bool, Error> {
        let mut is_behind = false;
        for _ in 0..MAX_BATCHES {
            let advanced = self.blocking(|published| published.advance()).await??;
            is_behind = advanced.as_ref().is_some_and(|advanced| advanced.is_behind);
            let Some(Advanced { replaced, added, removed, .. }) = advanced else { break };
            old.extend(replaced.map(|_| Instant::now()));
            self.announce(added, removed).await?;
            if !is_behind {
                break;
            }
        }
        if old.front().is_some_and(|since| since.elapsed() >= OLD_VERSION_LIFETIME) {
            old.pop_front();
            self.0.content.store().run(|store| store.forget_oldest_tree()).await?;
        }
        self.publish().await?;
        Ok(is_behind)
    }

    /// Says what the name means, where that is something else than before.
    async fn publish(&self) -> Result<(), Error> {
        let Some(version) = self.blocking(|published| published.current()).await?? else { return Ok(()) };
        let (root, state) = (version.root.cid, self.state());
        if state.root == Some(root) && state.failing.is_none() {
            return Ok(());
        }
        let mut sequence = None;
        if self.0.share == SharePolicy::All {
            let node = self.0.content.node();
            node.announce([root]);
            let value = format!("/ipfs/{root}");
            let said = node.publish_at_once(&self.0.key, &value, TTL).await?;
            if let Some(before) = state.root.filter(|before| *before != root) {
                node.withdraw(before).await;
            }
            sequence = Some(said.sequence);
        }
        let behind = self.blocking(|published| published.behind()).await??;
        tracing::info!(%root, sequence, behind, "published");
        self.0.state.send_replace(PublisherState { root: Some(root), sequence, failing: None });
        Ok(())
    }

    async fn announce(&self, added: Vec<Cid>, removed: Vec<Cid>) -> Result<(), Error> {
        if self.0.share == SharePolicy::All {
            self.0.content.announce(added).await?;
            for root in removed {
                let content = &self.0.content;
                if !content.is_retained(&root).await? || !content.is_shown(&root).await? {
                    self.0.content.node().withdraw(root).await;
                }
            }
        }
        Ok(())
    }

    /// Publishes the repositories that peers may know of by now, and withdraws the others: the access rules changed.
    pub async fn review(&self) {
        if let Err(error) = self.try_review().await {
            tracing::warn!(%error, "cannot publish by the changed access rules");
        }
    }

    async fn try_review(&self) -> Result<(), Error> {
        for name in self.blocking(|published| published.review()).await?? {
            let hidden = self.blocking(move |published| published.hidden_roots(&name)).await??;
            for root in hidden {
                self.0.content.node().withdraw(root).await;
            }
        }
        Ok(())
    }

    /// Announcements do not outlive the process.
    async fn announce_all(&self) {
        if self.0.share == SharePolicy::Added {
            return;
        }
        let content = self.0.content.clone();
        let announce = move |root| {
            content.node().announce_known(SharePolicy::All.announced(content.store(), vec![root])?);
            Ok(())
        };
        let announced = self.blocking(move |published| published.for_each_root(announce)).await;
        if let Err(error) | Ok(Err(error)) = announced.map(|result| result.map_err(Error::from)) {
            tracing::warn!(%error, "cannot announce all pushed content");
        }
    }

    /// Returns when each earlier version of the tree was replaced.
    async fn old_versions(&self) -> VecDeque<Instant> {
        let versions = self.0.content.store().run(|store| store.tree_versions()).await.unwrap_or_default();
        versions.iter().skip(1).map(|_| Instant::now()).collect()
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Published) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let publisher = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&publisher.0.published)).await;
        done.map_err(|_| Error::from(StoreError::Stopped))
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}
