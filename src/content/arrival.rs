//! Files that are arriving: one task a file fetches what its readers need, each block once, however many read.
//!
//! ```text
//! readers ─► join, prefer ─► task: tree (what is missing) ─► session (peers)
//!    ▲                         │                                 │ blocks, verified
//!    └── windows, outcome ◄────┴── hash (in order) ◄── store ◄───┘ written in place
//! ```

mod task;
mod tree;

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use ocipfs_node::{Cid, Session};
use tokio::sync::{mpsc, watch};

use super::{
    Blob, Content, Error,
    dag::Unit,
    locked,
    store::{self, Arriving, Stored},
};

/// What one read gives at most.
const WINDOW: u64 = 1 << 20;

/// All files that somebody reads while they arrive, by their roots.
#[derive(Default)]
pub struct Arrivals(Mutex<HashMap<Cid, Arc<Shared>>>);

/// What a file that comes is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To be read: where there is no room for it, it is passed on and not kept.
    Read,
    /// To be kept: where there is no room for it, it is refused.
    Keep,
}

/// How far ahead of its reader a file comes that is only passed on.
const PASSED_AHEAD: u64 = 32 << 20;

/// What readers and the task have in common.
struct Shared {
    /// The root under version 1.
    name: Cid,
    root: Cid,
    file: Arriving,
    readers: Mutex<Readers>,
    commands: mpsc::UnboundedSender<Command>,
    progress: watch::Sender<Progress>,
    /// How far a file that is only passed on was hashed, if it is read whole.
    hashed: AtomicU64,
}

#[derive(Default)]
struct Readers {
    ranges: BTreeMap<u64, Range<u64>>,
    counter: u64,
    /// What the whole must be, according to those who read it.
    promised: Vec<Blob>,
}

enum Command {
    /// Somebody came or went.
    Changed,
    /// Somebody waits here.
    Prefer(u64),
}

#[derive(Clone, Debug, Default)]
struct Progress {
    /// Counts the blocks that came.
    steps: u64,
    outcome: Option<Result<Stored, Error>>,
}

/// A file to be fetched, whose first block is here.
pub struct Start {
    pub root: Cid,
    pub unit: Unit,
    pub block: Bytes,
    pub session: Session,
}

impl Content {
    /// Joins those who read a file while it arrives, or begins to fetch it; none if it is stored by now.
    pub(super) async fn join(
        &self,
        start: Start,
        range: Range<u64>,
        promised: Option<&Blob>,
        purpose: Purpose,
    ) -> Result<Option<Part>, Error> {
        let file = match self.arrive(&start, purpose).await {
            Err(store::Error::Stored(_)) => return Ok(None),
            file => file?,
        };
        let stall_timeout = self.0.settings.stall_timeout;
        let mut arrivals = locked(&self.0.arrivals.0);
        let name = name(&start.root);
        let is_passing = file.is_passing();
        if let Some(shared) = arrivals.get(&name).filter(|_| !is_passing) {
            return Ok(Some(Part::new(shared.clone(), range, promised, stall_timeout)));
        }
        let (commands, inbox) = mpsc::unbounded_channel();
        let is_whole = range == (0..start.unit.size());
        let shared = Arc::new(Shared {
            name,
            root: start.root,
            file,
            readers: Mutex::default(),
            commands,
            progress: watch::Sender::default(),
            hashed: AtomicU64::new(if is_whole { 0 } else { u64::MAX }),
        });
        let part = Part::new(shared.clone(), range, promised, stall_timeout);
        if !is_passing {
            arrivals.insert(name, shared.clone());
        }
        drop(arrivals);
        tokio::spawn(task::run(self.clone(), shared, start, inbox));
        Ok(Some(part))
    }

    /// Has the store take a file, or only pass it on where there is no room and none can be made.
    async fn arrive(&self, start: &Start, purpose: Purpose) -> Result<Arriving, store::Error> {
        let (root, size) = (start.root, start.unit.size());
        let is_known = locked(&self.0.arrivals.0).contains_key(&name(&root));
        let space = self.0.space.clone();
        let arrive = move |store: &store::Store| {
            // Its room is reserved first, so that what others reserve is seen.
            let file = store.arrive(root, size)?;
            if is_known {
                return Ok(file);
            }
            match purpose {
                Purpose::Keep => store.check_room(0).map(|()| file),
                Purpose::Read if space.admits(store, size)? => Ok(file),
                Purpose::Read => {
                    drop(file);
                    tracing::info!(%root, size, "there is no room to keep a file: it is passed on");
                    store.pass_on(root, size)
                }
            }
        };
        self.store().run(arrive).await
    }
}

/// A root under version 1.
fn name(root: &Cid) -> Cid {
    Cid::new_v1(root.codec(), *root.hash())
}

