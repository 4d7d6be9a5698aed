//! A hosted repository: joins the content pushed here with the content of followed names.
//!
//! A tag that was pushed here wins over a followed one, until it is deleted.

use std::collections::BTreeSet;

use ocipfs_oci::{Digest, Name, Reference, Tag};

use super::{BlobSource, Document, Error, Resolver, followed, layout::listed, local::LocalRepository};
use crate::images::layout::Referrers;

/// A repository of this name.
pub struct Repository<'a> {
    pub resolver: &'a Resolver,
    pub name: &'a Name,
}

impl<'a> Repository<'a> {
    fn local(&self) -> LocalRepository<'a> {
        LocalRepository { resolver: self.resolver, name: self.name }
    }

    pub async fn manifest(&self, reference: &Reference) -> Result<Document, Error> {
        let here = match self.local().manifest(reference).await {
            Ok(found) => return Ok(self.fresh(found)),
            Err(error) if error.is_absence() => error,
            Err(error) => return Err(error),
        };
        match followed::manifest(self.resolver, self.name, reference).await {
            Err(error) if error.is_absence() => Err(self.unknown(here, error, reference).await),
            found => found,
        }
    }

    pub async fn blob(&self, digest: &Digest) -> Result<BlobSource, Error> {
        let here = match self.local().blob(digest).await {
            Err(error) if error.is_absence() => error,
            found => return found,
        };
        match followed::blob(self.resolver, self.name, digest).await {
            // A repository that is here is known, whatever followed names have.
            Err(Error::UnknownName(_)) => Err(here),
            found => found,
        }
    }

    /// Returns the tags after `last`, sorted, at most `most`.
    pub async fn tags(&self, last: &str, most: usize) -> Result<Vec<Tag>, Error> {
        let here = self.local().tags(last, most).await;
        let followed = match followed::tags(self.resolver, self.name).await {
            Ok(tags) => tags,
            Err(error) => return here.map_err(|here| if error.is_absence() { here } else { error }),
        };
        let here = match here {
            Ok(tags) => tags,
            Err(Error::UnknownName(_)) => Vec::new(),
            Err(error) => return Err(error),
        };
        let after = followed.into_iter().filter(|tag| tag.as_str() > last);
        let all: BTreeSet<Tag> = after.chain(here).collect();
        Ok(all.into_iter().take(most).collect())
    }

    /// Returns what refers to a manifest here, of what comes after `last`, and at followed names.
    pub async fn referrers(&self, subject: &Digest, last: &str) -> Result<Referrers, Error> {
        let here = self.local().referrers(subject, last).await?;
        match followed::referrers(self.resolver, self.name, subject, last).await {
            Ok(found) => Ok(here.and(found)),
            Err(error) if error.is_absence() => Ok(here),
            Err(error) => Err(error),
        }
    }

    /// Marks the repository as fresh: pushed content is never stale.
    fn fresh(&self, found: Document) -> Document {
        self.resolver.followed().set_fresh(self.name);
        found
    }

    /// The refusal of a reference that is neither here nor at a followed name.
    async fn unknown(&self, here: Error, there: Error, reference: &Reference) -> Error {
        match (&here, &there) {
            (_, Error::UnknownName(_)) => here,
            (Error::UnknownName(_), _) => there,
            _ => match self.tags("", usize::MAX).await {
                Ok(tags) => Error::UnknownReference {
                    name: self.name.clone(),
                    reference: reference.clone(),
                    instead: listed(&tags),
                },
                Err(_) => here,
            },
        }
    }
}
