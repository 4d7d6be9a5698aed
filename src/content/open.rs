//! Reads blobs as streams: stored blobs from their file, others while they are downloaded. A stream with wrong bytes never ends successfully.

use std::{collections::BTreeSet, ops::Range};

use bytes::Bytes;
use ocipfs_node::{Block, Cid};
use ocipfs_oci::{Algorithm, Digest, Hasher};
use ocipfs_unixfs::DagNode;
use redb::WriteTransaction;
use tokio::task::JoinHandle;

use super::{
    Blob, CidPath, Content, Error, GcRoot, Store, StoreError,
    budget::{Budget, Reservation},
    download::{Purpose, RangeReader, Start},
    fetch::{self, DagFetcher},
    locked,
    store::{BlobFile, BlobLayout, Check, Leaf, Origin, Stored, index, note_from_peers},
};

/// Bytes of a stored blob that are read in one piece.
const PIECE_BYTES: u64 = 512 << 10;

/// A stream of bytes.
pub struct Reader {
    size: u64,
    /// The first bytes, if they were awaited already.
    first: Option<Bytes>,
    source: ByteSource,
}

enum ByteSource {
    /// All bytes are here.
    Made(Option<Bytes>),
    File(Pieces),
    Download {
        part: RangeReader,
        last: Last,
        ended: bool,
    },
}

/// Condition for sending the last bytes of a download: a client that has all bytes trusts them.
enum Last {
    /// Nothing: this is a part.
    Nothing,
    /// That the whole is stored.
    Stored,
    /// That the whole is stored and has this digest.
    Digest(Digest),
}

type Piece = (Option<Check>, std::io::Result<Bytes>);

/// A stored blob, the next piece of which is read while the one before is sent, where there is memory for it.
struct Pieces {
    file: BlobFile,
    range: Range<u64>,
    check: Option<Check>,
    budget: Budget,
    ahead: Option<JoinHandle<Piece>>,
}

impl Pieces {
    fn new(file: BlobFile, range: Range<u64>, budget: Budget) -> Self {
        let check = file.check(&range);
        Self { file, range, check, budget, ahead: None }
    }

    /// How long the next piece is to be.
    fn wanted(&self) -> u64 {
        PIECE_BYTES.min(self.range.end.saturating_sub(self.range.start))
    }

    fn read(&mut self, room: Reservation) -> JoinHandle<Piece> {
        let (start, length) = (self.range.start, room.length());
        let (file, mut check) = (self.file.clone(), self.check.take());
        self.range.start += length;
        tokio::task::spawn_blocking(move || {
            let read = file.read_next(&mut check, start, length as usize);
            (check, read.map(|bytes| room.hold(bytes)))
        })
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let reading = match self.ahead.take() {
            Some(ahead) => ahead,
            None if self.wanted() == 0 => return Ok(None),
            None => {
                let room = self.budget.reserve(self.wanted()).await?;
                self.read(room)
            }
        };
        let (check, read) = reading.await.map_err(Error::stopped)?;
        self.check = check;
        let bytes = read?;
        if self.wanted() > 0 {
            self.ahead = self.budget.spare(self.wanted()).map(|room| self.read(room));
        }
        Ok(Some(bytes))
    }
}

impl ByteSource {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let (part, last, ended) = match self {
            Self::Made(bytes) => return Ok(bytes.take()),
            Self::File(pieces) => return pieces.next().await,
            Self::Download { part, last, ended } => (part, last, ended),
        };
        if *ended {
            return Ok(None);
        }
        let next = part.next().await?;
        *ended = part.left() == 0;
        if !*ended || matches!(last, Last::Nothing) {
            return Ok(next);
        }
        let completed = part.outcome().await?;
        match last {
            Last::Digest(digest) if !completed.has(digest) => {
                let why = format!("digest is {}, expected {digest}", completed.stored.digest);
                Err(Error::Mismatch { at: completed.stored.root.into(), why })
            }
            _ => Ok(next),
        }
    }
}

