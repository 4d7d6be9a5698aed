use std::{
    sync::mpsc::{SyncSender, sync_channel},
    thread::{self, JoinHandle},
};

use bytes::Bytes;

use crate::content::store::Error;

/// Pieces that wait for one thread.
const QUEUE_LENGTH: usize = 4;

/// Where it takes pieces, and what it ends with.
type Thread<S> = (SyncSender<Bytes>, JoinHandle<Result<S, Error>>);

/// Work on pieces in their order: by a thread while many come, and at rest otherwise.
pub struct Worker<S> {
    name: &'static str,
    work: fn(&mut S, &[u8]) -> Result<(), Error>,
    /// None while the thread has it, and when that failed.
    rest: Option<S>,
    thread: Option<Thread<S>>,
}

impl<S: Send + 'static> Worker<S> {
    pub fn new(name: &'static str, state: S, work: fn(&mut S, &[u8]) -> Result<(), Error>) -> Self {
        Self { name, work, rest: Some(state), thread: None }
    }

    /// Does it here and now, where no thread is at it.
    pub fn work(&mut self, piece: &[u8]) -> Result<(), Error> {
        let work = self.work;
        work(self.at_rest()?, piece)
    }

    /// Returns the state that the work changes; fails while a thread has it.
    pub fn at_rest(&mut self) -> Result<&mut S, Error> {
        self.rest.as_mut().ok_or(Error::BrokenOff)
    }

    /// Has a thread do it, and waits for room.
    pub fn give(&mut self, piece: Bytes) -> Result<(), Error> {
        if let Some(mut state) = self.rest.take() {
            let (pieces, waiting) = sync_channel::<Bytes>(QUEUE_LENGTH);
            let work = self.work;
            let run = move || waiting.iter().try_for_each(|piece| work(&mut state, &piece)).map(|()| state);
            let thread = thread::Builder::new().name(self.name.into()).spawn(run).map_err(Error::Thread)?;
            self.thread = Some((pieces, thread));
        }
        match &self.thread {
            Some((pieces, _)) if pieces.send(piece).is_ok() => Ok(()),
            // It hangs up before the end only with an error.
            _ => Err(self.stop().err().unwrap_or(Error::BrokenOff)),
        }
    }

    /// Waits until the queue is processed, and ends the thread.
    pub fn stop(&mut self) -> Result<(), Error> {
        if let Some((pieces, thread)) = self.thread.take() {
            drop(pieces);
            let state = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            self.rest = Some(state);
        }
        Ok(())
    }

    pub fn end(mut self) -> Result<S, Error> {
        self.stop()?;
        self.rest.ok_or(Error::BrokenOff)
    }
}
