//! OCI image layouts in UnixFS: <https://github.com/opencontainers/image-spec/blob/main/image-layout.md>.

mod annotations;
mod count;
mod index;
mod prefetch;
mod referrers;
mod search;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashSet},
    io::BufReader,
    sync::Arc,
};

use ocipfs_node::Cid;
use ocipfs_oci::{Digest, MediaType, Tag};
use serde::Deserialize;
use tokio::sync::OnceCell;

use super::{Document, Error, cache::Cache, parse};
use crate::content::{self, Blob, CidPath, Content};
pub use count::FetchCount;
pub use index::{BEGIN, BETWEEN, END, MAX_BYTES, MAX_ENTRIES, SUBJECT};
use index::{Entry, Tags, each_from, entries_of_chunk};
pub use prefetch::Prefetched;
pub use referrers::Referrers;
use referrers::Referring;

/// Bytes of a layout besides its entries, and of each entry: with their texts, and the nodes of the maps.
const LAYOUT_BYTES: usize = 2048;
const ENTRY_BYTES: usize = 512;
/// Nested indexes that are searched for tags, and how deep. Together they may have as many entries as one index.
const MAX_NESTED: usize = 256;
const MAX_DEPTH: usize = 8;
/// Manifests that are read at a time.
const CONCURRENCY: usize = 8;

type Remembered = Cache<CidPath, Arc<OnceCell<Arc<LayoutIndex>>>>;

/// Layouts that were read. A CID never means another, so none is ever stale. What one viewer read is given to those who may
/// read it themselves. Clones share them.
#[derive(Clone)]
pub struct Layouts(Arc<Remembered>);

impl Layouts {
    /// Holds layouts of about so many bytes: a publisher makes a layout with each push, so a follower reads many small ones.
    pub fn new(bytes: u64) -> Self {
        Self(Arc::new(Cache::new(usize::try_from(bytes).unwrap_or(usize::MAX))))
    }

    /// Returns the layout at `at`, if it was read before and the viewer of the task may read it.
    pub async fn known(
        &self,
        content: &Content,
        at: &CidPath,
        gc_root: Option<Cid>,
    ) -> Result<Option<Layout>, Error> {
        let index = self.0.get(at).and_then(|cell| cell.get().cloned());
        let Some(index) = index else { return Ok(None) };
        let is_visible = index.is_visible(content).await?;
        Ok(is_visible.then(|| self.layout(at, gc_root, index)))
    }

    /// Reads the layout that the directory `at` holds, once for all who ask at a time; its blobs are retained under `gc_root`.
    pub async fn read(&self, content: &Content, at: &CidPath, gc_root: Option<Cid>) -> Result<Layout, Error> {
        let cell = self.0.get_or_insert_with(at, || (Arc::default(), LAYOUT_BYTES));
        let mut is_own = false;
        let read = cell.get_or_try_init(|| {
            is_own = true;
            async move { LayoutIndex::read(content, at).await.map(Arc::new) }
        });
        let mut index = read.await?.clone();
        if is_own {
            self.0.insert(at.clone(), cell, index.weight());
        } else if !index.is_visible(content).await? {
            // Another viewer has read it. This one gets what it finds by itself, which is a refusal or comes from peers.
            index = Arc::new(LayoutIndex::read(content, at).await?);
        }
        Ok(self.layout(at, gc_root, index))
    }

    fn layout(&self, at: &CidPath, gc_root: Option<Cid>, index: Arc<LayoutIndex>) -> Layout {
        Layout { files: Files { at: at.clone(), gc_root }, index, all: self.clone() }
    }
}

/// An image layout, whose index was read.
#[derive(Clone)]
pub struct Layout {
    /// Where its blobs are.
    pub files: Files,
    index: Arc<LayoutIndex>,
    all: Layouts,
}

/// The files of a layout: its index, and its blobs.
#[derive(Clone)]
pub struct Files {
    at: CidPath,
    /// Key of the GC root for its blobs; none if a GC root leads to the layout already.
    gc_root: Option<Cid>,
}

/// Contents of a layout's `index.json`.
struct LayoutIndex {
    /// The directory of the layout, and the file that it was read from.
    read_from: [Cid; 2],
    tags: BTreeMap<Tag, Entry>,
    /// The only entry, which needs no tag; none where the index says that it names all tags.
    only: Option<Entry>,
    /// The entries that are indexes and may name tags, those without a tag first.
    indexes: Vec<Entry>,
    referring: Referring,
    /// The tags within those; filled by the first request for a tag that the top index lacks.
    nested: OnceCell<Nested>,
}

