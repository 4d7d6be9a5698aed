//! Fetches what a version of a layout has and the one before had not.

use std::collections::{BTreeSet, HashMap, HashSet};

use futures::{StreamExt, stream};
use ocipfs_oci::{Digest, Manifest};

use super::{
    DEPTH, Files,
    index::{Entry, entries},
    referrers::is_unfit,
};
use crate::{
    content::{self, CidPath, Content},
    images::{Document, Error},
};

const AT_ONCE: usize = 8;

/// What became of it.
#[derive(Debug, Default)]
pub struct Prefetched {
    /// Bytes that could not be had.
    pub missing: u64,
    /// Why, where something is missing: the first reason.
    pub why: Option<Error>,
    /// An index names manifests that the layout does not have, and which may come with a later version.
    pub is_sparse: bool,
    /// What manifests say of the sizes of their blobs.
    sizes: HashMap<Digest, u64>,
}

impl Prefetched {
    fn fail(&mut self, bytes: u64, why: Error) {
        self.missing += bytes;
        self.why.get_or_insert(why);
    }
}

impl Files {
    /// Fetches what the index of a version has and that of the one in the directory `before` has not.
    pub async fn prefetch_index(
        &self,
        content: &Content,
        before: Option<&CidPath>,
    ) -> Result<Prefetched, Error> {
        self.new_entries(content, before).await?;
        Ok(Prefetched::default())
    }

    /// Fetches what a version of a layout has and the one in the directory `before` has not: the index, and the manifests
    /// among the blobs `added`; where `all_indexes`, also what earlier indexes name of those. With `with_blobs`, fetches all
    /// of `added`. What cannot be had does not keep it from the rest.
    pub async fn prefetch(
        &self,
        content: &Content,
        before: Option<&CidPath>,
        added: &BTreeSet<Digest>,
        all_indexes: bool,
        with_blobs: bool,
    ) -> Result<Prefetched, Error> {
        let (mut done, mut seen) = (Prefetched::default(), HashSet::new());
        let mut level = self.new_entries(content, before.filter(|_| !all_indexes)).await?;
        for _ in 0..DEPTH {
            let is_due = |entry: &Entry| added.contains(&entry.digest) || (all_indexes && entry.is_index());
            level.retain(|entry| is_due(entry) && seen.insert(entry.digest.clone()));
            if level.is_empty() {
                break;
            }
            level = self.documents(content, level, &mut done).await?;
        }
        if with_blobs {
            for digest in added.iter().filter(|digest| !seen.contains(*digest)) {
                if let Err(why) = self.fetch(content, digest).await {
                    done.fail(done.sizes.get(digest).copied().unwrap_or_default(), why);
                }
            }
        }
        Ok(done)
    }

    /// Fetches manifests; gives the entries of the indexes among them.
    async fn documents(
        &self,
        content: &Content,
        level: Vec<Entry>,
        done: &mut Prefetched,
    ) -> Result<Vec<Entry>, Error> {
        // Nothing is waited for between two of them: those that go on may hold what that waits for.
        let documents = stream::iter(level)
            .map(|entry| async move { (self.kept_document(content, &entry).await, entry) })
            .buffer_unordered(AT_ONCE);
        let documents: Vec<_> = documents.collect().await;
        let mut below = Vec::new();
        for (document, entry) in documents {
            match document {
                Ok(document) if entry.is_index() => {
                    below.extend(entries(&document.bytes).unwrap_or_default());
                }
                Ok(document) => {
                    if let Ok(manifest) = Manifest::parse(&document.bytes) {
                        done.sizes.extend(manifest.blobs().map(|blob| (blob.digest.clone(), blob.size)));
                    }
                }
                Err(Error::Content(content::Error::NoEntry { .. })) => done.is_sparse = true,
                // What is wrong stays so.
                Err(error) if is_unfit(&error) => {}
                Err(error) => done.fail(entry.size, error),
            }
        }
        Ok(below)
    }

    /// Reads a manifest, and sees that it is kept. One that the layout does not have may be here for another reason, and is
    /// not an entry either.
    async fn kept_document(&self, content: &Content, entry: &Entry) -> Result<Document, Error> {
        let document = self.document(content, entry).await?;
        let root = content.stat(&self.path(&entry.digest)).await?.cid;
        content.settled().await;
        // The bytes may be here as another DAG than the layout's.
        match content.has(&entry.digest).await? && content.is_here(&root).await? {
            true => Ok(document),
            false => Err(content::Error::Quota { limit: content.limits().1.unwrap_or_default() }.into()),
        }
    }

    /// Fetches a blob of any kind.
    async fn fetch(&self, content: &Content, digest: &Digest) -> Result<(), Error> {
        let fetched = async {
            let Some(blob) = self.blob(content, digest).await? else { return Ok(()) };
            let root = content.stat(&blob.at).await?.cid;
            match content.has(digest).await? {
                true if content.is_stored(&root).await? => Ok(()),
                // The same bytes are here as another DAG, which this layout does not hold.
                true => {
                    let at = CidPath::from(root).found_by(blob.at.announced());
                    Ok(content.fetch_at(&at).await?.settle(&mut |_| {}).await?)
                }
                false => Ok(content.cache(&blob).await?),
            }
        };
        match fetched.await {
            // What does not fit into the cache is passed over: it can still be streamed.
            Err(Error::Content(content::Error::NoRoom { size })) => {
                tracing::debug!(%digest, size, "not prefetched: it does not fit into the cache");
                Ok(())
            }
            Err(error) if is_unfit(&error) => Ok(()),
            fetched => fetched,
        }
    }

    /// Whether a manifest and everything that it leads to is here whole.
    pub async fn is_whole(&self, content: &Content, digest: &Digest) -> Result<bool, Error> {
        let (mut waiting, mut seen) = (vec![digest.clone()], HashSet::new());
        while let Some(digest) = waiting.pop() {
            if !seen.insert(digest.clone()) {
                continue;
            }
            if !content.has(&digest).await? {
                return Ok(false);
            }
            let Some(blob) = self.blob(content, &digest).await? else { continue };
            let bytes = content.read_blob(&blob, crate::images::MAX_MANIFEST).await?;
            if let Ok(manifest) = Manifest::parse(&bytes) {
                for blob in manifest.blobs() {
                    // One that the publisher has not either does not belong to the image here.
                    if !content.has(&blob.digest).await? && self.blob(content, &blob.digest).await?.is_some()
                    {
                        return Ok(false);
                    }
                }
            } else if let Ok(children) = entries(&bytes) {
                waiting.extend(children.into_iter().map(|child| child.digest));
            }
        }
        Ok(true)
    }
}
