//! Unread bytes of streams, counted for each connection and for the process.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::Waker,
};

/// The cost of a frame besides its bytes: its buffer's header and its place in two queues. Otherwise frames of one byte
/// would use seventy times the counted memory.
pub(crate) const FRAME_OVERHEAD: usize = 68;

/// The maximum length of a piece of a frame.
pub(crate) const MAX_PIECE: usize = 16 * 1024;

/// Bytes that a connection may always hold, so that it can continue once its streams are read.
const MIN_SHARE: usize = MAX_PIECE + FRAME_OVERHEAD;

const DEFAULT_LIMIT: usize = 16 * 1024 * 1024;

/// Returns the account of this process.
pub fn process() -> &'static Arc<Account> {
    static PROCESS: LazyLock<Arc<Account>> = LazyLock::new(|| Arc::new(Account::new(DEFAULT_LIMIT)));
    &PROCESS
}

/// The unread bytes of many connections.
///
/// Half of the limit is shared freely. When that half is used up, a connection may hold only its share of the other
/// half, and when that is used up too, one piece of a frame. A connection that holds more is not read.
#[derive(Debug)]
pub struct Account {
    limit: AtomicUsize,
    held: AtomicUsize,
    connections: AtomicUsize,
    /// Connections that are not read until others hold less.
    paused: Mutex<Vec<Weak<Streams>>>,
    any_paused: AtomicBool,
}

impl Account {
    /// Returns an account with a limit in bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            limit: AtomicUsize::new(limit),
            held: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            paused: Mutex::default(),
            any_paused: AtomicBool::new(false),
        }
    }

    /// Changes the limit, in bytes.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Relaxed);
    }

    /// Returns the number of bytes that are held.
    pub fn held(&self) -> usize {
        self.held.load(Relaxed)
    }

    fn free_for_all(&self) -> usize {
        self.limit.load(Relaxed) / 2
    }

    /// Returns whether a connection that holds `held` bytes may hold `cost` more.
    fn has_room(&self, held: usize, cost: usize) -> bool {
        let all = self.held() + cost;
        all <= self.free_for_all()
            || all <= self.limit.load(Relaxed) && held + cost <= self.share()
            || held + cost <= MIN_SHARE
    }

    /// Returns the share of each connection when the free half is used up.
    fn share(&self) -> usize {
        (self.free_for_all() / self.connections.load(Relaxed).max(1)).max(MIN_SHARE)
    }

    fn pause(&self, streams: &Arc<Streams>) {
        let mut paused = lock(&self.paused);
        if paused.len() > 2 * self.connections.load(Relaxed) {
            paused.retain(|streams| streams.strong_count() > 0);
        }
        paused.push(Arc::downgrade(streams));
        drop(paused);
        self.any_paused.store(true, Relaxed);
    }

    fn release(&self, bytes: usize) {
        let held = self.held.fetch_sub(bytes, Relaxed) - bytes;
        // An eighth stays free, so that paused connections are not woken for each frame that is read elsewhere.
        let free = self.free_for_all();
        if held < free - free / 8 && self.any_paused.swap(false, Relaxed) {
            let paused = std::mem::take(&mut *lock(&self.paused));
            paused.iter().filter_map(Weak::upgrade).for_each(|streams| streams.resume());
        }
    }
}

/// Outcome of charging a frame to the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Charge {
    Done,
    /// The account has no memory for it yet.
    NoMemory,
    /// The stream was dropped or refused, so nothing reads the frame.
    NoStream,
}

/// What happened to a stream that the peer opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// yamux accepted it.
    Accepted(u32),
    Dropped(u32),
}

/// The streams of one connection, with their unread bytes.
#[derive(Debug)]
pub(crate) struct Streams {
    account: Arc<Account>,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    held: usize,
    /// The lengths of the unread frames of each stream, in order; the first one is reduced as it is read.
    streams: HashMap<u32, VecDeque<u32>>,
    /// The stream that the current frame opens, until yamux accepts it: it may refuse or ignore the frame.
    opening: Option<(u32, VecDeque<u32>)>,
    /// Streams that were accepted or dropped, for the reader of the connection.
    changes: Vec<Change>,
    /// Bytes read from streams so far.
    read: u64,
    /// The task that reads the connection, while it waits for memory.
    reader: Option<Waker>,
    /// Whether the account has recorded the pause.
    paused: bool,
}

impl Streams {
    /// Creates the table of a new connection, which [`Streams::closed`] ends.
    pub(crate) fn new(account: Arc<Account>) -> Arc<Self> {
        account.connections.fetch_add(1, Relaxed);
        Arc::new(Self { account, table: Mutex::default() })
    }

