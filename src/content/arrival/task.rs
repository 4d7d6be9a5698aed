//! The task behind one arriving file.

use std::{
    ops::Range,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use ocipfs_node::{Block, Cid, Fetched, Session};
use ocipfs_oci::{Algorithm, Digest, Hasher};
use tokio::{sync::mpsc, task::JoinHandle};

use super::{
    Command, Shared, Start,
    tree::{Place, Tree},
};
use crate::content::{
    Blob, Content, Error,
    dag::{Child, Unit},
    locked,
    store::{self, Arriving, Leaf, Store, Stored},
};

/// Parts that are wanted at once.
const WANTED: usize = 2048;
/// The node directory is searched for so many parts at a time.
const SEARCHED: usize = 1024;
/// Blocks written in one go.
const WRITTEN: usize = 8;
/// What came is made durable so often, where it is worth it: so little is lost in a crash, and left to do at the end.
const CHECKPOINT: Duration = Duration::from_millis(250);
/// What it is worth it for, at once or after a while.
const WORTH: u64 = 8 << 20;
const AFTER_ALL: Duration = Duration::from_secs(5);
/// The id of a file that has none, because it was only passed on.
const PASSED: u64 = 0;
/// Read for hashing in one piece.
const HASHED: u64 = 1 << 20;
/// Hashed in one go.
const HASHED_AT_ONCE: u64 = 8 << 20;

/// Fetches a file as far as its readers need it.
pub async fn run(
    content: Content,
    shared: Arc<Shared>,
    start: Start,
    mut inbox: mpsc::UnboundedReceiver<Command>,
) {
    let Start { root, unit, block, mut session } = start;
    let is_hashed = shared.hashed.load(Ordering::Relaxed) == 0 || !shared.file.is_passing();
    let mut task = Task {
        content,
        shared,
        tree: Tree::default(),
        since_checkpoint: 0,
        checkpoint: None,
        checkpointed: Instant::now(),
        begun: Instant::now(),
        whole: is_hashed.then(Whole::new),
    };
    let begun = task.begin(root, unit, block).await;
    let ended = match begun {
        Ok(()) => task.work(&mut session, &mut inbox).await,
        Err(error) => Err(error),
    };
    // Nothing is fetched any more, so its peers need not send what they still have queued.
    drop(session);
    task.end(ended).await;
}

struct Task {
    content: Content,
    shared: Arc<Shared>,
    tree: Tree,
    since_checkpoint: u64,
    checkpoint: Option<JoinHandle<()>>,
    /// When the last one was begun.
    checkpointed: Instant,
    begun: Instant,
    /// Absent while somebody works on it.
    whole: Option<Whole>,
}

/// The running hash of the whole.
struct Whole {
    hasher: Hasher,
    /// How far it is.
    at: u64,
}

impl Whole {
    fn new() -> Self {
        Self { hasher: Hasher::new(Algorithm::Sha256), at: 0 }
    }

    /// Takes data that belongs at `offset`, if it is the next: then it need not be read again.
    fn take(&mut self, offset: u64, data: &[u8]) {
        if offset == self.at {
            self.hasher.update(data);
            self.at += data.len() as u64;
        }
    }

    /// Hashes what is here, up to a bound.
    fn read_on(mut self, file: &Arriving) -> Result<Self, Error> {
        let end = self.at + file.available(self.at).min(HASHED_AT_ONCE);
        while self.at < end {
            let bytes = file.read_at(self.at, HASHED.min(end - self.at) as usize)?;
            self.hasher.update(&bytes);
            self.at += bytes.len() as u64;
        }
        Ok(self)
    }
}

/// A block that was found, and what it says.
struct Absorbed {
    cid: Cid,
    places: Vec<Place>,
    size: usize,
    children: Vec<Child>,
    own: u64,
}

impl Task {
    async fn begin(&mut self, root: Cid, unit: Unit, block: Bytes) -> Result<(), Error> {
        let place = Place { offset: 0, length: unit.size(), depth: 0 };
        let found = vec![(Block { cid: root, data: block }, vec![place])];
        self.absorb(found, Vec::new()).await
    }

    /// Ends well with the digest of the whole, or with none when nobody reads any more.
    async fn work(
        &mut self,
        session: &mut Session,
        inbox: &mut mpsc::UnboundedReceiver<Command>,
    ) -> Result<Option<Digest>, Error> {
        loop {
            self.search_here(session).await?;
            if let Some(digest) = self.hash_what_is_here().await? {
                return Ok(Some(digest));
            }
            let waits = self.tree.lacks_any(&self.shared.ranges());
            tokio::select! {
                () = std::future::ready(()), if self.has_more_to_hash() => {}
                command = inbox.recv() => {
                    if let Some(Command::Prefer(offset)) = command
                        && let Some(cid) = self.tree.at(offset)
                    {
                        session.prefer(cid);
                    }
                    self.retarget(session);
                    if self.shared.ranges().is_empty() && self.content.0.arrivals.leave(&self.shared, false) {
                        return Ok(None);
                    }
                }
                fetched = session.next(), if waits => self.take(session, fetched?).await?,
            }
        }
    }

    /// Takes from the node directory what other files or an earlier attempt left there, as far as more can be wanted.
    async fn search_here(&mut self, session: &Session) -> Result<(), Error> {
        loop {
            self.fetch(session);
            if self.tree.wanted() >= WANTED {
                return Ok(());
            }
            let unknown = self.tree.take_new(&self.shared.ranges(), SEARCHED);
            if unknown.is_empty() {
                return Ok(());
            }
            let here = self.content.store().run(move |store| find(store, unknown)).await?;
            for cids in here.chunks(WRITTEN) {
                let cids = cids.to_vec();
                let blocks = self.content.store().run(move |store| read(store, cids)).await?;
                self.absorb_all(blocks, Vec::new()).await?;
            }
        }
    }

    fn fetch(&mut self, session: &Session) {
        let missing = self.tree.take_missing(&self.shared.ranges(), WANTED);
        if !missing.is_empty() {
            session.want(missing);
        }
    }

    fn retarget(&mut self, session: &Session) {
        let surplus = self.tree.take_surplus(&self.shared.ranges());
        if !surplus.is_empty() {
            session.unwant(surplus);
        }
    }

    /// Takes a block that came, and those that came with it.
    async fn take(&mut self, session: &mut Session, first: Fetched) -> Result<(), Error> {
        let mut fetched = vec![first];
        while fetched.len() < WRITTEN
            && let Some(next) = session.ready()
        {
            fetched.push(next);
        }
        let blocks = fetched.iter().map(|fetched| fetched.block.clone()).collect();
        self.absorb_all(blocks, fetched).await
    }

    async fn absorb_all(&mut self, blocks: Vec<Block>, held: Vec<Fetched>) -> Result<(), Error> {
        let found = blocks.into_iter().map(|block| {
            let places = self.tree.arrived(&block.cid);
            (block, places)
        });
        let found = found.filter(|(_, places)| !places.is_empty()).collect();
        self.absorb(found, held).await
    }

    /// Writes blocks where they belong, and takes up what they lead to. `held` is what their memory is counted by.
    async fn absorb(&mut self, mut found: Vec<(Block, Vec<Place>)>, held: Vec<Fetched>) -> Result<(), Error> {
        // What came in several streams is out of order by a little.
        found.sort_by_key(|(_, places)| places.first().map(|place| place.offset));
        let (file, mut whole) = (self.shared.file.clone(), self.whole.take());
        let write = move || {
            let absorbed = found.into_iter().map(|(block, places)| write(&file, block, places, &mut whole));
            let absorbed = absorbed.collect::<Result<Vec<_>, Error>>();
            drop(held);
            absorbed.map(|absorbed| (absorbed, whole))
        };
        let (absorbed, whole) = tokio::task::spawn_blocking(write).await.map_err(Error::stopped)??;
        self.whole = whole;
        self.say_hashed();
        let cids: Vec<Cid> = absorbed.iter().map(|block| block.cid).collect();
        for block in absorbed {
            self.since_checkpoint += block.size as u64;
            let file = &self.shared.file;
            let here = |range: &Range<u64>| file.has_range(range.start, range.end - range.start);
            self.tree.expand(&block.cid, &block.places, block.own, &block.children, here)?;
        }
        self.shared.step();
        if !self.shared.file.is_passing() {
            self.content.node().arrived(&cids);
            self.checkpoint();
        }
        Ok(())
    }

    fn say_hashed(&self) {
        if let Some(whole) = &self.whole {
            self.shared.hashed.store(whole.at, Ordering::Relaxed);
        }
    }

    fn has_more_to_hash(&self) -> bool {
        self.whole.as_ref().is_some_and(|whole| self.shared.file.available(whole.at) > 0)
    }

    /// Hashes on where parts came before what stands in front of them; the digest, when that was the last.
    async fn hash_what_is_here(&mut self) -> Result<Option<Digest>, Error> {
        if self.has_more_to_hash()
            && let Some(whole) = self.whole.take()
        {
            let file = self.shared.file.clone();
            let hashed = tokio::task::spawn_blocking(move || whole.read_on(&file));
            self.whole = Some(hashed.await.map_err(Error::stopped)??);
            self.say_hashed();
        }
        let size = self.shared.file.size();
        let whole = self.whole.take_if(|whole| whole.at == size);
        Ok(whole.map(|whole| whole.hasher.finish()))
    }

    /// Makes what came so far durable, beside the fetch.
    fn checkpoint(&mut self) {
        let busy = self.checkpoint.as_ref().is_some_and(|task| !task.is_finished());
        let due = if self.since_checkpoint < WORTH { AFTER_ALL } else { CHECKPOINT };
        if busy || self.checkpointed.elapsed() < due {
            return;
        }
        (self.since_checkpoint, self.checkpointed) = (0, Instant::now());
        let file = self.shared.file.clone();
        self.checkpoint = Some(tokio::task::spawn_blocking(move || save(&file)));
    }

    async fn end(mut self, ended: Result<Option<Digest>, Error>) {
        let all_here = Instant::now();
        if let Some(checkpoint) = self.checkpoint.take() {
            let _ = checkpoint.await;
        }
        let outcome = match ended {
            Ok(Some(digest)) => self.settle(digest).await,
            Ok(None) => {
                let file = self.shared.file.clone();
                let _ = tokio::task::spawn_blocking(move || save(&file)).await;
                return;
            }
            Err(error) => Err(error),
        };
        if let Err(Error::Corrupt { .. } | Error::Mismatch { .. }) = &outcome {
            let file = self.shared.file.clone();
            let _ = tokio::task::spawn_blocking(move || file.discard()).await;
        }
        let (size, root) = (self.shared.file.size(), self.shared.root);
        let (took, settling) = (self.begun.elapsed().as_millis(), all_here.elapsed().as_millis());
        tracing::debug!(%root, size, took, settling, "a file has arrived: {}", outcome.is_ok());
        self.content.0.arrivals.leave(&self.shared, true);
        self.shared.end(outcome);
    }

    /// Stores a file that is here whole, if it is what somebody was promised, or nobody was promised anything.
    async fn settle(&self, digest: Digest) -> Result<Stored, Error> {
        let promised = locked(&self.shared.readers).promised.clone();
        let mut kept = Vec::new();
        let mut wrong = Vec::new();
        for blob in promised {
            match self.found(&blob, &digest).await? {
                found if found == blob.digest => kept.push(blob),
                found => wrong.push((blob, found)),
            }
        }
        let mut mismatch = None;
        for (blob, found) in &wrong {
            mismatch = Some(self.content.reject(blob, found));
        }
        if kept.is_empty()
            && let Some(mismatch) = mismatch
        {
            return Err(mismatch);
        }
        if self.shared.file.is_passing() {
            let (root, size) = (self.shared.root, self.shared.file.size());
            return Ok(Stored { id: PASSED, digest, size, root });
        }
        let aliases: Vec<Digest> =
            kept.iter().map(|blob| blob.digest.clone()).filter(|d| *d != digest).collect();
        let file = self.shared.file.clone();
        let finish = tokio::task::spawn_blocking(move || file.finish(&digest, &aliases));
        let stored = finish.await.map_err(Error::stopped)??;
        for blob in kept {
            self.content.keep(&blob, self.shared.root, false).await?;
        }
        Ok(stored)
    }

    /// What the bytes hash to under the algorithm that a promise was made in.
    async fn found(&self, blob: &Blob, sha256: &Digest) -> Result<Digest, Error> {
        let algorithm = blob.digest.algorithm();
        if algorithm == Algorithm::Sha256 {
            return Ok(sha256.clone());
        }
        let (file, mut hasher) = (self.shared.file.clone(), Hasher::new(algorithm));
        let hash = move || {
            let mut at = 0;
            while at < file.size() {
                let bytes = file.read_at(at, HASHED.min(file.size() - at) as usize)?;
                hasher.update(&bytes);
                at += bytes.len() as u64;
            }
            Ok(hasher.finish())
        };
        tokio::task::spawn_blocking(hash).await.map_err(Error::stopped)?
    }
}

/// Which of these blocks are here.
fn find(store: &Store, mut cids: Vec<Cid>) -> Result<Vec<Cid>, store::Error> {
    let mut failed = Ok(());
    cids.retain(|cid| match store.size(cid) {
        Ok(size) => size.is_some(),
        Err(error) => {
            failed = Err(error);
            false
        }
    });
    failed.map(|()| cids)
}

fn read(store: &Store, cids: Vec<Cid>) -> Result<Vec<Block>, store::Error> {
    let mut found = Vec::new();
    for cid in cids {
        if let Some(data) = store.get_verified(&cid)? {
            found.push(Block { cid, data });
        }
    }
    Ok(found)
}

fn save(file: &Arriving) {
    if let Err(error) = file.checkpoint() {
        tracing::warn!("what came so far may have to be fetched again after a crash: {error}");
    }
}

/// Decodes a block and writes its data where it belongs.
fn write(
    file: &Arriving,
    block: Block,
    places: Vec<Place>,
    whole: &mut Option<Whole>,
) -> Result<Absorbed, Error> {
    let Block { cid, data: bytes } = block;
    let unit = Unit::decode(&cid, bytes.clone())?;
    let size = unit.size();
    let (kind, Unit::File { data, children }) = (unit.kind(), unit) else {
        return Err(Error::Corrupt { cid, why: "a directory or link where a part of a file belongs".into() });
    };
    if let Some(place) = places.iter().find(|place| place.length != size) {
        let why = format!("{kind} of {size} bytes where a file's part of {} belongs", place.length);
        return Err(Error::Corrupt { cid, why });
    }
    if data.is_empty() {
        file.insert_node(cid, bytes.clone())?;
    }
    let own = data.len() as u64;
    if own > 0 {
        // The data is a part of the block, in the same memory.
        let start = data.as_ptr() as usize - bytes.as_ptr() as usize;
        for place in &places {
            let leaf = Leaf { cid, offset: place.offset, length: own };
            file.write(&leaf, &bytes, start..start + data.len())?;
            if let Some(whole) = whole {
                whole.take(place.offset, &data);
            }
        }
    }
    Ok(Absorbed { cid, places, size: bytes.len(), children, own })
}
