//! All that an image consists of: its manifests and blobs, and what refers to them.

mod platforms;
mod reduced;

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use ocipfs_oci::{Descriptor, Digest, Index, Manifest, Platform, Reference, Tag};

use super::{Error, NameKind, Resolver};
use crate::images::{
    self, Referrer,
    archive::{self, ManifestOrIndex, stem_of, tag_stem},
    layout::Referrers,
};

/// Manifests and indexes of one image, with its referrers.
const MAX_DOCUMENTS: usize = 10_000;
/// Their bytes, which are in memory.
const MAX_DOCUMENT_BYTES: usize = 64 << 20;
/// Tags that are listed at a time.
const TAGS_PAGE: usize = 1000;

/// Why an image cannot be read whole.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// Something of it was not found, or cannot be read.
    #[error(transparent)]
    Names(#[from] Error),
    /// What refers to it cannot be listed or read.
    #[error("cannot read the referrers of the image: {0}")]
    Referrers(#[source] Error),
    /// One of its manifests is invalid.
    #[error(transparent)]
    Document(#[from] archive::Error),
    /// An index has none of the platforms.
    #[error("index {digest} has no {}: it has {}", wanted.join(" or "), found.join(", "))]
    NoPlatform {
        /// The index.
        digest: Digest,
        /// The platforms that are wanted.
        wanted: Vec<String>,
        /// Those that it has.
        found: Vec<String>,
    },
    /// It is too large.
    #[error("the image has too many manifests: the limit is {MAX_DOCUMENTS} manifests of {} MiB", MAX_DOCUMENT_BYTES >> 20)]
    TooLarge,
}

/// What is read of an image.
#[derive(Clone, Copy, Debug, Default)]
pub struct TreeOptions<'a> {
    /// Whether what refers to it is read too.
    pub referrers: bool,
    /// The platforms that are read of an index; all if there are none.
    pub platforms: &'a [Platform],
}

impl TreeOptions<'_> {
    /// All of it, with what refers to it.
    pub const WHOLE: Self = Self { referrers: true, platforms: &[] };
}

/// An image down to its blobs.
pub struct ImageTree {
    /// What the reference names.
    pub top: Descriptor,
    /// Its manifests and indexes, and those of its referrers, in the order in which they were found: an index is before what
    /// only it names.
    pub order: Vec<Descriptor>,
    /// Its manifests and indexes, and those of its referrers.
    pub documents: BTreeMap<Digest, Bytes>,
    /// The manifests among them that are the image's own.
    pub manifests: Vec<(Descriptor, Manifest)>,
    /// Sizes of all other blobs. Foreign layers are among them where they were found.
    pub blobs: BTreeMap<Digest, u64>,
    /// Foreign layers that were not found.
    pub absent: HashSet<Digest>,
    /// What refers to one of the documents and is not part of an index among them.
    pub referrers: Vec<Referrer>,
    /// Parts that are missing.
    pub warnings: Vec<String>,
}

impl ImageTree {
    /// Reads the manifests of an image, and of its referrers if they are wanted. Blobs are looked up where they may be
    /// absent, and are not fetched.
    pub async fn read(
        resolver: &Resolver,
        kind: &NameKind,
        reference: &Reference,
        options: TreeOptions<'_>,
    ) -> Result<Self, TreeError> {
        let mut walk = TreeWalk::new(resolver, kind, options.platforms);
        let found = kind.manifest(resolver, reference).await?.detached();
        let top = Descriptor::new(found.media_type, found.digest, found.bytes.len() as u64);
        walk.add(top.clone(), found.bytes).await?;
        let own_manifests = walk.manifests.len();
        if options.referrers {
            walk.referrers().await?;
        }
        walk.manifests.truncate(own_manifests);
        let TreeWalk { documents, order, manifests, blobs, absent, referrers, warnings, .. } = walk;
        Ok(Self { top, order, documents, manifests, blobs, absent, referrers, warnings })
    }
}

