//! Summary of the content served from a followed name, for users and monitoring.

use ocipfs_node::{Cid, IpnsName};
use ocipfs_oci::Tag;

use super::{Depth, FetchProgress, Followed, FollowedRoot};
use crate::{
    content::{self, CidPath},
    images::{self, layout::Layout},
    names::Resolver,
};

/// Repositories and tags that are listed of one name.
const MAX_REPOSITORIES: usize = 1_000;
const MAX_TAGS: usize = 10_000;

/// Content served from a followed name.
#[derive(Debug, Default)]
pub struct FollowedSummary {
    /// The newest root of which every repository is complete.
    pub served: Option<FollowedRoot>,
    /// How far the newest root that was heard of is fetched.
    pub fetching: Option<FetchProgress>,
    /// How many repositories have a complete version.
    pub complete: u64,
    /// The first of them.
    pub repositories: Vec<FollowedRepository>,
}

/// A repository that has a complete version.
#[derive(Debug)]
pub struct FollowedRepository {
    /// Its name.
    pub name: ocipfs_oci::Name,
    /// The directory of the version.
    pub directory: Cid,
    /// Its tags of which everything is here that the policy fetches.
    pub tags: Vec<Tag>,
    /// Its tags that a tag that was pushed here hides.
    pub shadowed: Vec<Tag>,
}

impl Followed {
    /// Summarizes what of a name is served.
    pub async fn summary(
        &self,
        resolver: &Resolver,
        name: &IpnsName,
    ) -> Result<FollowedSummary, content::Error> {
        let (content, name) = (resolver.content(), *name);
        let served = self.complete_root(content, &name).await?;
        let read = move |rows: &super::FollowedRows| {
            Ok((rows.count(&name)?, rows.repositories(&name, "", MAX_REPOSITORIES)?))
        };
        let (complete, page) = self.read_rows(content, read).await?;
        let (mut repositories, mut left) = (Vec::new(), MAX_TAGS);
        for (repository, version) in page {
            let at = CidPath::from(version.directory);
            // A version whose documents are damaged has no complete tags.
            let tags = match resolver.layouts.read(content, &at, None).await {
                Ok(layout) if version.depth > Depth::Index => {
                    complete_tags(resolver, &layout, version.depth, left).await.unwrap_or_default()
                }
                _ => Vec::new(),
            };
            left -= tags.len().min(left);
            let shadowed = shadowed(resolver, &repository, &tags).await?;
            repositories.push(FollowedRepository {
                name: repository,
                directory: version.directory,
                tags,
                shadowed,
            });
        }
        Ok(FollowedSummary { served, fetching: self.fetching(&name), complete, repositories })
    }
}

/// The tags of a layout whose images are here as far as they were fetched. Only limits take something away again.
async fn complete_tags(
    resolver: &Resolver,
    layout: &Layout,
    depth: Depth,
    most: usize,
) -> Result<Vec<Tag>, images::Error> {
    let content = resolver.content();
    let mut tags = layout.tags(content).await?;
    tags.truncate(most);
    if depth < Depth::Blobs || content.limits() == (None, None) {
        return Ok(tags);
    }
    let mut whole = Vec::new();
    for tag in tags {
        let digest = layout.digest_of(content, &tag).await?;
        if let Some(digest) = digest
            && layout.files.is_whole(content, &digest).await?
        {
            whole.push(tag);
        }
    }
    Ok(whole)
}

/// Those of the tags that were pushed here, too.
async fn shadowed(
    resolver: &Resolver,
    name: &ocipfs_oci::Name,
    tags: &[Tag],
) -> Result<Vec<Tag>, content::Error> {
    let (all, name, tags) = (resolver.repositories().clone(), name.clone(), tags.to_vec());
    let is_here = move |_: &content::Store| {
        if !all.has(&name)? {
            return Ok(Vec::new());
        }
        let mut here = Vec::new();
        for tag in tags {
            if all.tag(&name, &tag)?.is_some() {
                here.push(tag);
            }
        }
        Ok(here)
    };
    Ok(resolver.content().store().run(is_here).await?)
}
