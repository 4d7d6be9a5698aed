//! `ipns/<name>[/<dir>...][:tag]`: an image below what an IPNS name or a domain means now.

use futures::{FutureExt, future::BoxFuture};
use ocipfs_node::MutableName;
use ocipfs_oci::{Digest, Name, Reference, Tag};

use super::{BlobSource, Document, Error, Resolver, layout};
use crate::{content::CidPath, images::layout::Referrers};

/// An image, by the repository name that leads to it.
pub struct IpnsRepository<'a> {
    pub resolver: &'a Resolver,
    pub name: &'a Name,
    /// The key or the domain.
    pub key: &'a MutableName,
    /// The path below what that means.
    pub below: &'a str,
}

impl<'a> IpnsRepository<'a> {
    pub async fn manifest(&self, reference: &'a Reference) -> Result<Document, Error> {
        let by_digest = matches!(reference, Reference::Digest(_));
        self.ask(by_digest, |image| async move { image.manifest(reference).await }.boxed()).await
    }

    pub async fn blob(&self, digest: &'a Digest) -> Result<BlobSource, Error> {
        self.ask(true, |image| async move { image.blob(digest).await }.boxed()).await
    }

    pub async fn tags(&self) -> Result<Vec<Tag>, Error> {
        self.ask(false, |image| async move { image.tags().await }.boxed()).await
    }

    pub async fn referrers(&self, subject: &'a Digest, last: &'a str) -> Result<Referrers, Error> {
        self.ask(false, |image| async move { image.referrers(subject, last).await }.boxed()).await
    }

    /// Asks what the name means now, and where `older` also what it meant before. What is absent there may be in what the
    /// name means since it was resolved: it is resolved again once before that is said.
    async fn ask<T>(
        &self,
        older: bool,
        ask: impl Fn(layout::IpfsImage<'a>) -> BoxFuture<'a, Result<T, Error>>,
    ) -> Result<T, Error> {
        let targets = self.targets(false).await?;
        let absent = match self.first(&targets, older, &ask).await {
            Err(error) if error.is_absence() => error,
            answer => return answer,
        };
        match self.targets(true).await {
            Ok(fresh) if fresh.first() != targets.first() => self.first(&fresh, older, &ask).await,
            _ => Err(absent),
        }
    }

    async fn targets(&self, uncached: bool) -> Result<Vec<CidPath>, Error> {
        let Self { resolver, name, key, below } = self;
        let found = resolver.targets.follow(&resolver.content, key, below, uncached).await;
        found.map_err(|why| Error::Ipns { name: Name::clone(name), why })
    }

    /// The answer of the newest version that has what is asked for.
    async fn first<T>(
        &self,
        targets: &[CidPath],
        older: bool,
        ask: &impl Fn(layout::IpfsImage<'a>) -> BoxFuture<'a, Result<T, Error>>,
    ) -> Result<T, Error> {
        let mut absent = None;
        for at in targets.iter().take(if older { usize::MAX } else { 1 }) {
            let answer = match layout::open(self.resolver, self.name, at).await {
                Ok(image) => ask(image).await,
                Err(error) => Err(error),
            };
            match answer {
                Err(error @ (Error::UnknownReference { .. } | Error::UnknownBlob { .. })) => {
                    absent.get_or_insert(error);
                }
                answer => return answer,
            }
        }
        Err(absent.unwrap_or_else(|| Error::UnknownName(self.name.clone())))
    }
}