impl Arrivals {
    /// What must stay for the files that are arriving: they themselves, and what led to them.
    pub fn roots(&self) -> Vec<Cid> {
        let mut roots = Vec::new();
        for shared in locked(&self.0).values() {
            roots.push(shared.root);
            let promised = &locked(&shared.readers).promised;
            roots.extend(promised.iter().flat_map(|blob| blob.holder.into_iter().chain([*blob.at.root()])));
        }
        roots
    }

    /// Removes a file that nobody reads any more, or that `must` end; whether it is gone.
    fn leave(&self, shared: &Arc<Shared>, must: bool) -> bool {
        let mut arrivals = locked(&self.0);
        if !must && !locked(&shared.readers).ranges.is_empty() {
            return false;
        }
        if arrivals.get(&shared.name).is_some_and(|known| Arc::ptr_eq(known, shared)) {
            arrivals.remove(&shared.name);
        }
        true
    }
}

impl Shared {
    fn ranges(&self) -> Vec<Range<u64>> {
        let ahead = if self.file.is_passing() { PASSED_AHEAD } else { u64::MAX };
        let near = |range: &Range<u64>| range.start..range.end.min(range.start.saturating_add(ahead));
        locked(&self.readers).ranges.values().map(near).collect()
    }

    fn step(&self) {
        self.progress.send_modify(|progress| progress.steps += 1);
    }

    fn end(&self, outcome: Result<Stored, Error>) {
        self.progress.send_modify(|progress| progress.outcome = Some(outcome));
    }
}

/// A reader's share of a file that arrives; the fetch goes on without it.
pub struct Part {
    shared: Arc<Shared>,
    number: u64,
    range: Range<u64>,
    progress: watch::Receiver<Progress>,
    stall_timeout: Duration,
}

impl Part {
    fn new(shared: Arc<Shared>, range: Range<u64>, promised: Option<&Blob>, stall_timeout: Duration) -> Self {
        let mut readers = locked(&shared.readers);
        readers.counter += 1;
        let number = readers.counter;
        readers.ranges.insert(number, range.clone());
        if let Some(blob) = promised
            && !readers.promised.contains(blob)
        {
            readers.promised.push(blob.clone());
        }
        drop(readers);
        let _ = shared.commands.send(Command::Changed);
        let progress = shared.progress.subscribe();
        Self { shared, number, range, progress, stall_timeout }
    }

    /// How many bytes it will give.
    pub fn left(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// The next bytes, when they are here; none at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let Range { start, end } = self.range;
        if start >= end {
            return Ok(None);
        }
        loop {
            let here = self.shared.file.available(start).min(end - start).min(WINDOW);
            if here > 0 {
                self.range.start += here;
                let (file, hashed) = (self.shared.file.clone(), self.move_on());
                let read = tokio::task::spawn_blocking(move || {
                    file.forget_before(start.min(hashed))?;
                    Ok::<_, Error>(file.read_at(start, here as usize)?)
                });
                return Ok(Some(read.await.map_err(Error::stopped)??));
            }
            self.wait().await?;
        }
    }

    /// Has more fetched of a file that is only passed on; how far it was hashed.
    fn move_on(&self) -> u64 {
        if self.shared.file.is_passing() {
            locked(&self.shared.readers).ranges.insert(self.number, self.range.clone());
            let _ = self.shared.commands.send(Command::Changed);
        }
        self.shared.hashed.load(Ordering::Relaxed)
    }

    async fn wait(&mut self) -> Result<(), Error> {
        if let Some(Err(error)) = &self.progress.borrow_and_update().outcome {
            return Err(error.clone());
        }
        // What came between the look at the file and this is told by the next change or found there now.
        if self.shared.file.available(self.range.start) > 0 {
            return Ok(());
        }
        let _ = self.shared.commands.send(Command::Prefer(self.range.start));
        self.changed().await
    }

    async fn changed(&mut self) -> Result<(), Error> {
        let after = self.stall_timeout;
        match tokio::time::timeout(after, self.progress.changed()).await {
            Ok(changed) => changed.map_err(Error::stopped),
            Err(_) => Err(Error::Stalled { at: self.shared.root.into(), after }),
        }
    }

    /// The same, and tells the bytes that are here whenever more are.
    pub async fn settle(&mut self, progress: &mut (dyn FnMut(u64) + Send)) -> Result<(), Error> {
        while self.progress.borrow_and_update().outcome.is_none() {
            progress(self.shared.file.written());
            self.changed().await?;
        }
        self.outcome().await.map(drop)
    }

    /// Waits until the whole file is here and was hashed.
    pub async fn outcome(&mut self) -> Result<Stored, Error> {
        loop {
            if let Some(outcome) = self.progress.borrow_and_update().outcome.clone() {
                return outcome;
            }
            self.changed().await?;
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        locked(&self.shared.readers).ranges.remove(&self.number);
        let _ = self.shared.commands.send(Command::Changed);
    }
}