/// The tags of nested indexes.
#[derive(Default)]
struct Nested {
    tags: BTreeMap<Tag, Entry>,
    /// The indexes have too many entries: not all were searched.
    is_cut: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Marker {
    image_layout_version: String,
}

impl LayoutIndex {
    /// About as many bytes as it has in memory.
    fn weight(&self) -> usize {
        let nested = self.nested.get().map_or(0, |nested| nested.tags.len());
        LAYOUT_BYTES + ENTRY_BYTES * (self.tags.len() + self.indexes.len() + self.referring.len() + nested)
    }

    async fn read(content: &Content, at: &CidPath) -> Result<Self, Error> {
        let files = Files::of(at);
        files.check(content).await?;
        let mut gathered = GatheredEntries::default();
        let read_from = [content.directory(at).await?, content.stat(&files.index()).await?.cid];
        let read = files.read_index(content, move |json| {
            let mut left = MAX_ENTRIES;
            let names_all_tags = each_from(json, &mut left, |entry| gathered.add(entry))?;
            Ok(gathered.finish(names_all_tags, read_from))
        });
        read.await
    }

    /// Whether the viewer of the task may read what this was read from.
    async fn is_visible(&self, content: &Content) -> Result<bool, Error> {
        for cid in self.read_from {
            if !content.may_be_read(cid).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Data collected from the entries of an `index.json`, which are read one by one.
#[derive(Default)]
struct GatheredEntries {
    count: usize,
    first: Option<Entry>,
    tags: Tags,
    /// The indexes without a tag, and those with one, each once.
    untagged: Vec<Entry>,
    tagged: Vec<Entry>,
    seen: HashSet<Digest>,
    referring: referrers::GatheredReferrers,
}

impl GatheredEntries {
    fn add(&mut self, entry: Entry) {
        self.count += 1;
        if self.first.is_none() {
            self.first = Some(entry.clone());
        }
        let indexes = if entry.ref_name.is_some() { &mut self.tagged } else { &mut self.untagged };
        if entry.is_index() && indexes.len() < MAX_NESTED && self.seen.insert(entry.digest.clone()) {
            indexes.push(entry.clone());
        }
        self.referring.add(&entry);
        self.tags.add(entry);
    }

    /// Where the index names all tags, nothing else gives one.
    fn finish(self, names_all_tags: bool, read_from: [Cid; 2]) -> LayoutIndex {
        let Self { count, first, tags, mut untagged, tagged, referring, .. } = self;
        untagged.extend(tagged);
        let (tags, referring) = (tags.finish(), referring.finish());
        let (only, indexes) = match names_all_tags {
            true => (None, Vec::new()),
            false => (first.filter(|_| count == 1), untagged),
        };
        LayoutIndex { read_from, tags, only, indexes, referring, nested: OnceCell::new() }
    }
}

impl Files {
    /// The files of the layout in the directory `at`, whose blobs a GC root retains already.
    pub fn of(at: &CidPath) -> Self {
        Self { at: at.clone(), gc_root: None }
    }

    /// Checks that the directory says that it is a layout.
    pub async fn check(&self, content: &Content) -> Result<(), Error> {
        const MAX_MARKER_BYTES: u64 = 64 << 10;
        let path = self.at.below(["oci-layout"]);
        let marker: Marker = serde_json::from_slice(&content.read(&path, MAX_MARKER_BYTES).await?)
            .map_err(|e| malformed(&path, format!("invalid oci-layout: {e}")))?;
        if !marker.image_layout_version.starts_with("1.") {
            let found: String = marker.image_layout_version.chars().take(20).collect();
            return Err(malformed(
                &path,
                format!("unsupported image layout version {found:?}: expected 1.x"),
            ));
        }
        Ok(())
    }

    /// Gives the index to `parse` as it is read.
    async fn read_index<T: Send + 'static>(
        &self,
        content: &Content,
        parse: impl FnOnce(BufReader<parse::Json>) -> Result<T, serde_json::Error> + Send + 'static,
    ) -> Result<T, Error> {
        let path = self.index();
        let document = content.open_document(&path, MAX_BYTES).await?;
        let parsed = parse::read(document, parse).await?;
        parsed.map_err(|e| malformed(&path, format!("invalid image index: {e}")))
    }

    /// Fetches the index, and gives its entries that are due. Where its version in the directory `before` is here, and it is
    /// cut between entries, only those in new chunks are looked at.
    async fn due_entries(
        &self,
        content: &Content,
        before: Option<&CidPath>,
        is_due: impl Fn(&Entry) -> bool + Send + 'static,
    ) -> Result<Vec<Entry>, Error> {
        let before = match before {
            Some(before) => content.stat(&Self::of(before).index()).await.ok(),
            None => None,
        };
        let mut due = Vec::new();
        if let Some(before) = before {
            let take = |chunk: &[u8]| {
                let entries = entries_of_chunk(chunk);
                let is_cut_there = entries.is_some();
                due.extend(entries.into_iter().flatten().filter(&is_due));
                is_cut_there
            };
            if content.new_chunks(&self.index(), &before.cid, MAX_BYTES, take).await? {
                return Ok(due);
            }
            due.clear();
        }
        let all = self.read_index(content, move |json| {
            let mut left = MAX_ENTRIES;
            each_from(json, &mut left, |entry| due.extend(Some(entry).filter(&is_due))).map(|_| due)
        });
        all.await
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
        Blob { digest, size, at, gc_root: self.gc_root }
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

    /// The manifest of a digest; none where the layout has no such blob, or one that is not a manifest.
    pub async fn by_digest(&self, content: &Content, digest: &Digest) -> Result<Option<Document>, Error> {
        let Some(blob) = self.files.blob(content, digest).await? else { return Ok(None) };
        let mut found = Document::read(content, &blob, self.media_type_of(digest)).await;
        if matches!(found, Err(Error::Malformed { .. })) {
            // Where the index says something else of it, the document decides.
            found = Document::read(content, &blob, None).await;
        }
        match found {
            Err(Error::NotAManifest { .. }) => Ok(None),
            found => found.map(Some),
        }
    }

    /// What the index says of a digest, as far as its entries are known.
    fn media_type_of(&self, digest: &Digest) -> Option<&MediaType> {
        let LayoutIndex { tags, only, indexes, referring, .. } = &*self.index;
        let known = tags.values().chain(only).chain(indexes).chain(referring.entries());
        known.filter(|entry| entry.digest == *digest).find_map(|entry| entry.media_type.as_ref())
    }

    async fn entry(&self, content: &Content, tag: &Tag) -> Result<Option<Entry>, Error> {
        if let Some(entry) = self.index.tags.get(tag) {
            return Ok(Some(entry.clone()));
        }
        let nested = self.nested(content).await?;
        if let Some(entry) = nested.tags.get(tag) {
            return Ok(Some(entry.clone()));
        }
        self.is_all_of(nested)?;
        let untagged = self.index.tags.is_empty() && nested.tags.is_empty();
        Ok(self.index.only.as_ref().filter(|_| untagged && tag.is_latest()).cloned())
    }

    /// Refuses tags where not all of them are known.
    fn is_all_of(&self, nested: &Nested) -> Result<(), Error> {
        let why =
            || format!("the nested indexes have more than {MAX_ENTRIES} entries: not all were searched");
        match nested.is_cut {
            true => Err(malformed(&self.files.at, why())),
            false => Ok(()),
        }
    }

    /// Returns the digest that a tag points at, by what the index says.
    pub async fn digest_of(&self, content: &Content, tag: &Tag) -> Result<Option<Digest>, Error> {
        Ok(self.entry(content, tag).await?.map(|entry| entry.digest))
    }

    /// All tags, sorted.
    pub async fn tags(&self, content: &Content) -> Result<Vec<Tag>, Error> {
        let nested = self.nested(content).await?;
        self.is_all_of(nested)?;
        let mut tags: Vec<Tag> = self.index.tags.keys().chain(nested.tags.keys()).cloned().collect();
        if tags.is_empty() && self.index.only.is_some() {
            tags.push(Tag::latest());
        }
        tags.sort();
        tags.dedup();
        Ok(tags)
    }

    async fn nested(&self, content: &Content) -> Result<&Nested, Error> {
        let nested = self.index.nested.get_or_try_init(|| self.search(content)).await?;
        self.all.0.weigh(&self.files.at, self.index.weight());
        Ok(nested)
    }
}
