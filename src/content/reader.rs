//! Streams of content. A stream with wrong bytes never ends successfully.

use std::{collections::VecDeque, ops::Range};

use bytes::Bytes;
use ocipfs_oci::Digest;
use tokio::task::JoinHandle;

use super::{
    Error,
    budget::{PieceBudget, PieceReservation},
    download::RangeReader,
    store::{BlobFile, Check},
};

/// Bytes of a stored blob that are read in one piece.
const MAX_READ_BYTES: u64 = 512 << 10;

/// A stream of bytes.
pub struct Reader {
    size: u64,
    /// The first bytes, if they were awaited already.
    first: Option<Bytes>,
    source: ByteSource,
}

pub enum ByteSource {
    /// All bytes are here, in pieces.
    Made(VecDeque<Bytes>),
    File(BlobFileStream),
    Download {
        part: RangeReader,
        last: Last,
        ended: bool,
    },
}

/// Condition for sending the last bytes of a download: a client that has all bytes trusts them.
pub enum Last {
    /// Nothing: this is a part.
    Nothing,
    /// That the whole is stored.
    Stored,
    /// That the whole is stored and has this digest.
    Digest(Digest),
}

type ReadResult = (Option<Check>, std::io::Result<Bytes>);

/// A stored blob, the next piece of which is read while the one before is sent, where there is memory for it.
pub struct BlobFileStream {
    file: BlobFile,
    /// What is not read yet.
    ranges: VecDeque<Range<u64>>,
    check: Option<Check>,
    budget: PieceBudget,
    ahead: Option<JoinHandle<ReadResult>>,
}

impl BlobFileStream {
    /// Streams ranges of a stored blob.
    pub fn new(file: BlobFile, ranges: Vec<Range<u64>>, budget: PieceBudget) -> Self {
        let check = ranges.first().and_then(|range| file.check(range));
        Self { file, ranges: ranges.into(), check, budget, ahead: None }
    }

    /// How long the next piece is to be, which is of one range.
    fn wanted(&mut self) -> u64 {
        while self.ranges.front().is_some_and(Range::is_empty) {
            self.ranges.pop_front();
        }
        self.ranges.front().map_or(0, |range| MAX_READ_BYTES.min(range.end - range.start))
    }

    fn read(&mut self, room: PieceReservation) -> JoinHandle<ReadResult> {
        let length = room.length();
        let (file, mut check) = (self.file.clone(), self.check.take());
        let start = self.ranges.front_mut().map_or(0, |range| {
            let start = range.start;
            range.start += length;
            start
        });
        tokio::task::spawn_blocking(move || {
            let read = file.read_next(&mut check, start, length as usize);
            (check, read.map(|bytes| room.hold(bytes)))
        })
    }

    /// Returns the next bytes; none at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let reading = match self.ahead.take() {
            Some(ahead) => ahead,
            None if self.wanted() == 0 => return Ok(None),
            None => {
                let wanted = self.wanted();
                let room = self.budget.reserve(wanted).await?;
                self.read(room)
            }
        };
        let (check, read) = reading.await.map_err(Error::stopped)?;
        self.check = check;
        let bytes = read?;
        let wanted = self.wanted();
        if wanted > 0 {
            self.ahead = self.budget.spare(wanted).map(|room| self.read(room));
        }
        Ok(Some(bytes))
    }
}

impl ByteSource {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let (part, last, ended) = match self {
            Self::Made(pieces) => return Ok(pieces.pop_front()),
            Self::File(stream) => return stream.next().await,
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
        Self { size: bytes.len() as u64, first: None, source: ByteSource::Made([bytes].into()) }
    }

    /// Waits for the first bytes: what fails before them can still be told as an error.
    pub async fn begin(size: u64, mut source: ByteSource) -> Result<Self, Error> {
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