impl Reader {
    /// Gives bytes that are here.
    pub(super) fn made(bytes: Bytes) -> Self {
        Self { size: bytes.len() as u64, first: None, source: ByteSource::Made(Some(bytes)) }
    }

    /// Waits for the first bytes: what fails before them can still be told as an error.
    async fn begin(size: u64, mut source: ByteSource) -> Result<Self, Error> {
        let first = source.next().await?;
        Ok(Self { size, first, source })
    }

    /// Gives the room of the piece that was read already back: this waits for something else first.
    pub(super) fn without_room(self) -> Self {
        Self { first: self.first.map(|first| Bytes::copy_from_slice(&first)), ..self }
    }

    /// How many bytes it will give.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The next bytes; an error is the last item.
    pub async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        match self.first.take() {
            Some(first) => Some(Ok(first)),
            None => self.source.next().await.transpose(),
        }
    }

    /// Waits until the file is stored, without reading on; `progress` is told the bytes that are here.
    pub async fn wait_until_stored(&mut self, progress: &mut (dyn FnMut(u64) + Send)) -> Result<(), Error> {
        match &mut self.source {
            ByteSource::Download { part, .. } => part.wait_until_stored(progress).await,
            ByteSource::Made(_) | ByteSource::File(_) => Ok(()),
        }
    }

    /// The rest, in memory.
    pub async fn all(mut self) -> Result<Bytes, Error> {
        let mut all = Vec::with_capacity(usize::try_from(self.size).unwrap_or_default());
        while let Some(bytes) = self.next().await {
            all.extend_from_slice(&bytes?);
        }
        Ok(all.into())
    }

    /// The rest as a stream, whose error is logged here: who serves it can only break off.
    pub fn into_stream_logged(self) -> impl futures::Stream<Item = Result<Bytes, Error>> {
        futures::stream::unfold(Some(self), |reader| async move {
            let mut reader = reader?;
            let item = reader.next().await?;
            if let Err(error) = &item {
                tracing::warn!("stream aborted: {error}");
                return Some((item, None));
            }
            Some((item, Some(reader)))
        })
    }
}

impl Content {
    /// Opens a file by its CID alone: each block is verified, the whole has no digest.
    /// A file of several blocks is stored when its stream has ended.
    pub async fn open_at(&self, at: &CidPath) -> Result<Reader, Error> {
        self.open_file(at, Purpose::Read).await
    }

    /// Opens a file that is to be kept; fails if it does not fit.
    pub async fn fetch_at(&self, at: &CidPath) -> Result<Reader, Error> {
        self.open_file(at, Purpose::Keep).await
    }

    async fn open_file(&self, at: &CidPath, purpose: Purpose) -> Result<Reader, Error> {
        let _guard = self.gc_guard().await;
        loop {
            let found = self.find(at).await?;
            let size = found.node.size();
            if let Some(source) = self.here(&found, None, 0..size).await? {
                return Reader::begin(size, source).await;
            }
            if let Some(part) = self.join(found, 0..size, None, purpose).await? {
                return Reader::begin(size, ByteSource::Download { part, last: Last::Stored, ended: false })
                    .await;
            }
        }
    }

    /// The sha256 of a file that was read whole.
    pub async fn digest_of(&self, root: &Cid) -> Result<Digest, Error> {
        if let Some(stored) = self.stored(root).await? {
            return Ok(stored.digest);
        }
        let missing = || ocipfs_node::Error::Offline(*root);
        let block = self.local(root).await?.ok_or_else(missing)?;
        match DagNode::decode(root, block)? {
            DagNode::File { data, children } if children.is_empty() => Ok(Digest::sha256_of(&data)),
            _ => Err(missing().into()),
        }
    }

    /// Whether a file is stored, by the root of any of its DAGs.
    pub async fn is_stored(&self, root: &Cid) -> Result<bool, Error> {
        Ok(self.stored(root).await?.is_some())
    }

