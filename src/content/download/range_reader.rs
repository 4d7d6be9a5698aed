//! Reads ranges of a download.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::watch;

use super::{Committed, Download, DownloadState, ReaderState, WINDOW_BYTES};
use crate::content::{Blob, Error, budget::PieceBudget, locked};

/// A reader of one or several ranges of a download, one after the other; the download continues without it.
pub struct RangeReader {
    shared: Arc<Download>,
    number: u64,
    /// What is not read yet of the current range.
    range: Range<u64>,
    /// The ranges after it, in any order, none overlapping another.
    rest: VecDeque<Range<u64>>,
    /// Bytes that are not read yet of all ranges.
    left: u64,
    /// Where that begins which is not read again, up to the current position.
    done_from: u64,
    /// Where it told last that it waits.
    waits_at: Option<u64>,
    pub(super) progress: watch::Receiver<DownloadState>,
    stall_timeout: Duration,
    budget: PieceBudget,
}

impl RangeReader {
    pub(super) fn new(
        shared: Arc<Download>,
        ranges: Vec<Range<u64>>,
        promised: Option<&Blob>,
        stall_timeout: Duration,
        budget: &PieceBudget,
    ) -> Self {
        let mut readers = locked(&shared.readers);
        readers.counter += 1;
        let number = readers.counter;
        let left = ranges.iter().map(|range| range.end - range.start).sum();
        let mut rest = VecDeque::from(ranges);
        let state = ReaderState { ranges: rest.clone(), is_by_cid: promised.is_none(), waits_at: None };
        readers.all.insert(number, state);
        if let Some(blob) = promised
            && !readers.promised.contains(blob)
        {
            readers.promised.push(blob.clone());
        }
        drop(readers);
        shared.moved.notify_one();
        let progress = shared.progress.subscribe();
        let range = rest.pop_front().unwrap_or_default();
        let (done_from, budget) = (done_from(&range, &rest), budget.clone());
        Self { shared, number, range, rest, left, done_from, waits_at: None, progress, stall_timeout, budget }
    }

    /// How many bytes it will give.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// The next bytes, when they are here, all of one range; none at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        while self.range.is_empty() {
            let Some(next) = self.rest.pop_front() else { return Ok(None) };
            self.done_from = done_from(&next, &self.rest);
            self.range = next;
            self.shared.tell(self.number, |reader| {
                reader.ranges.pop_front();
            });
        }
        let Range { start, end } = self.range;
        loop {
            let here = self.shared.file.available(start).min(end - start).min(WINDOW_BYTES);
            if here > 0 {
                let room = self.budget.reserve(here).await?;
                let here = room.length();
                let (file, hashed) = (self.shared.file.clone(), self.shared.hashed.load(Ordering::Relaxed));
                let done = self.done_from..start.min(hashed);
                let read = tokio::task::spawn_blocking(move || {
                    file.forget(done)?;
                    Ok::<_, Error>(room.hold(file.read_at(start, here as usize)?))
                });
                let bytes = read.await.map_err(Error::stopped)??;
                self.read_on(here);
                return Ok(Some(bytes));
            }
            self.wait().await?;
        }
    }

    /// Counts bytes as read; of a file that is only streamed through more is fetched.
    fn read_on(&mut self, length: u64) {
        self.range.start += length;
        self.left -= length;
        let is_streaming_through = self.shared.file.is_streaming_through();
        if is_streaming_through || self.waits_at.take().is_some() {
            let start = self.range.start;
            self.shared.tell(self.number, |reader| {
                reader.waits_at = None;
                if let Some(current) = reader.ranges.front_mut().filter(|_| is_streaming_through) {
                    current.start = start;
                }
            });
        }
    }

    async fn wait(&mut self) -> Result<(), Error> {
        if let Some(Err(error)) = &self.progress.borrow_and_update().outcome {
            return Err(error.clone());
        }
        // What came between the look at the file and this is told by the next change or found there now.
        let start = self.range.start;
        if self.shared.file.available(start) > 0 {
            return Ok(());
        }
        if self.waits_at != Some(start) {
            self.waits_at = Some(start);
            self.shared.tell(self.number, |reader| reader.waits_at = Some(start));
        }
        self.changed().await
    }

    async fn changed(&mut self) -> Result<(), Error> {
        if self.progress.borrow().is_committing {
            return self.progress.changed().await.map_err(Error::stopped);
        }
        let after = self.stall_timeout;
        match tokio::time::timeout(after, self.progress.changed()).await {
            Ok(changed) => changed.map_err(Error::stopped),
            Err(_) => Err(Error::Stalled { at: self.shared.root.into(), after }),
        }
    }

    /// Waits until the file is stored; `progress` gets the number of bytes that are on disk.
    pub async fn wait_until_stored(&mut self, progress: &mut (dyn FnMut(u64) + Send)) -> Result<(), Error> {
        while self.progress.borrow_and_update().outcome.is_none() {
            progress(self.shared.file.written());
            self.changed().await?;
        }
        self.outcome().await.map(drop)
    }

    /// Waits until the whole file is here and was hashed.
    pub async fn outcome(&mut self) -> Result<Arc<Committed>, Error> {
        loop {
            if let Some(outcome) = self.progress.borrow_and_update().outcome.clone() {
                return outcome;
            }
            self.changed().await?;
        }
    }
}

/// Returns where that begins which is not read any more once `current` is being read, before `rest`.
fn done_from(current: &Range<u64>, rest: &VecDeque<Range<u64>>) -> u64 {
    rest.iter().map(|range| range.end).filter(|end| *end <= current.start).max().unwrap_or(0)
}

impl Drop for RangeReader {
    fn drop(&mut self) {
        locked(&self.shared.readers).all.remove(&self.number);
        self.shared.moved.notify_one();
    }
}
