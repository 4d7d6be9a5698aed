//! The memory that documents take while they are read and parsed, over all requests.

use std::sync::Arc;

use bytes::Bytes;
use ocipfs_node::Cid;
use ocipfs_oci::Digest;
use ocipfs_unixfs::DagNode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    Blob, CidPath, Content, Error,
    fetch::{DagFetcher, FileParts, WINDOW},
    hold,
    reader::Reader,
};

/// Bytes per permit of the semaphores.
const UNIT_BYTES: u64 = 1 << 10;
/// Memory per byte of a document: for the byte itself, and for its parsed form.
const PARSE_FACTOR: u64 = 2;
/// Documents up to here are copied for the client that they are sent to.
const SHORT_BYTES: u64 = 32 << 10;
/// Shorter documents are parsed without waiting for others.
const LONG: usize = 64 << 10;

/// The share of documents. Clones share it.
#[derive(Clone, Debug)]
pub struct Documents {
    free: Arc<Semaphore>,
    units: u32,
    /// Held by the one long document that is parsed as a whole.
    turn: Arc<Semaphore>,
    /// For parts that are fetched ahead, so that peers that are slow do not hold up what is here.
    ahead: Arc<Semaphore>,
}

impl Documents {
    pub fn new(bytes: u64) -> Self {
        let ahead = units(bytes / 4);
        let units = units(bytes) - ahead;
        let semaphore = |units: u32| Arc::new(Semaphore::new(units as usize));
        Self { free: semaphore(units), units, turn: semaphore(1), ahead: semaphore(ahead) }
    }

    /// Waits for memory for a document of this length; one that is larger than the share takes all of it.
    pub async fn reserve(&self, length: u64) -> Result<OwnedSemaphorePermit, Error> {
        self.free.clone().acquire_many_owned(self.units_of(length)).await.map_err(Error::stopped)
    }

    /// Takes the same memory where it is free.
    pub fn reserve_now(&self, length: u64) -> Option<OwnedSemaphorePermit> {
        self.free.clone().try_acquire_many_owned(self.units_of(length)).ok()
    }

    fn units_of(&self, length: u64) -> u32 {
        units(length.saturating_mul(PARSE_FACTOR)).min(self.units)
    }
}

fn units(bytes: u64) -> u32 {
    // A semaphore of any platform has so many permits.
    const MAX: u32 = u32::MAX >> 3;
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(MAX).min(MAX)
}

/// A document whose bytes are here, and the memory to parse it, which is given back when this is dropped.
pub struct OpenDocument {
    size: u64,
    source: DocumentSource,
    memory: OwnedSemaphorePermit,
}

enum DocumentSource {
    Stored(Box<Reader>),
    Blocks(Box<FileParts>),
}

impl DocumentSource {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        match self {
            Self::Stored(reader) => reader.next().await.transpose(),
            Self::Blocks(parts) => parts.next().await,
        }
    }
}

impl OpenDocument {
    /// Returns its length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns the next bytes; none at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        self.source.next().await
    }

    async fn all(mut self) -> Result<Bytes, Error> {
        let mut all = Vec::with_capacity(usize::try_from(self.size).unwrap_or_default());
        while let Some(bytes) = self.next().await? {
            all.extend_from_slice(&bytes);
        }
        Ok(hold(all.into(), self.memory))
    }
}

// A task that holds memory of the share of documents must not wait for more of it, nor for a peer or a client: others wait for
// what it holds.
impl Content {
    /// Waits for its turn to parse a document of this length as a whole, which may take many times its length. Nothing is
    /// awaited in a turn.
    pub async fn turn_to_parse(&self, length: usize) -> Result<Option<OwnedSemaphorePermit>, Error> {
        if length < LONG {
            return Ok(None);
        }
        self.0.documents.turn.clone().acquire_owned().await.map(Some).map_err(Error::stopped)
    }

    /// Takes memory to fetch several parts of a document at once, where there is some.
    pub(super) fn memory_for_window(&self) -> Option<OwnedSemaphorePermit> {
        self.0.documents.ahead.clone().try_acquire_many_owned(units(WINDOW)).ok()
    }