    /// A file that is stored, by the root of any of its DAGs.
    async fn stored(&self, root: &Cid) -> Result<Option<Stored>, Error> {
        let root = *root;
        self.store().touch_cid(&root);
        Ok(self.store().run(move |store| store.file(&root)).await?)
    }

    /// Opens `range` of a blob once its first bytes are here. What is not here is fetched; a blob read
    /// whole is verified by its digest before its last bytes are given, and is not hashed again afterwards.
    pub async fn open(&self, blob: &Blob, range: Range<u64>) -> Result<Reader, Error> {
        self.open_blob(blob, range, Purpose::Read).await
    }

    /// Opens the whole of a blob that is to be kept; fails if it does not fit.
    pub async fn fetch(&self, blob: &Blob) -> Result<Reader, Error> {
        self.open_blob(blob, 0..blob.size, Purpose::Keep).await
    }

    async fn open_blob(&self, blob: &Blob, range: Range<u64>, purpose: Purpose) -> Result<Reader, Error> {
        self.refuse_rejected(blob)?;
        let _guard = self.gc_guard().await;
        let size = range.end.saturating_sub(range.start);
        // Retries if another task stored the file in between.
        loop {
            if let Some(file) = self.stored_file(&blob.digest).await? {
                right_size(blob, file.size())?;
                match Reader::begin(size, ByteSource::File(self.pieces(file, range.clone()))).await {
                    // Found damaged before anything was sent: it can come from peers.
                    Err(_) if !self.has(&blob.digest).await? => continue,
                    begun => return begun,
                }
            }
            let found = self.find(&blob.at).await?;
            right_size(blob, found.node.size())?;
            if let Some(source) = self.here(&found, Some(blob), range.clone()).await? {
                return Reader::begin(size, source).await;
            }
            let whole = range == (0..blob.size);
            let last = if whole { Last::Digest(blob.digest.clone()) } else { Last::Nothing };
            if let Some(part) = self.join(found, range.clone(), Some(blob), purpose).await? {
                return Reader::begin(size, ByteSource::Download { part, last, ended: false }).await;
            }
        }
    }

    /// Fetches the whole of a blob into the cache, to be read later; refused at once where it does not fit.
    pub async fn cache(&self, blob: &Blob) -> Result<(), Error> {
        let (gc, size) = (self.0.gc.clone(), blob.size);
        let fits = move |store: &Store| gc.fits(store, size);
        if self.stored_file(&blob.digest).await?.is_none() && !self.store().run(fits).await? {
            return Err(Error::NoRoom { size });
        }
        self.open_blob(blob, 0..blob.size, Purpose::Cache).await?.wait_until_stored(&mut |_| {}).await
    }

    /// Whether the blob can be had: it is here, or its first block came and its size is right.
    pub async fn check(&self, blob: &Blob) -> Result<(), Error> {
        self.refuse_rejected(blob)?;
        if let Some(file) = self.stored_file(&blob.digest).await? {
            return right_size(blob, file.size());
        }
        self.refuse_lost(blob).await?;
        right_size(blob, self.stat(&blob.at).await?.size)
    }

    /// Opens a blob that is stored by its digest.
    pub(super) async fn open_stored(&self, digest: &Digest) -> Result<Reader, Error> {
        let gone = || StoreError::Gone(digest.clone());
        let file = self.stored_file(digest).await?.ok_or_else(gone)?;
        let size = file.size();
        Reader::begin(size, ByteSource::File(self.pieces(file, 0..size))).await
    }

    /// Reads the whole of a blob that is stored, without a client's piece; nothing where it has another size.
    pub(super) async fn read_stored(&self, digest: &Digest, size: u64) -> Result<Option<Bytes>, Error> {
        let file = self.stored_file(digest).await?.filter(|file| file.size() == size);
        let Some(file) = file else { return Ok(None) };
        let mut check = file.check(&(0..size));
        let read = move || file.read_next(&mut check, 0, size as usize);
        Ok(Some(tokio::task::spawn_blocking(read).await.map_err(Error::stopped)??))
    }

