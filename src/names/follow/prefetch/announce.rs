//! Announcements are not kept across a restart: the roots and blobs of followed names are announced again at
//! each start.

use ocipfs_node::{Cid, IpnsName};

use crate::{
    content::{self, CidPath, Content, differences},
    names::{Resolver, followed::RepositoryVersion},
};

/// Repositories that are read at once.
const PAGE_SIZE: usize = 500;

/// Announces what is here of a followed name.
pub async fn announce(resolver: &Resolver, name: &IpnsName) -> Result<(), content::Error> {
    let (content, followed) = (resolver.content(), resolver.followed());
    let root = followed.complete_root(content, name).await?;
    content.announce(root.map(|root| root.directory).into_iter().collect()).await?;
    let mut last = String::new();
    loop {
        let page = followed.page(content, name, &last, PAGE_SIZE).await?;
        let Some((repository, _)) = page.last() else { return Ok(()) };
        last = repository.to_string();
        for (_, version) in &page {
            blobs(content, version).await?;
        }
    }
}

/// Announces the blobs of a repository that are stored.
async fn blobs(content: &Content, version: &RepositoryVersion) -> Result<(), content::Error> {
    let at = CidPath::from(version.directory).below(["blobs"]);
    let Ok(blobs) = content.directory(&at).await else { return Ok(()) };
    for algorithm in entries(content, blobs).await? {
        for blob in entries(content, algorithm).await? {
            if content.is_stored(&blob).await? {
                content.announce(vec![blob]).await?;
            }
        }
    }
    Ok(())
}

async fn entries(content: &Content, directory: Cid) -> Result<Vec<Cid>, content::Error> {
    let found = differences(&mut content.nodes(directory), &[(directory, None)]).await?.pop().flatten();
    Ok(found.unwrap_or_default().changed.into_values().map(|(cid, _)| cid).collect())
}
