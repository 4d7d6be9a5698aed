//! What takes a walk or a read of the disk, taken in the background, so that a scrape waits for nothing.

use std::time::Duration;

use crate::{
    content::{Error, UploadUsage},
    control::Instance,
};

/// The state of a node a few seconds ago.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    pub announced: u64,
    pub announcing: u64,
    /// How long the root that has waited longest has been due; zero without peers.
    pub announce_lag: Duration,
    pub followed: u64,
    /// How long the newest known root of a followed name has not been complete, of the name that is furthest behind.
    pub followed_lag: Duration,
    pub repositories: u64,
    pub used_bytes: u64,
    pub index_bytes: u64,
    pub uploads: UploadUsage,
}

impl Sample {
    pub async fn take(instance: &Instance) -> Result<Self, Error> {
        let (content, resolver) = (instance.content(), instance.resolver());
        let node = content.node();
        let announcing = node.announcing();
        let repositories = resolver.repositories().clone();
        let counted = content.store().run(move |store| Ok((store.used_bytes()?, repositories.count()?)));
        let (used_bytes, repositories) = counted.await?;
        Ok(Self {
            announced: announcing.announced as u64,
            announcing: announcing.pending as u64,
            announce_lag: announcing.lag,
            followed: resolver.followed().names().len() as u64,
            followed_lag: resolver.followed().lag(),
            repositories,
            used_bytes,
            index_bytes: content.index_bytes().await?,
            uploads: content.uploads().usage().await?,
        })
    }
}