    fn pieces(&self, file: BlobFile, range: Range<u64>) -> Pieces {
        Pieces::new(file, range, self.0.sending.clone())
    }

    async fn stored_file(&self, digest: &Digest) -> Result<Option<BlobFile>, Error> {
        let digest = digest.clone();
        let open = move |store: &Store| match store.blob(&digest)? {
            Some(stored) => open_if_there(store, &stored),
            None => Ok(None),
        };
        Ok(self.store().run(open).await?)
    }

    /// Resolves a path to a file, and stores the blocks fetched on the way.
    async fn find(&self, at: &CidPath) -> Result<Start, Error> {
        let mut fetcher = DagFetcher::new(self.clone(), at);
        let file = fetch::resolve(&mut fetcher, at).await?;
        let block = fetcher.block(&file.cid).await?;
        let (fetched, session) = fetcher.into_parts();
        self.keep_blocks(fetched).await;
        Ok(Start { root: file.cid, node: file.node, block, session })
    }

    /// Returns the bytes of a file that is local: of one block, or stored under another digest.
    async fn here(
        &self,
        found: &Start,
        blob: Option<&Blob>,
        range: Range<u64>,
    ) -> Result<Option<ByteSource>, Error> {
        if let DagNode::File { data, children } = &found.node
            && children.is_empty()
        {
            if let Some(blob) = blob {
                self.verify_single(blob, found, data).await?;
            }
            return Ok(Some(ByteSource::Made(Some(data.slice(range.start as usize..range.end as usize)))));
        }
        let Some(stored) = self.stored(&found.root).await? else { return Ok(None) };
        if let Some(blob) = blob
            && !self.verify_stored(blob, &stored).await?
        {
            return Ok(None);
        }
        let file = self.store().run(move |store| open_if_there(store, &stored)).await?;
        Ok(file.map(|file| ByteSource::File(self.pieces(file, range))))
    }

    /// Holds a stored file against the digest it was asked for by, which may not be the one it is stored under; false where
    /// it was collected meanwhile.
    async fn verify_stored(&self, blob: &Blob, stored: &Stored) -> Result<bool, Error> {
        if blob.digest == stored.digest {
            return Ok(true);
        }
        if blob.digest.algorithm() == Algorithm::Sha256 {
            return Err(self.reject(blob, &stored.digest));
        }
        if locked(&self.0.verified).contains(blob) {
            return Ok(true);
        }
        let stored = stored.clone();
        let file = self.store().run(move |store| open_if_there(store, &stored)).await?;
        let Some(file) = file else { return Ok(false) };
        let (mut hasher, size) = (Hasher::new(blob.digest.algorithm()), file.size());
        let mut pieces = self.pieces(file, 0..size);
        while let Some(bytes) = pieces.next().await? {
            hasher.update(&bytes);
        }
        let digest = hasher.finish();
        if digest != blob.digest {
            return Err(self.reject(blob, &digest));
        }
        self.remember(&self.0.verified, blob);
        Ok(true)
    }

    async fn verify_single(&self, blob: &Blob, found: &Start, data: &Bytes) -> Result<(), Error> {
        let mut hasher = Hasher::new(blob.digest.algorithm());
        hasher.update(data);
        let digest = hasher.finish();
        if digest != blob.digest {
            return Err(self.reject(blob, &digest));
        }
        match self.keep(blob, found.root, false).await {
            // It can be given all the same.
            Err(Error::Quota { .. }) => Ok(()),
            kept => kept,
        }
    }

    /// Retains a verified local blob, and announces it.
    pub async fn keep(&self, blob: &Blob, file: Cid, owned: bool) -> Result<(), Error> {
        let _guard = self.gc_guard().await;
        // What led here is kept before it is said to be.
        self.wait_for_blocks().await;
        let kept = Kept::of(blob, file, owned);
        self.store_single(blob, file, kept.clone()).await?;
        self.announce_kept(&[kept]).await
    }

