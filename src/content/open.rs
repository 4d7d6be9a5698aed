//! Opens blobs and files: stored ones from their file, others while they are downloaded.

use std::{ops::Range, slice};

use bytes::Bytes;
use ocipfs_node::{Cid, FetchError};
use ocipfs_oci::{Algorithm, Digest, Hasher};
use ocipfs_unixfs::DagNode;

use super::{
    Blob, CidPath, Content, Error, Store, StoreError,
    download::{Purpose, ResolvedDownload},
    fetch::DagFetcher,
    hold, locked,
    reader::{BlobFileStream, ByteSource, Last, Reader},
    store::{BlobFile, Stored},
};

impl Content {
    /// Opens a file by its CID alone: each block is verified, the whole has no digest.
    /// A file of several blocks is stored when its stream has ended.
    pub async fn open_at(&self, at: &CidPath) -> Result<Reader, Error> {
        self.open_part(at, 0..u64::MAX, Purpose::Read).await
    }

    /// Opens a range of a file by its CID alone; the range is cut at the end of the file.
    pub async fn open_range_at(&self, at: &CidPath, range: Range<u64>) -> Result<Reader, Error> {
        self.open_part(at, range, Purpose::Read).await
    }

    /// Opens a file that is to be kept; fails if it does not fit.
    pub async fn fetch_at(&self, at: &CidPath) -> Result<Reader, Error> {
        self.open_part(at, 0..u64::MAX, Purpose::Keep).await
    }

    async fn open_part(&self, at: &CidPath, range: Range<u64>, purpose: Purpose) -> Result<Reader, Error> {
        let _guard = self.gc_guard().await;
        loop {
            let found = self.resolve_file_root(at).await?;
            let size = found.node.size();
            let part = range.start.min(size)..range.end.min(size);
            let length = part.end.saturating_sub(part.start);
            if length == 0 && size > 0 {
                return Ok(Reader::made(Bytes::new()));
            }
            if let Some(source) = self.open_local(&found, None, slice::from_ref(&part)).await? {
                return Reader::begin(length, source).await;
            }
            self.may_download(found.root).await?;
            let last = if length == size { Last::Stored } else { Last::Nothing };
            if let Some(part) = self.join_download(found, vec![part], None, purpose).await? {
                return Reader::begin(length, ByteSource::Download { part, last, ended: false }).await;
            }
        }
    }

    /// The sha256 of a file that was read whole.
    pub async fn digest_of(&self, root: &Cid) -> Result<Digest, Error> {
        if let Some(stored) = self.stored(root).await? {
            return Ok(stored.digest);
        }
        let missing = || FetchError::Offline(*root);
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
        self.store().guard_cid(&root);
        let find =
            move |store: &Store| if store.is_visible_file(&root)? { store.file(&root) } else { Ok(None) };
        Ok(self.store().run(find).await?)
    }

    /// Opens `range` of a blob once its first bytes are here. What is not here is fetched; a blob read
    /// whole is verified by its digest before its last bytes are given, and is not hashed again afterwards.
    pub async fn open(&self, blob: &Blob, range: Range<u64>) -> Result<Reader, Error> {
        self.open_ranges(blob, &[range]).await
    }

    /// Opens several ranges of a blob, which do not overlap: the reader gives the bytes of one after the other, in this
    /// order, and each piece is of one range. Only these ranges are fetched.
    pub async fn open_ranges(&self, blob: &Blob, ranges: &[Range<u64>]) -> Result<Reader, Error> {
        match self.open_blob(blob, ranges, Purpose::Read).await {
            Err(Error::Node(why @ (FetchError::NotFound { .. } | FetchError::Offline(_))))
                if self.is_damaged(&blob.digest).await? =>
            {
                Err(Error::Damaged { digest: blob.digest.clone(), why })
            }
            opened => opened,
        }
    }

    /// Opens the whole of a blob that is to be kept; fails if it does not fit.
    pub async fn fetch(&self, blob: &Blob) -> Result<Reader, Error> {
        self.open_blob(blob, slice::from_ref(&(0..blob.size)), Purpose::Keep).await
    }

    async fn open_blob(&self, blob: &Blob, ranges: &[Range<u64>], purpose: Purpose) -> Result<Reader, Error> {
        self.refuse_rejected(blob)?;
        let _guard = self.gc_guard().await;
        let size = ranges.iter().map(|range| range.end.saturating_sub(range.start)).sum();
        // Retries if another task stored the file in between.
        loop {
            if let Some(file) = self.stored_file(&blob.digest).await? {
                right_size(blob, file.size())?;
                match Reader::begin(size, ByteSource::File(self.stream(file, ranges.to_vec()))).await {
                    // Found damaged before anything was sent: it can come from peers.
                    Err(_) if !self.has(&blob.digest).await? => continue,
                    begun => return begun,
                }
            }
            // Wants the root block if it is not stored; `join_download` fetches the others.
            let found = self.resolve_file_root(&blob.at).await?;
            right_size(blob, found.node.size())?;
            if let Some(source) = self.open_local(&found, Some(blob), ranges).await? {
                return Reader::begin(size, source).await;
            }
            let is_whole = ranges == slice::from_ref(&(0..blob.size));
            let last = if is_whole { Last::Digest(blob.digest.clone()) } else { Last::Nothing };
            if let Some(part) = self.join_download(found, ranges.to_vec(), Some(blob), purpose).await? {
                return Reader::begin(size, ByteSource::Download { part, last, ended: false }).await;
            }
        }
    }

    /// Fetches the whole of a blob into the cache, to be read later; refused at once where it does not fit.
    pub async fn cache(&self, blob: &Blob) -> Result<(), Error> {
        self.cache_with(blob, &mut |_| {}).await
    }

