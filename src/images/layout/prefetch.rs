//! Fetches what a version of a layout has and the one before had not.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::{StreamExt, stream};
use ocipfs_oci::Digest;

use super::{
    FetchCount, Files, MAX_DEPTH,
    index::{Entry, MAX_ENTRIES, each},
    referrers::is_unfit,
};
use crate::{
    content::{self, CidPath, Content},
    images::{Document, Error, MAX_MANIFEST, outline},
};

const CONCURRENCY: usize = 8;

/// Result of a prefetch.
#[derive(Debug)]
pub struct Prefetched {
    /// Bytes that could not be had.
    pub missing: u64,
    /// Why, where something is missing: the first reason.
    pub why: Option<Error>,
    /// An index names manifests that the layout does not have, and which may come with a later version.
    pub is_sparse: bool,
    /// Sizes of blobs, as manifests declare them.
    sizes: HashMap<Digest, u64>,
    /// Entries that are not manifests.
    unfit: HashSet<Digest>,
    /// Entries that nested indexes may still have, over all of them.
    entries_left: usize,
}

impl Default for Prefetched {
    fn default() -> Self {
        let (missing, why, is_sparse, sizes, unfit) = Default::default();
        Self { missing, why, is_sparse, sizes, unfit, entries_left: MAX_ENTRIES }
    }
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
        self.due_entries(content, before, |_| false).await?;
        Ok(Prefetched::default())
    }

    /// Fetches what a version of a layout has and the one in the directory `before` has not: the index, and the manifests
    /// among the blobs `added`; where `all_indexes`, also what earlier indexes name of those. With `blobs`, fetches all
    /// of `added`, and counts the bytes that manifests declare. What cannot be had does not keep it from the rest.
    pub async fn prefetch(
        &self,
        content: &Content,
        before: Option<&CidPath>,
        added: &Arc<BTreeSet<Digest>>,
        all_indexes: bool,
        blobs: Option<&FetchCount>,
    ) -> Result<Prefetched, Error> {
        let (mut done, mut seen) = (Prefetched::default(), HashSet::new());
        let before = before.filter(|_| !all_indexes);
        self.prefetch_manifests(content, before, added, all_indexes, &mut done, &mut seen).await?;
        // What no new entry leads to may be a manifest that the layout named before it had it.
        let is_explained = |digest: &Digest| seen.contains(digest) || done.sizes.contains_key(digest);
        if !all_indexes && !added.iter().all(is_explained) {
            self.prefetch_manifests(content, None, added, true, &mut done, &mut seen).await?;
        }
        if let Some(count) = blobs {
            let is_due = |digest: &&Digest| !seen.contains(*digest) || done.unfit.contains(*digest);
            let due = added.iter().filter(is_due);
            let due: Vec<(&Digest, u64)> =
                due.map(|digest| (digest, done.sizes.get(digest).copied().unwrap_or_default())).collect();
            count.expect(due.iter().map(|(_, size)| size).sum());
            for (digest, size) in due {
                if let Err(why) = self.fetch_counted(content, digest, size, count).await {
                    done.fail(size, why);
                }
            }
        }
        Ok(done)
    }

    /// Fetches a blob of any kind, and counts its bytes: as many as manifests declare, once all is here. What is passed over
    /// stays due.
    async fn fetch_counted(
        &self,
        content: &Content,
        digest: &Digest,
        size: u64,
        count: &FetchCount,
    ) -> Result<(), Error> {
        let mut counted = 0;
        let mut progress = |here: u64| {
            let here = here.min(size);
            count.add(here.saturating_sub(counted));
            counted = counted.max(here);
        };
        if self.fetch(content, digest, &mut progress).await? {
            progress(size);
        }
        Ok(())
    }

    /// Fetches manifests level by level, each once.
    async fn prefetch_manifests(
        &self,
        content: &Content,
        before: Option<&CidPath>,
        added: &Arc<BTreeSet<Digest>>,
        all_indexes: bool,
        done: &mut Prefetched,
        seen: &mut HashSet<Digest>,
    ) -> Result<(), Error> {
        let of = added.clone();
        let is_due = move |entry: &Entry| of.contains(&entry.digest) || (all_indexes && entry.is_index());
        let mut level = self.due_entries(content, before, is_due.clone()).await?;
        for _ in 0..MAX_DEPTH {
            level.retain(|entry| seen.insert(entry.digest.clone()));
            if level.is_empty() {
                break;
            }
            level = self.documents(content, level, &is_due, added, done).await;
        }
        Ok(())
    }

    /// Fetches manifests; gives the entries of the indexes among them that are due. Of each document only
    /// what counts is kept.
    async fn documents(
        &self,
        content: &Content,
        level: Vec<Entry>,
        is_due: &(dyn Fn(&Entry) -> bool + Sync),
        added: &BTreeSet<Digest>,
        done: &mut Prefetched,
    ) -> Vec<Entry> {
        let left = AtomicUsize::new(done.entries_left);
        let left_now = &left;
        // Nothing is waited for between two of them: those that go on may hold what that waits for.
        let documents = stream::iter(level).map(|entry| async move {
            let take = |document: &Document| match entry.is_index() {
                true => ReadDocument::Entries(due_entries(&document.bytes, left_now, is_due)),
                false => ReadDocument::Sizes(sizes(&document.bytes, added)),
            };
            (self.kept_document(content, &entry, take).await, entry)
        });
        let mut documents = std::pin::pin!(documents.buffer_unordered(CONCURRENCY));
        let mut below = Vec::new();
        while let Some((taken, entry)) = documents.next().await {
            match taken {
                Ok(ReadDocument::Entries(entries)) => below.extend(entries),
                Ok(ReadDocument::Sizes(sizes)) => done.sizes.extend(sizes),
                Err(Error::Content(content::Error::NoEntry { .. })) => done.is_sparse = true,
                // What is wrong stays so, and what is not a manifest is a blob all the same.
                Err(error) if is_unfit(&error) => drop(done.unfit.insert(entry.digest)),
                Err(error) => done.fail(entry.size, error),
            }
        }
        done.entries_left = left.load(Ordering::Relaxed);
        below
    }

    /// Reads a manifest, takes what counts of it, and sees that it is kept. One that the layout does not have may be here for
    /// another reason, and is not an entry either.
    async fn kept_document<T>(
        &self,
        content: &Content,
        entry: &Entry,
        take: impl FnOnce(&Document) -> T,
    ) -> Result<T, Error> {
        let taken = take(&self.document(content, entry).await?);
        let root = content.stat(&self.path(&entry.digest)).await?.cid;
        content.wait_for_blocks().await;
        // The bytes may be here as another DAG than the layout's.
        match content.has(&entry.digest).await? && content.is_here(&root).await? {
            true => Ok(taken),
            false => Err(content::Error::Quota { limit: content.limits().1.unwrap_or_default() }.into()),
        }
    }

    /// Fetches a blob of any kind. Returns false if it is passed over.
    async fn fetch(
        &self,
        content: &Content,
        digest: &Digest,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<bool, Error> {
        let fetched = async {
            let Some(blob) = self.blob(content, digest).await? else { return Ok(()) };
            let root = content.stat(&blob.at).await?.cid;
            match content.has(digest).await? {
                true if content.is_stored(&root).await? => Ok(()),
                // The same bytes are here as another DAG, which this layout does not hold.
                true => {
                    let at = CidPath::from(root).with_search_root(blob.at.search_root());
                    Ok(content.fetch_at(&at).await?.wait_until_stored(progress).await?)
                }
                false => Ok(content.cache_with(&blob, progress).await?),
            }
        };
        match fetched.await {
            // What does not fit into the cache is passed over: it can still be streamed.
            Err(Error::Content(content::Error::NoRoom { size })) => {
                tracing::debug!(%digest, size, "not prefetched: it does not fit in the cache");
                Ok(false)
            }
            Err(error) if is_unfit(&error) => Ok(true),
            fetched => fetched.map(|()| true),
        }
    }

    /// Whether a manifest and everything that it leads to is here whole.
    pub async fn is_whole(&self, content: &Content, digest: &Digest) -> Result<bool, Error> {
        let (mut waiting, mut seen) = (vec![digest.clone()], HashSet::new());
        let mut left = MAX_ENTRIES;
        while let Some(digest) = waiting.pop() {
            if !seen.insert(digest.clone()) {
                continue;
            }
            if !content.has(&digest).await? {
                return Ok(false);
            }
            let Some(blob) = self.blob(content, &digest).await? else { continue };
            let bytes = content.read_blob(&blob, MAX_MANIFEST).await?;
            let Ok(links) = outline::of_manifest(&bytes) else {
                // What is not an index leads nowhere, and of one that is too long the first entries count.
                let _ = each(&bytes, &mut left, |child| waiting.push(child.digest));
                continue;
            };
            drop(bytes);
            for link in links {
                // One that the publisher has not either does not belong to the image here.
                if !content.has(&link.digest).await? && self.blob(content, &link.digest).await?.is_some() {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

/// Data kept of a document.
enum ReadDocument {
    Entries(Vec<Entry>),
    Sizes(Vec<(Digest, u64)>),
}

/// The entries of an index that are due, each once, of as many as are left.
fn due_entries(json: &[u8], left: &AtomicUsize, is_due: &dyn Fn(&Entry) -> bool) -> Vec<Entry> {
    let (mut due, mut seen) = (Vec::new(), HashSet::new());
    let mut left_now = left.load(Ordering::Relaxed);
    let read = each(json, &mut left_now, |entry| {
        if is_due(&entry) && seen.insert(entry.digest.clone()) {
            due.push(entry);
        }
    });
    left.store(left_now, Ordering::Relaxed);
    match read {
        Err(error) if left_now > 0 => {
            tracing::debug!(%error, "cannot read an index of a followed name");
            Vec::new()
        }
        _ => due,
    }
}

/// Returns the sizes that a manifest declares for blobs that were added.
fn sizes(json: &[u8], added: &BTreeSet<Digest>) -> Vec<(Digest, u64)> {
    let links = outline::of_manifest(json).unwrap_or_default().into_iter();
    links.filter(|link| added.contains(&link.digest)).map(|link| (link.digest, link.size)).collect()
}

#[cfg(test)]
mod tests {
    use ocipfs_oci::media_type;
    use serde_json::json;

    use super::*;

    fn digest(n: u32) -> Digest {
        Digest::sha256_of(&n.to_be_bytes())
    }

    fn index(numbers: std::ops::Range<u32>) -> Vec<u8> {
        let entry =
            |n| json!({"mediaType": media_type::OCI_INDEX, "digest": digest(n).to_string(), "size": n});
        json!({"manifests": numbers.map(entry).collect::<Vec<_>>()}).to_string().into_bytes()
    }

    #[test]
    fn prefetch_of_nested_indexes_has_one_entry_budget() {
        let left = AtomicUsize::new(25);
        let is_due = |entry: &Entry| entry.size.is_multiple_of(2);
        assert_eq!(due_entries(&index(0..10), &left, &is_due).len(), 5);
        assert_eq!(due_entries(&[index(0..10), b"x".to_vec()].concat(), &left, &is_due), [], "no index");
        assert_eq!(left.load(Ordering::Relaxed), 5);
        assert_eq!(due_entries(&index(0..10), &left, &is_due).len(), 3, "the first that are left");
        assert_eq!(due_entries(&index(0..10), &left, &is_due), []);
    }

    #[test]
    fn prefetch_keeps_only_the_sizes_of_added_blobs_of_a_manifest() {
        let link = |n| json!({"mediaType": "a/b", "digest": digest(n).to_string(), "size": n});
        let manifest = json!({"config": link(1), "layers": [link(2), link(3)]}).to_string();
        let added = BTreeSet::from([digest(1), digest(3), digest(4)]);
        assert_eq!(sizes(manifest.as_bytes(), &added), [(digest(1), 1), (digest(3), 3)]);
        assert_eq!(sizes(b"nonsense", &added), []);
    }
}