    /// Tells peers of what is held from now on, and has the limits looked at.
    pub(super) async fn announce_kept(&self, kept: &[Kept]) -> Result<(), Error> {
        self.announce(kept.iter().flat_map(Kept::roots).collect()).await?;
        let gc = self.0.gc.clone();
        let came = move |store: &Store| {
            gc.came(store);
            Ok(())
        };
        Ok(self.store().run(came).await?)
    }

    /// Makes a blob of a file that is one block, which is how it came, and holds it where a holder is given: in one commit.
    async fn store_single(&self, blob: &Blob, file: Cid, kept: Kept) -> Result<(), Error> {
        let blob = blob.clone();
        let store = move |store: &Store| {
            let found = single(store, &blob, file)?;
            let is_public = store.origin(&file)? == Some(Origin::Peers);
            let hold = move |write: &WriteTransaction| {
                if is_public {
                    note_from_peers(write, &file)?;
                }
                kept.retain(write)
            };
            let Some((data, layout)) = found else {
                return store.database().write_together(hold);
            };
            let mut draft = store.draft()?;
            draft.write(&data)?;
            let (digest, aliases) = (Digest::sha256_of(&data), [blob.digest.clone()]);
            let hold = move |write: &_, _: &_| hold(write);
            draft.seal()?.finish_with(&digest, &aliases, &[layout], &[], hold).map(drop)
        };
        Ok(self.store().run(store).await?)
    }
}

/// The rows of a downloaded blob: its file and its GC root.
#[derive(Clone)]
pub(super) struct Kept {
    file: Cid,
    /// Key of the GC root, and the GC root.
    reference: Option<(Cid, GcRoot)>,
}

impl Kept {
    pub(super) fn of(blob: &Blob, file: Cid, owned: bool) -> Self {
        let reference = blob.holder.map(|holder| {
            let roots: BTreeSet<Cid> = [holder, *blob.at.root(), file].into();
            let roots: Vec<Cid> = roots.into_iter().collect();
            (holder, GcRoot::new(owned, &roots, vec![(blob.digest.clone(), blob.at.clone())]))
        });
        Self { file, reference }
    }

    pub(super) fn retain(&self, write: &WriteTransaction) -> Result<(), StoreError> {
        match &self.reference {
            Some((holder, reference)) => index::retain_also(write, holder, reference),
            None => Ok(()),
        }
    }

    fn roots(&self) -> Vec<Cid> {
        self.reference.as_ref().map_or(vec![self.file], |(_, reference)| reference.roots())
    }
}

/// The bytes and the layout of a file that is one block; none where the blob is stored already, or is another kind of file.
fn single(store: &Store, blob: &Blob, file: Cid) -> Result<Option<(Bytes, BlobLayout)>, StoreError> {
    if store.blob(&blob.digest)?.is_some() {
        return Ok(None);
    }
    let Some(block) = store.get(&file)? else { return Ok(None) };
    Ok(match DagNode::decode(&file, block.clone()) {
        Ok(DagNode::File { data, children }) if children.is_empty() => {
            let leaf = Leaf { cid: file, offset: 0, length: data.len() as u64 };
            let nodes = vec![Block { cid: file, data: block }];
            let layout = match data.len() {
                0 => BlobLayout { root: file, leaves: vec![], nodes },
                _ => BlobLayout { root: file, leaves: vec![leaf], nodes: vec![] },
            };
            Some((data, layout))
        }
        _ => None,
    })
}

/// Opens a stored file. Returns none if it was collected since, or lost its file.
fn open_if_there(store: &Store, stored: &Stored) -> Result<Option<BlobFile>, StoreError> {
    match store.open_file(stored) {
        Err(StoreError::Gone(_)) => {
            store.demote(stored)?;
            Ok(None)
        }
        opened => opened.map(Some),
    }
}

fn right_size(blob: &Blob, size: u64) -> Result<(), Error> {
    if size == blob.size {
        return Ok(());
    }
    Err(Error::Mismatch { at: blob.at.clone(), why: format!("size is {size} bytes, expected {}", blob.size) })
}
