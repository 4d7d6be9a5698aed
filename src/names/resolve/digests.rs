//! Searching a blob by its digest alone, among connected peers and those that announce it.
//!
//! ```text
//! find ─► known from here? ─► a search (one per digest) ─┬─► the raw block with this hash (Bitswap)
//!                                                        └─► the root that a peer tells ─► its root block
//! ```
//!
//! A peer may tell any root: the bytes are hashed against the digest before the last of them is given, as in every pull.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ocipfs_node::Cid;
use ocipfs_oci::{Digest, Name};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use crate::{
    content::{self, Blob, Content, Presence, whole_cid},
    images::Cache,
};

/// Searches at a time; a digest beyond them counts as not found.
const MAX_SEARCHES: usize = 64;
/// Roots that are tried for one digest.
const MAX_ROOTS: usize = 4;
/// How long a peer may take to show that the root it told is the right one.
const ROOT_TIMEOUT: Duration = Duration::from_secs(3);
/// Digests that are remembered as not found, and repositories that digests were served under.
const CACHE_ENTRIES: usize = 10_000;
/// A digest that was not found is not searched again before this time.
const NEGATIVE_TTL: Duration = Duration::from_secs(2);

/// Result of a search; none while it runs.
type Outcome = watch::Receiver<Option<Option<Blob>>>;

/// Searches for digests. Clones share what is running and what was not found.
#[derive(Clone)]
pub struct DigestSearches(Arc<Inner>);

struct Inner {
    running: Mutex<HashMap<Digest, Outcome>>,
    not_found: Cache<Digest, Instant>,
    /// Places that a peer told and that could not be read, and when that was: the next search passes them over.
    failed: Cache<(Digest, Cid), Instant>,
    /// Names that clients saw content of peers under. What they push there may count on it.
    seen: Cache<Name, ()>,
}

impl Default for DigestSearches {
    fn default() -> Self {
        let (not_found, failed) = (Cache::new(CACHE_ENTRIES), Cache::new(CACHE_ENTRIES));
        let seen = Cache::new(CACHE_ENTRIES);
        Self(Arc::new(Inner { running: Mutex::default(), not_found, failed, seen }))
    }
}

/// Takes a search off the list when it ends, however it ends.
struct Running(DigestSearches, Digest);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running().remove(&self.1);
    }
}

impl DigestSearches {
    /// Returns a blob that came from peers, or that a peer has; none if none is found within `--digest-timeout`. Content that
    /// was pushed or added here is not found: it is served under its own names.
    pub async fn find(&self, content: &Content, digest: &Digest) -> Result<Option<Blob>, content::Error> {
        let budget = content.digest_timeout();
        if budget.is_zero() {
            return Ok(None);
        }
        match content.presence(digest).await? {
            Presence::Named => return Ok(None),
            Presence::FromPeers(stored) => {
                let (size, at) = (stored.size, stored.root.into());
                return Ok(Some(Blob { digest: digest.clone(), size, at, gc_root: None }));
            }
            Presence::Absent => {}
        }
        let Some(raw) = whole_cid(digest) else { return Ok(None) };
        let was_missed = |when: &Instant| when.elapsed() < NEGATIVE_TTL;
        if self.0.not_found.get(digest).as_ref().is_some_and(was_missed) {
            return Ok(None);
        }
        let Some(mut outcome) = self.join(content, digest, raw, budget) else { return Ok(None) };
        let found = outcome.wait_for(Option::is_some).await;
        Ok(found.ok().and_then(|found| found.clone().flatten()))
    }

    /// Notes that the place of a blob could not be read: for a moment other peers are asked for theirs.
    pub fn note_failed(&self, blob: &Blob) {
        self.0.failed.insert((blob.digest.clone(), *blob.at.root()), Instant::now(), 1);
    }

    fn has_failed(&self, digest: &Digest, root: &Cid) -> bool {
        let is_recent = |when: &Instant| when.elapsed() < NEGATIVE_TTL;
        self.0.failed.get(&(digest.clone(), *root)).as_ref().is_some_and(is_recent)
    }

    /// Notes that a client saw content of peers under a name.
    pub fn note_seen(&self, name: &Name) {
        self.0.seen.insert(name.clone(), (), 1);
    }

    /// Whether a client saw content of peers under a name.
    pub fn is_seen(&self, name: &Name) -> bool {
        self.0.seen.get(name).is_some()
    }

    /// Joins the search for a digest, or begins it; none if too many are running.
    fn join(&self, content: &Content, digest: &Digest, raw: Cid, budget: Duration) -> Option<Outcome> {
        let mut running = self.running();
        if let Some(outcome) = running.get(digest) {
            return Some(outcome.clone());
        }
        if running.len() >= MAX_SEARCHES {
            return None;
        }
        let (sender, outcome) = watch::channel(None);
        running.insert(digest.clone(), outcome.clone());
        let (ends, content, digest) =
            (Running(self.clone(), digest.clone()), content.clone(), digest.clone());
        // A task of its own: a client that goes away does not end the search of another.
        tokio::spawn(async move {
            let found = ends.0.search(&content, &digest, raw, Instant::now() + budget).await;
            if found.is_none() {
                ends.0.0.not_found.insert(digest, Instant::now(), 1);
            }
            drop(ends);
            sender.send_replace(Some(found));
        });
        Some(outcome)
    }