struct TreeWalk<'a> {
    resolver: &'a Resolver,
    kind: &'a NameKind,
    platforms: &'a [Platform],
    documents: BTreeMap<Digest, Bytes>,
    /// The documents, in the order in which they were found.
    order: Vec<Descriptor>,
    document_bytes: usize,
    manifests: Vec<(Descriptor, Manifest)>,
    blobs: BTreeMap<Digest, u64>,
    absent: HashSet<Digest>,
    referrers: Vec<Referrer>,
    warnings: Vec<String>,
}

impl<'a> TreeWalk<'a> {
    fn new(resolver: &'a Resolver, kind: &'a NameKind, platforms: &'a [Platform]) -> Self {
        let (documents, order, document_bytes, manifests) = Default::default();
        let (blobs, absent, referrers, warnings) = Default::default();
        Self {
            resolver,
            kind,
            platforms,
            documents,
            order,
            document_bytes,
            manifests,
            blobs,
            absent,
            referrers,
            warnings,
        }
    }

    /// Takes a document and all below it.
    async fn add(&mut self, descriptor: Descriptor, bytes: Bytes) -> Result<(), TreeError> {
        let mut waiting = vec![(descriptor, bytes)];
        while let Some((descriptor, bytes)) = waiting.pop() {
            if self.documents.contains_key(&descriptor.digest) {
                continue;
            }
            self.document_bytes += bytes.len();
            if self.order.len() >= MAX_DOCUMENTS || self.document_bytes > MAX_DOCUMENT_BYTES {
                return Err(TreeError::TooLarge);
            }
            self.order.push(descriptor.clone());
            self.documents.insert(descriptor.digest.clone(), bytes.clone());
            match ManifestOrIndex::of(&descriptor, &bytes)? {
                Some(ManifestOrIndex::Manifest(manifest)) => {
                    self.manifest(&manifest).await?;
                    self.manifests.push((descriptor, *manifest));
                }
                Some(ManifestOrIndex::Index(index)) => waiting.extend(self.index(*index, &descriptor).await?),
                // Of a manifest of another kind it is not known what belongs to it.
                None => {}
            }
        }
        Ok(())
    }

    /// Takes the blobs of a manifest. Foreign layers need not be here.
    async fn manifest(&mut self, manifest: &Manifest) -> Result<(), TreeError> {
        for blob in manifest.blobs() {
            match blob.is_foreign() && !self.has_blob(blob).await? {
                true => drop(self.absent.insert(blob.digest.clone())),
                false => drop(self.blobs.insert(blob.digest.clone(), blob.size)),
            }
        }
        Ok(())
    }

