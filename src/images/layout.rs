//! OCI image layouts in UnixFS: <https://github.com/opencontainers/image-spec/blob/main/image-layout.md>.

mod index;
mod prefetch;
mod referrers;

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use ocipfs_node::Cid;
use ocipfs_oci::{Digest, Tag};
use serde::Deserialize;
use tokio::sync::OnceCell;

use super::{Document, Error, cache::Cache};
use crate::content::{self, Blob, CidPath, Content};
pub use index::{BEGIN, BETWEEN, END, MAX_BYTES, MAX_ENTRIES, SUBJECT};
use index::{Entry, entries, entries_of_chunk, tags};
pub use prefetch::Prefetched;
pub use referrers::Referrers;
use referrers::Referring;

/// Bytes of the layouts in the cache, about: a publisher makes a layout with each push, so a follower reads many small ones.
const CACHE_BYTES: usize = 16 << 20;
/// Bytes of a layout besides its entries, and of each entry: with their texts, and the nodes of the maps.
const LAYOUT_BYTES: usize = 2048;
const ENTRY_BYTES: usize = 512;
/// Nested indexes that are searched for tags, how deep, and how many at a time.
const NESTED: usize = 256;
const DEPTH: usize = 8;
const AT_ONCE: usize = 8;

/// Layouts that were read. A CID never means another, so none is ever stale.
pub struct Layouts(Cache<CidPath, Arc<OnceCell<Arc<Index>>>>);

impl Default for Layouts {
    fn default() -> Self {
        Self(Cache::new(CACHE_BYTES))
    }
}

impl Layouts {
    /// Returns the layout at `at`, if it was read before.
    pub fn known(&self, at: &CidPath, holder: Option<Cid>) -> Option<Layout> {
        let index = self.0.get(at)?.get()?.clone();
        Some(Layout { files: Files { at: at.clone(), holder }, index })
    }

    /// Reads the layout that the directory `at` holds, once for all who ask at a time; its blobs are held under `holder`.
    pub async fn read(&self, content: &Content, at: &CidPath, holder: Option<Cid>) -> Result<Layout, Error> {
        if let Some(known) = self.known(at, holder) {
            return Ok(known);
        }
        let cell = self.0.get_or_insert_with(at, || (Arc::default(), LAYOUT_BYTES));
        let index =
            cell.get_or_try_init(async || Index::read(content, at).await.map(Arc::new)).await?.clone();
        self.0.insert(at.clone(), cell, index.weight);
        Ok(Layout { files: Files { at: at.clone(), holder }, index })
    }
}

/// An image layout, whose index was read.
#[derive(Clone)]
pub struct Layout {
    /// Where its blobs are.
    pub files: Files,
    index: Arc<Index>,
}

/// The files of a layout: its index, and its blobs.
#[derive(Clone)]
pub struct Files {
    at: CidPath,
    /// What its blobs are held under; none where a holder leads to the layout already.
    holder: Option<Cid>,
}

/// What is known of a layout once its index was read.
struct Index {
    tags: BTreeMap<Tag, Entry>,
    /// What stands alone, and so needs no tag.
    only: Option<Entry>,
    /// The entries that are indexes, those without a tag first.
    indexes: Vec<Entry>,
    referring: Referring,
    /// The tags within those, once somebody asked for what has no tag above.
    nested: OnceCell<BTreeMap<Tag, Entry>>,
    weight: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Marker {
    image_layout_version: String,
}

impl Index {
    async fn read(content: &Content, at: &CidPath) -> Result<Self, Error> {
        let files = Files::of(at);
        files.check(content).await?;
        files.entries(content).await.map(Self::new)
    }

    fn new(entries: Vec<Entry>) -> Self {
        let mut indexes: Vec<Entry> = entries.iter().filter(|entry| entry.is_index()).cloned().collect();
        indexes.sort_by_key(|entry| entry.ref_name.is_some());
        let only = if let [only] = entries.as_slice() { Some(only.clone()) } else { None };
        let referring = Referring::of(&entries);
        let weight = LAYOUT_BYTES + ENTRY_BYTES * (entries.len() + indexes.len() + referring.len());
        Self { tags: tags(entries), only, indexes, referring, nested: OnceCell::new(), weight }
    }
}

impl Files {
    /// The files of the layout in the directory `at`, whose blobs a holder leads to already.
    pub fn of(at: &CidPath) -> Self {
        Self { at: at.clone(), holder: None }
    }

    /// Checks that the directory says that it is a layout.
    pub async fn check(&self, content: &Content) -> Result<(), Error> {
        const MARKER: u64 = 64 << 10;
        let path = self.at.below(["oci-layout"]);
        let marker: Marker = serde_json::from_slice(&content.read(&path, MARKER).await?)
            .map_err(|e| malformed(&path, format!("this is no oci-layout ({e})")))?;
        if !marker.image_layout_version.starts_with("1.") {
            let found: String = marker.image_layout_version.chars().take(20).collect();
            return Err(malformed(&path, format!("image layout version {found:?} is not known: 1.x is")));
        }
        Ok(())
    }