    /// Ends the connection's share. Its streams hold their bytes until they are dropped.
    pub(crate) fn closed(&self) {
        self.account.connections.fetch_sub(1, Relaxed);
    }

    /// Begins a frame. What the previous one charged to a stream that yamux did not accept is released.
    pub(crate) fn next_frame(&self) {
        let mut table = lock(&self.table);
        let frames = table.opening.take().map(|(_, frames)| frames).unwrap_or_default();
        self.release(table, total(frames));
    }

    /// Records that the current frame opens a stream.
    pub(crate) fn opening(&self, id: u32) {
        let mut table = lock(&self.table);
        if !table.streams.contains_key(&id) {
            table.opening = Some((id, VecDeque::new()));
        }
    }

    /// Adds a stream that yamux opened or accepted.
    pub(crate) fn opened(&self, id: u32) {
        let mut table = lock(&self.table);
        let opening = table.opening.take_if(|(opening, _)| *opening == id);
        table.streams.entry(id).or_insert_with(|| opening.map(|(_, frames)| frames).unwrap_or_default());
    }

    /// Adds a stream that the peer opened and yamux accepted.
    pub(crate) fn accepted(&self, id: u32) {
        self.opened(id);
        lock(&self.table).changes.push(Change::Accepted(id));
    }

    /// Returns the streams that were accepted or dropped since the last call.
    pub(crate) fn take_changes(&self) -> Vec<Change> {
        std::mem::take(&mut lock(&self.table).changes)
    }

    /// Returns whether memory is plentiful, so that a stream may be granted more than others.
    pub(crate) fn is_roomy(&self) -> bool {
        self.account.held() < self.account.free_for_all() / 2
    }

    /// Charges a frame of `length` bytes to a stream before its bytes are read from the socket. Without memory for it
    /// `reader` is woken when there is, and may check again after a while.
    pub(crate) fn charge(self: &Arc<Self>, id: u32, length: u32, reader: &Waker) -> Charge {
        let cost = cost(length);
        let mut table = lock(&self.table);
        let Table { held, streams, opening, .. } = &mut *table;
        let opening = opening.as_mut().filter(|(opening, _)| *opening == id).map(|(_, frames)| frames);
        let Some(stream) = streams.get_mut(&id).or(opening) else { return Charge::NoStream };
        if !self.account.has_room(*held, cost) {
            table.reader = Some(reader.clone());
            let known = std::mem::replace(&mut table.paused, true);
            drop(table);
            if !known {
                self.account.pause(self);
            }
            return Charge::NoMemory;
        }
        stream.push_back(length);
        *held += cost;
        self.account.held.fetch_add(cost, Relaxed);
        Charge::Done
    }

    /// Records that `bytes` were read from a stream.
    pub(crate) fn read(&self, id: u32, bytes: usize) {
        let mut table = lock(&self.table);
        table.read += bytes as u64;
        let Some(stream) = table.streams.get_mut(&id) else { return };
        let (mut left, mut released) = (bytes, 0);
        while let Some(first) = stream.front_mut() {
            let length = *first as usize;
            if left < length {
                *first -= left as u32;
                released += left;
                break;
            }
            stream.pop_front();
            left -= length;
            released += length + FRAME_OVERHEAD;
        }
        self.release(table, released);
    }

    /// Removes a dropped stream with all its bytes.
    pub(crate) fn dropped(&self, id: u32) {
        let mut table = lock(&self.table);
        let frames = table.streams.remove(&id).unwrap_or_default();
        table.changes.push(Change::Dropped(id));
        self.release(table, total(frames));
    }

    /// Returns the bytes read from the connection's streams so far, which show whether they are read at all.
    pub(crate) fn progress(&self) -> u64 {
        lock(&self.table).read
    }

    /// Returns the bytes that the connection holds.
    pub(crate) fn held(&self) -> usize {
        lock(&self.table).held
    }

    fn release(&self, mut table: MutexGuard<'_, Table>, bytes: usize) {
        if bytes == 0 {
            return;
        }
        table.held -= bytes;
        let reader = if table.held < self.account.share() { table.reader.take() } else { None };
        drop(table);
        self.account.release(bytes);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    fn resume(&self) {
        let reader = {
            let mut table = lock(&self.table);
            table.paused = false;
            table.reader.take()
        };
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

impl Drop for Streams {
    /// Releases what no stream was made for, such as the frame in which the connection broke.
    fn drop(&mut self) {
        let held = lock(&self.table).held;
        if held > 0 {
            self.account.release(held);
        }
    }
}

fn cost(length: u32) -> usize {
    length as usize + FRAME_OVERHEAD
}

fn total(frames: VecDeque<u32>) -> usize {
    frames.into_iter().map(cost).sum()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
