//! The locally pushed part of a repository.

use ocipfs_oci::{Descriptor, Digest, Name, Reference, Tag};

use super::{BlobSource, Document, Error, Resolver};
use crate::{
    content::{Blob, StoreError},
    images::{
        MAX_MANIFEST,
        layout::Referrers,
        repository::{Pushed, Repositories, RepositoryBlob},
    },
};

/// Referrers that are read at once.
const REFERRERS_PAGE_SIZE: usize = 500;

/// The part of a repository that was pushed here.
pub struct LocalRepository<'a> {
    pub resolver: &'a Resolver,
    pub name: &'a Name,
}

impl LocalRepository<'_> {
    pub async fn manifest(&self, reference: &Reference) -> Result<Document, Error> {
        let (wanted, name) = (reference.clone(), self.name.clone());
        let pushed = self.ask(move |all| {
            let digest = match wanted {
                Reference::Digest(digest) => Some(digest),
                Reference::Tag(tag) => all.tag(&name, &tag)?,
            };
            digest.map_or(Ok(None), |digest| all.manifest(&name, &digest))
        });
        let Some(Pushed { blob, media_type, .. }) = pushed.await? else {
            return Err(self.unknown(reference).await?);
        };
        let digest = blob.digest.clone();
        let bytes = self.resolver.content.read_blob(&located(blob), MAX_MANIFEST).await?;
        Ok(Document { media_type, digest, bytes })
    }

    async fn unknown(&self, reference: &Reference) -> Result<Error, Error> {
        let name = self.name.clone();
        let (is_there, tags) = self.ask(move |all| Ok((all.has(&name)?, all.tags(&name, "", 5)?))).await?;
        if !is_there {
            return Ok(Error::UnknownName(self.name.clone()));
        }
        let tags: Vec<String> = tags.into_iter().map(|(tag, _)| tag.to_string()).collect();
        let instead = if tags.is_empty() { "a tag, but it has none".into() } else { tags.join(" or ") };
        Ok(Error::UnknownReference { name: self.name.clone(), reference: reference.clone(), instead })
    }

    pub async fn blob(&self, digest: &Digest) -> Result<BlobSource, Error> {
        let (of, name) = (digest.clone(), self.name.clone());
        let (blob, is_there) = self.ask(move |all| Ok((all.blob(&name, &of)?, all.has(&name)?))).await?;
        match blob {
            Some(blob) => Ok(BlobSource::Blob(Box::new(located(blob)))),
            None if is_there => Err(Error::UnknownBlob { name: self.name.clone(), digest: digest.clone() }),
            None => Err(Error::UnknownName(self.name.clone())),
        }
    }

    /// Whether a blob, or a manifest of this digest, was pushed here.
    pub async fn has_blob(&self, digest: &Digest) -> Result<bool, Error> {
        let (of, name) = (digest.clone(), self.name.clone());
        self.ask(move |all| Ok(all.blob(&name, &of)?.is_some() || all.manifest(&name, &of)?.is_some())).await
    }

    /// Whether a manifest was pushed here.
    pub async fn has_manifest(&self, digest: &Digest) -> Result<bool, Error> {
        let (of, name) = (digest.clone(), self.name.clone());
        self.ask(move |all| Ok(all.manifest(&name, &of)?.is_some())).await
    }

    pub async fn tags(&self, last: &str, most: usize) -> Result<Vec<Tag>, Error> {
        let (name, last) = (self.name.clone(), last.to_string());
        let page = move |all: &Repositories| Ok((all.tags(&name, &last, most)?, all.has(&name)?));
        let (tags, is_there) = self.ask(page).await?;
        match is_there {
            true => Ok(tags.into_iter().map(|(tag, _)| tag).collect()),
            false => Err(Error::UnknownName(self.name.clone())),
        }
    }

    /// Returns what refers to a manifest, of what comes after `last`: a page of it.
    pub async fn referrers(&self, subject: &Digest, last: &str) -> Result<Referrers, Error> {
        let (name, subject, last) = (self.name.clone(), subject.clone(), last.to_string());
        let found: Vec<Descriptor> =
            self.ask(move |all| all.referrers(&name, &subject, &last, REFERRERS_PAGE_SIZE)).await?;
        let more_after = found.get(REFERRERS_PAGE_SIZE - 1).map(|referrer| referrer.digest.to_string());
        Ok(Referrers { found, more_after })
    }

    async fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Repositories) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Error> {
        Ok(self.resolver.on_repositories(ask).await?)
    }
}

fn located(blob: RepositoryBlob) -> Blob {
    let RepositoryBlob { digest, size, root } = blob;
    Blob { digest, size, at: root.into(), gc_root: Some(root) }
}