    /// Reads a whole blob of at most `limit` bytes, which are those of its digest.
    ///
    /// The bytes take memory of the share of documents until they are dropped: drop them before the next document is read,
    /// and before anything is awaited that a peer or a client may hold up.
    pub async fn read_blob(&self, blob: &Blob, limit: u64) -> Result<Bytes, Error> {
        if blob.size <= limit
            && let Some(memory) = self.0.documents.reserve_now(blob.size)
        {
            self.refuse_rejected(blob)?;
            match self.read_stored(blob, memory).await {
                Ok(Some(bytes)) => return Ok(bytes),
                Ok(None) => {}
                // A damaged one is fetched below, as one that is not stored.
                Err(error) => {
                    tracing::debug!(digest = %blob.digest, "cannot read a stored document: {error}")
                }
            }
        }
        // Again where it was collected in between.
        loop {
            let reader = self.settled_document(blob, limit).await?;
            if !self.has(&blob.digest).await? {
                let reader = reader.without_room();
                let memory = self.0.documents.reserve(blob.size).await?;
                return Ok(hold(reader.all().await?, memory));
            }
            drop(reader);
            let memory = self.0.documents.reserve(blob.size).await?;
            if let Some(bytes) = self.read_stored(blob, memory).await? {
                return Ok(bytes);
            }
        }
    }

    /// Fetches a blob of at most `limit` bytes, of which nothing stays in memory.
    pub async fn fetch_document(&self, blob: &Blob, limit: u64) -> Result<(), Error> {
        self.settled_document(blob, limit).await.map(drop)
    }

    /// Returns the bytes of a document as they are sent to a client, which may be slow: they take no memory of the share of
    /// documents, but for those of a long one that is not stored.
    pub async fn pieces_of(&self, digest: &Digest, bytes: Bytes) -> Result<Reader, Error> {
        let size = bytes.len() as u64;
        if size <= SHORT_BYTES {
            let copy = Bytes::copy_from_slice(&bytes);
            drop(bytes);
            return Ok(Reader::made(self.0.sending.reserve(size).await?.hold(copy)));
        }
        if !self.has(digest).await? {
            return Ok(Reader::made(bytes));
        }
        drop(bytes);
        self.open_stored(digest).await
    }

    async fn settled_document(&self, blob: &Blob, limit: u64) -> Result<Reader, Error> {
        if blob.size > limit {
            return Err(Error::TooLarge { at: blob.at.clone(), size: blob.size, limit });
        }
        let mut reader = self.open(blob, 0..blob.size).await?;
        reader.wait_until_stored(&mut |_| {}).await?;
        Ok(reader)
    }

    /// Reads a whole file of at most `limit` bytes. What comes of it stays as blocks and does not become a blob. The bytes
    /// take memory as those of [`Self::read_blob`] do.
    pub async fn read(&self, at: &CidPath, limit: u64) -> Result<Bytes, Error> {
        self.open_document(at, limit).await?.all().await
    }

    /// Opens a file of at most `limit` bytes to be parsed piece by piece, once all of it was fetched.
    pub async fn open_document(&self, at: &CidPath, limit: u64) -> Result<OpenDocument, Error> {
        let mut fetcher = DagFetcher::new(self.clone(), at);
        let file = fetcher.resolve_file(at).await?;
        self.keep_blocks(fetcher.take_fetched()).await;
        let size = file.node.size();
        if size > limit {
            return Err(Error::TooLarge { at: at.clone(), size, limit });
        }
        if self.is_stored(&file.cid).await? {
            let memory = self.0.documents.reserve(size).await?;
            let source = DocumentSource::Stored(Box::new(self.open_at(&CidPath::from(file.cid)).await?));
            return Ok(OpenDocument { size, source, memory });
        }
        let is_whole = matches!(&file.node, DagNode::File { children, .. } if children.is_empty());
        if !is_whole {
            self.parts(at, file.cid, file.node.clone())?.fetch_all().await?;
        }
        let memory = self.0.documents.reserve(size).await?;
        let source = DocumentSource::Blocks(Box::new(self.parts(at, file.cid, file.node)?));
        Ok(OpenDocument { size, source, memory })
    }

    fn parts(&self, at: &CidPath, root: Cid, top: DagNode) -> Result<FileParts, Error> {
        FileParts::new(self.nodes(at.search_root()), root, top)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::task::unconstrained;

    use super::*;

    #[tokio::test]
    async fn documents_wait_for_memory_and_an_oversized_one_reserves_the_whole_share() {
        let documents = Documents::new((64 << 10) * 4 / 3);
        let now = |length| unconstrained(documents.reserve(length)).now_or_never().map(Result::unwrap);
        let half = now(16 << 10).unwrap();
        assert!(now(17 << 10).is_none());
        let other = now(16 << 10).unwrap();
        assert!(now(1).is_none());
        drop((half, other));
        let whole = now(1 << 30).unwrap();
        assert!(now(1).is_none());
        assert!(documents.reserve_now(1).is_none());
        drop(whole);
        assert!(now(1).is_some() && documents.reserve_now(1).is_some());
    }
}