    /// Reads all entries of the index.
    async fn entries(&self, content: &Content) -> Result<Vec<Entry>, Error> {
        let path = self.index();
        let bytes = content.read(&path, MAX_BYTES).await?;
        let parsed = tokio::task::spawn_blocking(move || entries(&bytes)).await;
        parsed
            .map_err(|e| malformed(&path, e.to_string()))?
            .map_err(|e| malformed(&path, format!("this is no image index ({e})")))
    }

    /// Reads the entries of the index that its version in the directory `before` may not have: those in new chunks, where it
    /// is cut between entries.
    async fn new_entries(&self, content: &Content, before: Option<&CidPath>) -> Result<Vec<Entry>, Error> {
        let before = match before {
            Some(before) => content.stat(&Self::of(before).index()).await.ok(),
            None => None,
        };
        let Some(before) = before else { return self.entries(content).await };
        let chunks = content.new_chunks(&self.index(), &before.cid, MAX_BYTES).await?;
        let parsed: Option<Vec<_>> = chunks.iter().map(|chunk| entries_of_chunk(chunk)).collect();
        match parsed {
            Some(entries) => Ok(entries.concat()),
            None => self.entries(content).await,
        }
    }

    fn index(&self) -> CidPath {
        self.at.below(["index.json"])
    }

    /// A blob of the layout, which is a manifest where its bytes are one.
    pub async fn blob(&self, content: &Content, digest: &Digest) -> Result<Option<Blob>, Error> {
        let at = self.path(digest);
        match content.stat(&at).await {
            Ok(stat) => Ok(Some(self.at_path(digest.clone(), stat.size, at))),
            Err(content::Error::NoEntry { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn path(&self, digest: &Digest) -> CidPath {
        self.at.below(["blobs", digest.algorithm().as_str(), &digest.hex()])
    }

    fn at_path(&self, digest: Digest, size: u64, at: CidPath) -> Blob {
        Blob { digest, size, at, holder: self.holder }
    }

    async fn document(&self, content: &Content, entry: &Entry) -> Result<Document, Error> {
        let blob = self.at_path(entry.digest.clone(), entry.size, self.path(&entry.digest));
        Document::read(content, &blob, entry.media_type.as_ref()).await
    }
}

fn malformed(at: &CidPath, why: String) -> Error {
    Error::Malformed { at: at.clone(), why }
}

impl Layout {
    /// The manifest of a tag. Where nothing has a tag, what stands alone is `latest`.
    pub async fn tagged(&self, content: &Content, tag: &Tag) -> Result<Option<Document>, Error> {
        let Some(entry) = self.entry(content, tag).await? else { return Ok(None) };
        self.files.document(content, &entry).await.map(Some)
    }

    async fn entry(&self, content: &Content, tag: &Tag) -> Result<Option<Entry>, Error> {
        if let Some(entry) = self.index.tags.get(tag) {
            return Ok(Some(entry.clone()));
        }
        let nested = self.nested(content).await?;
        let untagged = self.index.tags.is_empty() && nested.is_empty();
        let only = self.index.only.as_ref().filter(|_| untagged && tag.is_latest());
        Ok(nested.get(tag).or(only).cloned())
    }

    /// Returns the digest that a tag points at, by what the index says.
    pub async fn digest_of(&self, content: &Content, tag: &Tag) -> Result<Option<Digest>, Error> {
        Ok(self.entry(content, tag).await?.map(|entry| entry.digest))
    }

    /// All tags, sorted.
    pub async fn tags(&self, content: &Content) -> Result<Vec<Tag>, Error> {
        let nested = self.nested(content).await?;
        let mut tags: Vec<Tag> = self.index.tags.keys().chain(nested.keys()).cloned().collect();
        if tags.is_empty() && self.index.only.is_some() {
            tags.push(Tag::latest());
        }
        tags.sort();
        tags.dedup();
        Ok(tags)
    }

    async fn nested(&self, content: &Content) -> Result<&BTreeMap<Tag, Entry>, Error> {
        self.index.nested.get_or_try_init(|| self.search(content)).await
    }

    /// Reads the indexes level by level, each once: an index that leads to itself ends there.
    async fn search(&self, content: &Content) -> Result<BTreeMap<Tag, Entry>, Error> {
        let mut found = BTreeMap::new();
        let (mut seen, mut left, mut level) = (HashSet::new(), NESTED, self.index.indexes.clone());
        for _ in 0..DEPTH {
            level.retain(|entry| seen.insert(entry.digest.clone()));
            level.truncate(left);
            left -= level.len();
            let mut below = Vec::new();
            for some in level.chunks(AT_ONCE) {
                let read = some.iter().map(|entry| self.entries_of(content, entry));
                below.extend(futures::future::try_join_all(read).await?.into_iter().flatten());
            }
            level = below.iter().filter(|entry| entry.is_index()).cloned().collect();
            for (tag, entry) in tags(below) {
                found.entry(tag).or_insert(entry);
            }
        }
        Ok(found)
    }

    /// The entries of an index; none if the layout leaves it out, as one of a single platform may.
    async fn entries_of(&self, content: &Content, index: &Entry) -> Result<Vec<Entry>, Error> {
        let document = match self.files.document(content, index).await {
            Err(Error::Content(content::Error::NoEntry { .. })) => return Ok(Vec::new()),
            document => document?,
        };
        entries(&document.bytes).map_err(|e| Error::Malformed {
            at: self.files.path(&index.digest),
            why: format!("this is no image index ({e})"),
        })
    }
}
