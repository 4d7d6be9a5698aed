use std::sync::Arc;

use ocipfs_oci::{Descriptor, Digest, Name, Reference};
use tokio::sync::Semaphore;

use crate::{
    content,
    images::signed::{MAX_CHECKS, MAX_SIGNATURES},
    names::{BlobSource, Document, Error, NameKind, Resolver, resolve::layout::IpfsImage},
    signatures::{
        Checked, MAX_PART_BYTES, Policies, SignatureManifest, Signer, Verdict, is_signature_type, tags_of,
    },
};

/// Signatures that are checked at the same time.
static CHECKS: Semaphore = Semaphore::const_new(2);

/// Where signatures of a manifest are searched.
pub enum Evidence<'a> {
    /// Under a name.
    Name { kind: &'a NameKind, resolver: &'a Resolver },
    /// In one version of a followed repository, and in the pushed repository of its name.
    Layout { image: &'a IpfsImage<'a>, resolver: &'a Resolver, name: &'a Name },
}

/// What was found of a manifest.
pub enum Found {
    /// It is a signature itself.
    Signature,
    /// It is signed as the policies say, or not.
    Judged(Verdict),
}

impl Evidence<'_> {
    /// Decides about a manifest, by its own signatures alone.
    pub async fn found(&self, policies: &Arc<Policies>, document: &Document) -> Result<Found, Error> {
        if self.checked(policies, document).await?.is_some() {
            return Ok(Found::Signature);
        }
        let mut signers = self.local_signers(policies, &document.digest).await?;
        let (mut failed, mut signed, mut checks) = (None, 0, 0);
        for candidate in self.candidates(&document.digest).await? {
            if policies.found(&candidate).is_none() {
                if checks >= MAX_CHECKS {
                    continue;
                }
                checks += 1;
            }
            match self.signature(policies, candidate).await {
                Ok(Some(checked)) if checked.subject == document.digest => {
                    signers.extend(&checked.signers);
                    signed += usize::from(!checked.signers.is_empty());
                }
                Ok(_) => {}
                // Others may be enough.
                Err(error) => drop(failed.get_or_insert(error)),
            }
            if signed >= MAX_SIGNATURES {
                break;
            }
        }
        match (policies.judge(self.name().as_str(), &signers, content::now()), failed) {
            (Verdict::Withheld(_), Some(error)) => Err(error),
            (verdict, _) => Ok(Found::Judged(verdict)),
        }
    }

    /// Returns what the manifest of a digest signs, if it is a signature.
    async fn signature(
        &self,
        policies: &Arc<Policies>,
        digest: Digest,
    ) -> Result<Option<Arc<Checked>>, Error> {
        if let Some(found) = policies.found(&digest) {
            return Ok(found);
        }
        match self.manifest(&Reference::Digest(digest)).await {
            Ok(signature) => self.checked(policies, &signature).await,
            Err(error) if error.is_absence() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns what a manifest signs, if it is a signature.
    async fn checked(
        &self,
        policies: &Arc<Policies>,
        document: &Document,
    ) -> Result<Option<Arc<Checked>>, Error> {
        if let Some(found) = policies.found(&document.digest) {
            return Ok(found);
        }
        let Some(parsed) = SignatureManifest::parse(&document.bytes) else {
            return Ok(policies.remember(&document.digest, None));
        };
        // What cannot be read as it should be may be repaired.
        let (config, size) = &parsed.config;
        let Some(config) = self.bytes(config, *size).await? else { return Ok(None) };
        let mut layers = Vec::new();
        for part in &parsed.parts {
            let Some(layer) = self.bytes(&part.digest, part.size).await? else { return Ok(None) };
            layers.push(layer);
        }
        let turn = CHECKS.acquire().await;
        let (by, digest) = (policies.clone(), document.digest.clone());
        let check = move || {
            // Held until the end, even if the client is gone.
            let _turn = turn;
            let checked = parsed.check(by.keys(), &config, &layers, content::now());
            by.remember(&digest, checked)
        };
        // It fails only where the node stops.
        Ok(tokio::task::spawn_blocking(check).await.ok().flatten())
    }

    /// The manifests that may be signatures of a digest.
    async fn candidates(&self, digest: &Digest) -> Result<Vec<Digest>, Error> {
        let mut found = Vec::new();
        for tag in tags_of(digest) {
            match self.manifest(&Reference::Tag(tag)).await {
                Ok(signature) => found.push(signature.digest),
                Err(error) if error.is_absence() => {}
                Err(error) => return Err(error),
            }
        }
        let is_signature = |one: &Descriptor| {
            one.artifact_type.as_ref().is_some_and(|kind| is_signature_type(kind.as_str()))
        };
        found.extend(self.referrers(digest).await?.into_iter().filter(is_signature).map(|one| one.digest));
        Ok(found)
    }

    fn name(&self) -> &Name {
        match self {
            Self::Name { kind, .. } => kind.name(),
            Self::Layout { name, .. } => name,
        }
    }

    fn resolver(&self) -> &Resolver {
        match self {
            Self::Name { resolver, .. } | Self::Layout { resolver, .. } => resolver,
        }
    }

    async fn local_signers(&self, policies: &Arc<Policies>, digest: &Digest) -> Result<Vec<Signer>, Error> {
        match self {
            // The name has what was pushed.
            Self::Name { .. } => Ok(Vec::new()),
            Self::Layout { resolver, name, .. } => Ok(resolver.local_signers(policies, name, digest).await?),
        }
    }

    async fn manifest(&self, reference: &Reference) -> Result<Document, Error> {
        match self {
            Self::Name { kind, resolver } => kind.manifest(resolver, reference).await,
            Self::Layout { image, .. } => image.manifest(reference).await,
        }
    }

    async fn referrers(&self, digest: &Digest) -> Result<Vec<Descriptor>, Error> {
        let found = match self {
            Self::Name { kind, resolver } => kind.referrers(resolver, digest, "").await,
            Self::Layout { image, .. } => image.referrers(digest, "").await,
        };
        match found {
            Err(error) if error.is_absence() => Ok(Vec::new()),
            found => found.map(|referrers| referrers.found),
        }
    }

    /// Reads a blob of a signature; none where it is not what its descriptor says.
    async fn bytes(&self, digest: &Digest, size: u64) -> Result<Option<Vec<u8>>, Error> {
        let located = match self {
            Self::Name { kind, resolver } => kind.locate_blob(resolver, digest).await?,
            Self::Layout { image, .. } => image.blob(digest).await?,
        };
        let bytes = match located {
            BlobSource::Inline(bytes) if bytes.len() as u64 > size => return Ok(None),
            BlobSource::Inline(bytes) => bytes.to_vec(),
            BlobSource::Blob(blob) => {
                let content = self.resolver().content();
                content.read_blob(&blob, size.min(MAX_PART_BYTES)).await?.to_vec()
            }
        };
        let is_right = ocipfs_oci::Hasher::of(digest.algorithm(), &bytes) == *digest;
        Ok(is_right.then_some(bytes))
    }
}
