use ocipfs_oci::{Digest, Name, Reference, Tag};

use super::{Error, Pushes};
use crate::{
    images::repository::Repositories,
    names::followed::{self, Target},
};

impl Pushes {
    /// Deletes a tag; its manifest is untagged then.
    pub async fn delete_tag(&self, name: &Name, tag: &Tag) -> Result<(), Error> {
        let (of, deleted) = (name.clone(), tag.clone());
        match self.edit(move |edit| edit.remove_tag(&of, &deleted)).await? {
            true => Ok(()),
            false => Err(self.unknown_manifest(name, Reference::Tag(tag.clone())).await),
        }
    }

    /// Deletes a manifest with its tags, its referrers and all that nothing else in the repository references.
    pub async fn delete_manifest(&self, name: &Name, digest: &Digest) -> Result<(), Error> {
        let (of, deleted) = (name.clone(), digest.clone());
        match self.edit(move |edit| edit.remove_manifest(&of, &deleted)).await? {
            true => Ok(()),
            false => Err(self.unknown_manifest(name, Reference::Digest(digest.clone())).await),
        }
    }

    /// Returns an immutable tag whose image needs a manifest or a blob.
    pub async fn protecting_tag(
        &self,
        name: &Name,
        digest: &Digest,
        is_immutable: impl Fn(&str) -> bool + Send + 'static,
    ) -> Result<Option<String>, Error> {
        let (of, digest) = (name.clone(), digest.clone());
        let find = move |all: &Repositories| all.protecting_tag(&of, &digest, &is_immutable);
        Ok(self.resolver.on_repositories(find).await?)
    }

    /// Deletes a blob from this repository alone.
    pub async fn delete_blob(&self, name: &Name, digest: &Digest) -> Result<(), Error> {
        let (of, deleted) = (name.clone(), digest.clone());
        if self.edit(move |edit| edit.remove_blob(&of, &deleted)).await? {
            return Ok(());
        }
        let (name, digest) = (name.clone(), digest.clone());
        Err(match followed::origin(&self.resolver, &name, &Target::Blob(&digest)).await {
            Some(origin) => Error::Followed { name, reference: Reference::Digest(digest), origin },
            None => Error::UnknownBlob { name, digest },
        })
    }

    /// The refusal to delete a manifest that is not here: a followed name may have it.
    async fn unknown_manifest(&self, name: &Name, reference: Reference) -> Error {
        let name = name.clone();
        match followed::origin(&self.resolver, &name, &Target::Manifest(&reference)).await {
            Some(origin) => Error::Followed { name, reference, origin },
            None => Error::UnknownManifest { name, reference },
        }
    }
}