    async fn has_blob(&self, blob: &Descriptor) -> Result<bool, TreeError> {
        match self.kind.locate_blob(self.resolver, &blob.digest).await {
            Ok(_) => Ok(true),
            // Its `urls` lead to the web.
            Err(Error::Image { why: images::Error::Elsewhere { .. }, .. }) => Ok(false),
            Err(error) if error.is_absence() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the entries of an index that are blobs, as in a cache of BuildKit; gives those that are manifests.
    async fn index(
        &mut self,
        index: Index,
        descriptor: &Descriptor,
    ) -> Result<Vec<(Descriptor, Bytes)>, TreeError> {
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        let entries = platforms::wanted(index.manifests, self.platforms).map_err(|found| {
            let wanted = self.platforms.iter().map(Platform::to_string).collect();
            TreeError::NoPlatform { digest: descriptor.digest.clone(), wanted, found }
        })?;
        let count = entries.len();
        for child in entries {
            match self.entry(&child).await {
                Ok(Some(bytes)) => found.push((child, bytes)),
                Ok(None) => {}
                Err(error) => missing.push((child.digest, error)),
            }
        }
        let is_empty = missing.len() == count;
        for (digest, error) in missing {
            if is_empty {
                return Err(error.into());
            }
            self.warnings.push(format!("skipped {digest}, which {} lists: {error}", descriptor.digest));
        }
        Ok(found)
    }

    /// Returns the manifest that an entry of an index names; none where it is a blob.
    async fn entry(&mut self, entry: &Descriptor) -> Result<Option<Bytes>, Error> {
        let is_manifest = ManifestOrIndex::is(entry);
        // Where nothing says what it is, its bytes do.
        if is_manifest || entry.media_type.as_str().is_empty() {
            match self.bytes(entry).await {
                Ok(bytes) => return Ok(Some(bytes)),
                Err(error) if is_manifest => return Err(error),
                Err(_) => {}
            }
        }
        match self.kind.locate_blob(self.resolver, &entry.digest).await {
            Ok(_) => {
                self.blobs.insert(entry.digest.clone(), entry.size);
                Ok(None)
            }
            // A pushed manifest of a kind that is not known here.
            Err(error) if error.is_absence() => self.bytes(entry).await.map(Some),
            Err(error) => Err(error),
        }
    }

    async fn bytes(&self, manifest: &Descriptor) -> Result<Bytes, Error> {
        let reference = Reference::Digest(manifest.digest.clone());
        Ok(self.kind.manifest(self.resolver, &reference).await?.detached().bytes)
    }

    /// Takes what refers to the documents, then what refers to that.
    async fn referrers(&mut self) -> Result<(), TreeError> {
        let mut tags = self.tags().await.map_err(TreeError::Referrers)?;
        let mut at = 0;
        while let Some(subject) = self.order.get(at).map(|document| document.digest.clone()) {
            at += 1;
            for tag in tags.remove(&stem_of(&subject)).unwrap_or_default() {
                self.referrer(&Reference::Tag(tag.clone()), Some(tag), None, &subject).await?;
            }
            let mut last = String::new();
            loop {
                let page = self.page(&subject, &last).await.map_err(TreeError::Referrers)?;
                for found in page.found {
                    if !self.documents.contains_key(&found.digest) {
                        let reference = Reference::Digest(found.digest.clone());
                        self.referrer(&reference, None, Some(&found), &subject).await?;
                    }
                }
                let Some(more_after) = page.more_after else { break };
                last = more_after;
            }
        }
        Ok(())
    }

    async fn page(&self, subject: &Digest, last: &str) -> Result<Referrers, Error> {
        match self.kind.referrers(self.resolver, subject, last).await {
            Err(error) if error.is_absence() => Ok(Referrers::default()),
            page => page,
        }
    }

    /// Takes one referrer; `said` is what its subject tells of it.
    async fn referrer(
        &mut self,
        reference: &Reference,
        tag: Option<Tag>,
        said: Option<&Descriptor>,
        subject: &Digest,
    ) -> Result<(), TreeError> {
        let found = match self.kind.manifest(self.resolver, reference).await {
            Ok(found) => found.detached(),
            Err(error) if error.is_absence() => {
                self.warnings.push(format!("skipped {reference}, which refers to {subject}: {error}"));
                return Ok(());
            }
            Err(error) => return Err(TreeError::Referrers(error)),
        };
        let mut top = Descriptor::new(found.media_type, found.digest, found.bytes.len() as u64);
        top.artifact_type = said.and_then(|said| said.artifact_type.clone());
        self.referrers.push(Referrer { top: top.clone(), tag, subject: subject.clone() });
        self.add(top, found.bytes).await
    }

    /// Returns the tags that are made of a digest, by what they have of it: signatures of cosign, and the fall-back of the
    /// referrers API.
    async fn tags(&self) -> Result<HashMap<String, Vec<Tag>>, Error> {
        // They begin with the name of the algorithm; tags before and after it are passed over.
        const BEFORE: &str = "sha";
        const AFTER: &str = "sha~";
        let mut all: HashMap<String, Vec<Tag>> = HashMap::new();
        let mut last = BEFORE.to_string();
        loop {
            let page = match self.kind.tags_after(self.resolver, &last, TAGS_PAGE).await {
                Err(error) if error.is_absence() => Vec::new(),
                page => page?,
            };
            let Some(end) = page.last().map(Tag::to_string) else { return Ok(all) };
            for tag in page {
                if let Some(stem) = tag_stem(&tag).map(str::to_string) {
                    all.entry(stem).or_default().push(tag);
                }
            }
            if end.as_str() > AFTER {
                return Ok(all);
            }
            last = end;
        }
    }
}