    /// Does the same as [`Self::cache`]; `progress` is told the bytes of the blob that are here.
    pub async fn cache_with(&self, blob: &Blob, progress: &mut (dyn FnMut(u64) + Send)) -> Result<(), Error> {
        let (gc, size) = (self.0.gc.clone(), blob.size);
        let fits = move |store: &Store| gc.fits(store, size);
        if self.stored_file(&blob.digest).await?.is_none() && !self.store().run(fits).await? {
            return Err(Error::NoRoom { size });
        }
        let whole = 0..blob.size;
        let mut reader = self.open_blob(blob, slice::from_ref(&whole), Purpose::Cache).await?;
        reader.wait_until_stored(progress).await
    }

    /// Fetches the whole of a blob that is to be kept, and returns it as stored; none if it was collected since.
    pub async fn fetch_stored(&self, blob: &Blob) -> Result<Option<Stored>, Error> {
        self.fetch_stored_with(blob, &mut |_| {}).await
    }

    /// Does the same as [`Self::fetch_stored`]; `progress` is told the bytes of the blob that are here.
    pub async fn fetch_stored_with(
        &self,
        blob: &Blob,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Option<Stored>, Error> {
        self.fetch(blob).await?.wait_until_stored(progress).await?;
        self.stored_blob(&blob.digest).await
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
        let whole = 0..file.size();
        Reader::begin(whole.end, ByteSource::File(self.stream(file, vec![whole]))).await
    }

    /// Reads the whole of a blob that is stored, without a client's piece, in one visit of the store; nothing where it has
    /// another size. The bytes hold `memory`.
    pub(super) async fn read_stored<T: Send + 'static>(
        &self,
        blob: &Blob,
        memory: T,
    ) -> Result<Option<Bytes>, Error> {
        let (digest, size) = (blob.digest.clone(), blob.size);
        let read = move |store: &Store| {
            let file = open_stored_file(store, &digest)?.filter(|file| file.size() == size);
            let read = file.map(|file| file.read_next(&mut file.check(&(0..size)), 0, size as usize));
            Ok(read.map(|bytes| bytes.map(|bytes| hold(bytes, memory))))
        };
        Ok(self.store().run(read).await?.transpose()?)
    }

    fn stream(&self, file: BlobFile, ranges: Vec<Range<u64>>) -> BlobFileStream {
        BlobFileStream::new(file, ranges, self.0.sending.clone())
    }

    async fn stored_file(&self, digest: &Digest) -> Result<Option<BlobFile>, Error> {
        let digest = digest.clone();
        Ok(self.store().run(move |store| open_stored_file(store, &digest)).await?)
    }

    /// Follows a path to a file and gets the file's root block; stores the blocks fetched on the way.
    async fn resolve_file_root(&self, at: &CidPath) -> Result<ResolvedDownload, Error> {
        let mut fetcher = DagFetcher::new(self.clone(), at);
        let file = fetcher.resolve_file(at).await?;
        let block = fetcher.block(&file.cid).await?;
        let (fetched, block_fetcher) = fetcher.into_parts();
        self.keep_blocks(fetched).await;
        Ok(ResolvedDownload { root: file.cid, node: file.node, block, block_fetcher })
    }

    /// Returns the bytes of a file that is local: of one block, or stored under another digest.
    async fn open_local(
        &self,
        found: &ResolvedDownload,
        blob: Option<&Blob>,
        ranges: &[Range<u64>],
    ) -> Result<Option<ByteSource>, Error> {
        if let DagNode::File { data, children } = &found.node
            && children.is_empty()
        {
            if let Some(blob) = blob {
                self.verify_single(blob, found, data).await?;
            }
            let slice = |range: &Range<u64>| data.slice(range.start as usize..range.end as usize);
            return Ok(Some(ByteSource::Made(ranges.iter().map(slice).collect())));
        }
        let Some(stored) = self.stored(&found.root).await? else { return Ok(None) };
        if let Some(blob) = blob
            && !self.verify_stored(blob, &stored).await?
        {
            return Ok(None);
        }
        let file = self.store().run(move |store| open_if_there(store, &stored)).await?;
        Ok(file.map(|file| ByteSource::File(self.stream(file, ranges.to_vec()))))
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
        let (mut hasher, whole) = (Hasher::new(blob.digest.algorithm()), 0..file.size());
        let mut stream = self.stream(file, vec![whole]);
        while let Some(bytes) = stream.next().await? {
            hasher.update(&bytes);
        }
        let digest = hasher.finish();
        if digest != blob.digest {
            return Err(self.reject(blob, &digest));
        }
        self.remember(&self.0.verified, blob);
        Ok(true)
    }

    async fn verify_single(&self, blob: &Blob, found: &ResolvedDownload, data: &Bytes) -> Result<(), Error> {
        let mut hasher = Hasher::new(blob.digest.algorithm());
        hasher.update(data);
        let digest = hasher.finish();
        if digest != blob.digest {
            return Err(self.reject(blob, &digest));
        }
        match self.retain_blob(blob, found.root, false).await {
            // It can be given all the same.
            Err(Error::Quota { .. }) => Ok(()),
            kept => kept,
        }
    }
}

/// Opens a blob that is stored, if the viewer of the task may read it. Under a guard it is not collected.
fn open_stored_file(store: &Store, digest: &Digest) -> Result<Option<BlobFile>, StoreError> {
    let Some(stored) = store.blob(digest)? else { return Ok(None) };
    if !store.is_visible_blob(digest)? {
        return Ok(None);
    }
    store.guard_cid(&stored.root);
    open_if_there(store, &stored)
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
