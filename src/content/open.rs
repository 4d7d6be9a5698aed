//! Bytes going out: streams that verify what comes in, and abort rather than end well with wrong bytes.

use std::{collections::BTreeSet, ops::Range, sync::Arc};

use bytes::Bytes;
use ocipfs_node::Cid;
use ocipfs_oci::Hasher;
use tokio::sync::mpsc;

use super::{
    Blob, CidPath, Content, Error, Holding, Stat,
    dag::{self, Fetcher},
};

/// Chunks between the walk and whoever sends them on.
const BUFFERED: usize = 2;

/// A stream of bytes, read by a task that ends when the reader is dropped.
pub struct Reader {
    size: u64,
    /// What was waited for already.
    first: Option<Bytes>,
    chunks: mpsc::Receiver<Result<Bytes, Error>>,
}

impl Reader {
    /// How many bytes it will give.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The next bytes; an error is the last item.
    pub async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        match self.first.take() {
            Some(first) => Some(Ok(first)),
            None => self.chunks.recv().await,
        }
    }

    /// Waits for the first bytes: what fails before them can still be told as an error.
    async fn begun(mut self) -> Result<Self, Error> {
        self.first = self.chunks.recv().await.transpose()?;
        Ok(self)
    }

    /// The rest as a stream, whose error is logged here: who serves it can only break off.
    pub fn into_stream_logged(self) -> impl futures::Stream<Item = Result<Bytes, Error>> {
        futures::stream::unfold(self, |mut reader| async move {
            let item = reader.next().await?;
            if let Err(error) = &item {
                tracing::warn!("a stream was broken off: {error}");
            }
            Some((item, reader))
        })
    }
}

impl Content {
    /// Opens a file by its CID alone: each block is verified, there is no digest to hold the whole against.
    pub async fn open_at(&self, at: &CidPath) -> Result<Reader, Error> {
        let (walk, file) = self.walk(at, self.fetcher(*at.root()), None, None).await?;
        spawn(walk, file.size, None).begun().await
    }

    /// Opens `range` of a blob once its first bytes are here. What is not here is fetched; a blob read
    /// whole is verified by its digest before its last bytes are given, and is not hashed again afterwards.
    pub async fn open(&self, blob: &Blob, range: Range<u64>) -> Result<Reader, Error> {
        if self.is_rejected(blob) {
            return Err(mismatch(blob, "it was fetched before, and its digest differs".into()));
        }
        let stored = self.0.index.blob(&blob.digest)?;
        let whole = range == (0..blob.size);
        let length = range.end.saturating_sub(range.start);
        let at = stored.as_ref().unwrap_or(&blob.at);
        let fetcher = self.fetcher(*at.root()).verified(stored.is_some());
        let (walk, file) = self.walk(at, fetcher, Some(blob), Some(range)).await?;
        let check = (stored.is_none() && whole).then(|| Check {
            content: self.clone(),
            blob: blob.clone(),
            file: file.cid,
            hasher: Hasher::new(blob.digest.algorithm()),
        });
        spawn(walk, length, check).begun().await
    }

    /// Whether the blob can be had: it is here, or its first block came and its size is right.
    pub async fn check(&self, blob: &Blob) -> Result<(), Error> {
        if self.is_rejected(blob) {
            return Err(mismatch(blob, "it was fetched before, and its digest differs".into()));
        }
        if self.has(&blob.digest)? {
            return Ok(());
        }
        right_size(blob, self.stat(&blob.at).await?.size)
    }

    async fn walk(
        &self,
        at: &CidPath,
        fetcher: Fetcher,
        blob: Option<&Blob>,
        range: Option<Range<u64>>,
    ) -> Result<(dag::Walk, Stat), Error> {
        let fetcher = Arc::new(fetcher);
        let file = dag::resolve(&fetcher, at).await?;
        let stat = Stat { cid: file.cid, size: file.size() };
        if let Some(blob) = blob {
            right_size(blob, stat.size)?;
        }
        let range = range.unwrap_or(0..stat.size);
        Ok((dag::Walk::new(at.clone(), fetcher, file, range, self.0.read_ahead.clone())?, stat))
    }

    /// Holds a blob whose bytes are here and were seen to match, and announces it.
    pub fn keep(&self, blob: &Blob, file: Cid, owned: bool) -> Result<(), Error> {
        let owned = owned || self.held(&blob.holder)?.is_some_and(|held| held.owned);
        let roots: BTreeSet<Cid> = [blob.holder, *blob.at.root(), file].into();
        let roots: Vec<Cid> = roots.into_iter().collect();
        self.hold(blob.holder, Holding::new(owned, &roots, vec![(blob.digest.clone(), blob.at.clone())]))?;
        self.0.index.add_blob(&blob.digest, &blob.at)
    }
}

fn right_size(blob: &Blob, size: u64) -> Result<(), Error> {
    if size == blob.size {
        return Ok(());
    }
    Err(mismatch(blob, format!("it has {size} bytes, not {}", blob.size)))
}

fn mismatch(blob: &Blob, why: String) -> Error {
    Error::Mismatch { at: blob.at.clone(), why }
}

/// The running hash of a blob that comes in whole.
struct Check {
    content: Content,
    blob: Blob,
    file: Cid,
    hasher: Hasher,
}

impl Check {
    fn verdict(self) -> Result<(), Error> {
        let found = self.hasher.finish();
        if found == self.blob.digest {
            return self.content.keep(&self.blob, self.file, false);
        }
        self.content.reject(&self.blob);
        Err(mismatch(&self.blob, format!("its digest is {found}, not {}", self.blob.digest)))
    }
}

fn spawn(mut walk: dag::Walk, size: u64, mut check: Option<Check>) -> Reader {
    let (out, chunks) = mpsc::channel(BUFFERED);
    tokio::spawn(async move {
        // The last bytes wait for the verdict: a client that has them all would believe them.
        let mut held: Option<Bytes> = None;
        let mut left = size;
        loop {
            let next = tokio::select! {
                next = walk.next() => next,
                // Nobody reads on: the fetch stops here, what came stays.
                () = out.closed() => return,
            };
            let item = match next {
                Ok(Some(bytes)) => {
                    if let Some(check) = &mut check {
                        check.hasher.update(&bytes);
                    }
                    left = left.saturating_sub(bytes.len() as u64);
                    if left == 0 { held.replace(bytes) } else { Some(bytes) }.map(Ok)
                }
                Ok(None) => {
                    let last = match check.take().map_or(Ok(()), Check::verdict) {
                        Ok(()) => held.take().map(Ok),
                        Err(error) => Some(Err(error)),
                    };
                    if let Some(last) = last {
                        let _ = out.send(last).await;
                    }
                    return;
                }
                Err(error) => {
                    let _ = out.send(Err(error)).await;
                    return;
                }
            };
            if let Some(item) = item
                && out.send(item).await.is_err()
            {
                return;
            }
        }
    });
    Reader { size, first: None, chunks }
}