    /// Searches a digest until the deadline. Once a peer says that it has the blob, the usual timeouts apply.
    async fn search(&self, content: &Content, digest: &Digest, raw: Cid, deadline: Instant) -> Option<Blob> {
        let mut roots = content.node().find_file(raw);
        let block = content.told_blob(digest, raw);
        tokio::pin!(block);
        // The block itself is searched anyway.
        let mut tried = HashSet::from([raw]);
        let (mut is_block_missing, mut is_root_missing) = (self.has_failed(digest, &raw), false);
        while !(is_block_missing && is_root_missing) {
            tokio::select! {
                found = &mut block, if !is_block_missing => match found {
                    None => is_block_missing = true,
                    found => return found,
                },
                root = roots.recv(), if !is_root_missing => match root {
                    None => is_root_missing = true,
                    Some(root) => {
                        let found = self.try_root(content, digest, root, &mut tried).await;
                        if found.is_some() {
                            return found;
                        }
                    }
                },
                () = sleep_until(deadline) => return None,
            }
        }
        None
    }

    /// Looks for a blob below a root that a peer told, if it is new, one of the first, and did not fail a moment ago.
    async fn try_root(
        &self,
        content: &Content,
        digest: &Digest,
        root: Cid,
        tried: &mut HashSet<Cid>,
    ) -> Option<Blob> {
        if tried.len() > MAX_ROOTS || !tried.insert(root) || self.has_failed(digest, &root) {
            return None;
        }
        // A peer that lies about the root must not hold up the others for long.
        timeout(ROOT_TIMEOUT, content.told_blob(digest, root)).await.ok().flatten()
    }

    fn running(&self) -> MutexGuard<'_, HashMap<Digest, Outcome>> {
        self.0.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use ocipfs_node::Node;
    use tempfile::TempDir;

    use super::*;
    use crate::content::{BlobWriter, Document, Settings, Store};

    fn content(digest_timeout: Duration) -> (TempDir, Content) {
        let dir = tempfile::tempdir().unwrap();
        let (store, node) = (Store::open(dir.path()).unwrap(), Node::offline(dir.path()).unwrap());
        let settings = Settings { digest_timeout, ..Settings::default() };
        (dir, Content::new(store, node, settings).unwrap())
    }

    #[tokio::test]
    async fn pushed_content_is_not_found_by_its_digest_and_content_from_peers_is() {
        let (_dir, content) = content(Duration::from_secs(10));
        let searches = DigestSearches::default();
        let mut writer = BlobWriter::new(content.store(), content.profile()).unwrap();
        writer.write(Bytes::from(vec![7; 3 << 20])).unwrap();
        let (pushed, _) = writer.store().unwrap();
        assert_eq!(searches.find(&content, &pushed.digest).await.unwrap(), None);
        // Nor a part of it.
        let chunk = Digest::sha256_of(&vec![7; 1 << 20]);
        assert_eq!(searches.find(&content, &chunk).await.unwrap(), None);
        assert!(searches.0.not_found.get(&chunk).is_none(), "no peer was asked");

        let bytes = Bytes::from_static(b"from a peer");
        let digest = Digest::sha256_of(&bytes);
        content.put_document(Document::file(bytes, content.profile())).await.unwrap();
        let found = searches.find(&content, &digest).await.unwrap().unwrap();
        assert_eq!((found.size, found.at.root()), (11, &whole_cid(&digest).unwrap()));
    }

    #[tokio::test]
    async fn an_unknown_digest_is_remembered_as_not_found() {
        let (_dir, content) = content(Duration::from_secs(10));
        let (searches, unknown) = (DigestSearches::default(), Digest::sha256_of(b"unknown"));
        let both = tokio::join!(searches.find(&content, &unknown), searches.find(&content, &unknown));
        assert_eq!((both.0.unwrap(), both.1.unwrap()), (None, None));
        assert!(searches.0.not_found.get(&unknown).is_some() && searches.running().is_empty());
        let sha512: Digest = format!("sha512:{}", "0".repeat(128)).parse().unwrap();
        assert_eq!(searches.find(&content, &sha512).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_place_that_could_not_be_read_is_passed_over_by_the_next_search() {
        let (_dir, content) = content(Duration::from_secs(10));
        let searches = DigestSearches::default();
        let bytes = Bytes::from_static(b"from a peer");
        let digest = Digest::sha256_of(&bytes);
        content.put_document(Document::file(bytes, content.profile())).await.unwrap();
        let (raw, deadline) = (whole_cid(&digest).unwrap(), Instant::now() + Duration::from_secs(10));
        let found = searches.search(&content, &digest, raw, deadline).await.unwrap();
        // A failure counts for two seconds: a busy machine must not use them up.
        tokio::time::pause();
        searches.note_failed(&found);
        assert_eq!(searches.search(&content, &digest, raw, deadline).await, None);
        let other = Digest::sha256_of(b"other");
        assert!(!searches.has_failed(&other, &raw), "it may be the place of another blob");
    }

    #[tokio::test]
    async fn nothing_is_found_without_a_digest_timeout() {
        let (_dir, content) = content(Duration::ZERO);
        let bytes = Bytes::from_static(b"from a peer");
        let digest = Digest::sha256_of(&bytes);
        content.put_document(Document::file(bytes, content.profile())).await.unwrap();
        assert_eq!(DigestSearches::default().find(&content, &digest).await.unwrap(), None);
    }
}
