//! The task of one download.

mod ahead;
mod commit;
mod inline;

use std::{
    collections::HashMap,
    ops::Range,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use ocipfs_node::{Block, BlockFetcher, Cid, FetchedBlock};
use ocipfs_oci::Digest;
use ocipfs_unixfs::{Child, DagNode, inlined};
use tokio::task::JoinHandle;

use super::{
    Download, ResolvedDownload,
    read_ranges::{ReadRanges, overlaps},
    tree::{DownloadTree, Position},
    whole::WholeHasher,
};
use crate::content::{
    Content, Error,
    store::{self, Leaf, PartialBlob, Store},
};
use ahead::NodesAhead;

/// Parts that are wanted at once.
const MAX_WANTED: usize = 2048;
/// Parts that readers wait for, wanted at once beyond those.
const MAX_URGENT: usize = 64;
const MAX_WANTED_AND_URGENT: usize = MAX_WANTED + MAX_URGENT;
/// The node directory is searched for so many parts at a time.
const SEARCH_BATCH: usize = 1024;
/// Blocks written in one go, and bytes where they belong in several places.
const WRITE_BATCH: usize = 8;
const WRITE_BATCH_BYTES: usize = 32 << 20;
/// Minimum interval between checkpoints. Frequent checkpoints limit the loss in a crash and the work at the
/// end.
const CHECKPOINT_INTERVAL: Duration = Duration::from_millis(250);
/// Bytes that justify a checkpoint after `CHECKPOINT_INTERVAL`; fewer are saved after `MAX_CHECKPOINT_DELAY`.
const CHECKPOINT_BYTES: u64 = 8 << 20;
const MAX_CHECKPOINT_DELAY: Duration = Duration::from_secs(5);
/// Fetches a file as far as its readers need it.
pub async fn run(content: Content, shared: Arc<Download>, start: ResolvedDownload) {
    let ResolvedDownload { root, node, block, block_fetcher: mut fetcher } = start;
    let is_hashed = shared.hashed.load(Ordering::Relaxed) == 0 || !shared.file.is_streaming_through();
    let whole = is_hashed.then(|| WholeHasher::of(&shared.file));
    let mut task = Task {
        content,
        shared,
        tree: DownloadTree::default(),
        preferred: HashMap::new(),
        inlined: HashMap::new(),
        ahead: NodesAhead::default(),
        since_checkpoint: 0,
        checkpoint: None,
        checkpointed: Instant::now(),
        begun: Instant::now(),
        whole,
    };
    let begun = task.begin(root, node, block).await;
    let ended = match begun {
        Ok(()) => task.work(&mut fetcher).await,
        Err(error) => Err(error),
    };
    // Nothing more is fetched, so its peers need not send what they still have queued.
    drop(fetcher);
    task.end(ended).await;
}

struct Task {
    content: Content,
    shared: Arc<Download>,
    tree: DownloadTree,
    /// Preferred blocks, because a reader waits there, by offset.
    preferred: HashMap<u64, Cid>,
    /// Parts that links carry.
    inlined: HashMap<Cid, Bytes>,
    ahead: NodesAhead,
    since_checkpoint: u64,
    checkpoint: Option<JoinHandle<()>>,
    /// When the last one was begun.
    checkpointed: Instant,
    begun: Instant,
    /// Absent while it is worked on.
    whole: Option<WholeHasher>,
}

/// A block that was found, and what it says.
struct Absorbed {
    cid: Cid,
    places: Vec<Position>,
    size: usize,
    children: Vec<Child>,
    inlined: Vec<Block>,
    own: u64,
}

impl Task {
    async fn begin(&mut self, root: Cid, node: DagNode, block: Bytes) -> Result<(), Error> {
        let place = Position::root(node.size());
        let found = vec![(Block { cid: root, data: block }, vec![place])];
        self.absorb(found, Vec::new()).await
    }

    /// Ends well with the digest of the whole, or with none when the last reader has gone.
    async fn work(&mut self, fetcher: &mut BlockFetcher) -> Result<Option<Digest>, Error> {
        loop {
            self.take_local_and_want(fetcher).await?;
            self.want_ahead(fetcher).await?;
            self.prefer(fetcher);
            if let Some(digest) = self.hash_local().await? {
                return Ok(Some(digest));
            }
            if self.shared.is_unread() && self.content.0.downloads.leave(&self.shared, false) {
                return Ok(None);
            }
            tokio::select! {
                () = std::future::ready(()), if self.has_more_to_hash() => {}
                () = self.shared.moved.notified() => self.retarget(fetcher),
                // Also where nothing is lacking: blocks that came for a reader who left hold memory of their connection.
                fetched = fetcher.next_block() => self.receive(fetcher, fetched?).await?,
            }
        }
    }

    /// Wants the blocks that readers need next, once the node directory was searched for them: other files or an earlier
    /// attempt may have left them there.
    async fn take_local_and_want(&mut self, fetcher: &mut BlockFetcher) -> Result<(), Error> {
        loop {
            let mut interest = self.shared.interest();
            self.tree.fold_if_full(&interest);
            self.want_blocks(fetcher, &interest);
            match self.tree.wanted() {
                // Folding and expanding the same nodes again would bring nothing nearer.
                MAX_WANTED_AND_URGENT.. => return Ok(()),
                MAX_WANTED.. => interest = interest.only_urgent(),
                _ => {}
            }
            let unknown = self.tree.take_new(&interest, SEARCH_BATCH);
            if unknown.is_empty() {
                return Ok(());
            }
            let unknown = self.absorb_inlined(unknown).await?;
            let (share, file) = (self.content.settings().share, self.shared.file.clone());
            let here = self.content.store().run(move |store| share.take_over(store, &file, unknown)).await?;
            for cids in here.chunks(WRITE_BATCH) {
                let cids = cids.to_vec();
                let blocks = self.content.store().run(move |store| read(store, cids)).await?;
                self.absorb_all(blocks, Vec::new()).await?;
            }
        }
    }

    fn want_blocks(&mut self, fetcher: &mut BlockFetcher, interest: &ReadRanges) {
        let mut missing = self.tree.take_urgent(interest.urgent(), MAX_WANTED_AND_URGENT);
        missing.extend(self.tree.take_missing(interest.ranges(), MAX_WANTED));
        if !missing.is_empty() {
            fetcher.want(missing);
        }
    }

    /// Puts the blocks that readers wait for before all others, each once.
    fn prefer(&mut self, fetcher: &BlockFetcher) {
        let waits = self.shared.waits();
        self.preferred.retain(|offset, _| waits.contains(offset));
        for offset in waits {
            if let Some(cid) = self.tree.wanted_at(offset)
                && self.preferred.insert(offset, cid) != Some(cid)
            {
                fetcher.prefer(cid);
            }
        }
    }

    fn retarget(&mut self, fetcher: &mut BlockFetcher) {
        let surplus = self.tree.take_surplus(self.shared.interest().ranges());
        if !surplus.is_empty() {
            fetcher.unwant(surplus);
        }
    }

    /// Takes a block that came, and those that came with it.
    async fn receive(&mut self, fetcher: &mut BlockFetcher, first: FetchedBlock) -> Result<(), Error> {
        let mut fetched = vec![first];
        while fetched.len() < WRITE_BATCH
            && let Some(next) = fetcher.try_next_block()
        {
            fetched.push(next);
        }
        let blocks = self.keep_ahead(fetched.iter().map(|fetched| fetched.block.clone()).collect()).await?;
        self.absorb_all(blocks, fetched).await
    }

    async fn absorb_all(&mut self, blocks: Vec<Block>, received: Vec<FetchedBlock>) -> Result<(), Error> {
        let found = blocks.into_iter().map(|block| {
            let places = self.tree.arrived(&block.cid);
            (block, places)
        });
        let found: Vec<_> = found.filter(|(_, places)| !places.is_empty()).collect();
        if found.is_empty() {
            return Ok(());
        }
        self.absorb(found, received).await
    }

    /// Writes blocks where they belong, and takes up what they lead to. The memory of `received` is counted until then.
    ///
    /// One block may belong in very many places: where the last reader leaves, the rest of them is not written.
    async fn absorb(
        &mut self,
        mut found: Vec<(Block, Vec<Position>)>,
        received: Vec<FetchedBlock>,
    ) -> Result<(), Error> {
        // What came in several streams is out of order by a little.
        found.sort_by_key(|(_, places)| places.first().map(|place| place.offset));
        if self.shared.file.is_streaming_through() {
            self.leave_for_later(&mut found);
        }
        for (n, lot) in in_lots(found).into_iter().enumerate() {
            match n > 0 && self.shared.is_unread() {
                true => self.tree.put_back(lot),
                false => self.absorb_lot(lot).await?,
            }
        }
        drop(received);
        Ok(())
    }

    /// Keeps of the places only those that a reader is near to: the others would take room before they are read.
    fn leave_for_later(&mut self, found: &mut [(Block, Vec<Position>)]) {
        let interest = self.shared.interest();
        for (block, places) in found {
            let is_near = |place: &mut Position| overlaps(interest.ranges(), &place.range());
            let near = places.extract_if(.., is_near).collect();
            let far = std::mem::replace(places, near);
            self.tree.put_back(vec![(block.clone(), far)]);
        }
    }

    async fn absorb_lot(&mut self, found: Vec<(Block, Vec<Position>)>) -> Result<(), Error> {
        let (file, mut whole) = (self.shared.file.clone(), self.whole.take());
        let write = move || {
            let absorbed = found.into_iter().map(|(block, places)| write(&file, block, places, &mut whole));
            let absorbed = absorbed.collect::<Result<Vec<_>, Error>>();
            absorbed.map(|absorbed| (absorbed, whole))
        };
        let (absorbed, whole) = tokio::task::spawn_blocking(write).await.map_err(Error::stopped)??;
        self.whole = whole;
        self.say_hashed();
        let cids: Vec<Cid> = absorbed.iter().map(|block| block.cid).collect();
        let interest = self.shared.interest();
        for block in absorbed {
            self.since_checkpoint += block.size as u64;
            let file = &self.shared.file;
            let here = |range: &Range<u64>| file.has_range(range.start, range.end - range.start);
            self.tree.expand(&block.cid, &block.places, block.own, &block.children, &interest, here)?;
            self.remember_inlined(block.inlined);
        }
        self.shared.step();
        if !self.shared.file.is_streaming_through() {
            self.content.node().arrived(&cids);
            self.checkpoint();
        }
        Ok(())
    }

    fn say_hashed(&self) {
        if let Some(whole) = &self.whole {
            self.shared.hashed.store(whole.length(), Ordering::Relaxed);
        }
    }

    fn has_more_to_hash(&self) -> bool {
        self.whole.as_ref().is_some_and(|whole| self.shared.file.available(whole.length()) > 0)
    }

    /// Hashes the parts that arrived before the ones in front of them. Returns the digest after the last part.
    async fn hash_local(&mut self) -> Result<Option<Digest>, Error> {
        if self.has_more_to_hash()
            && let Some(whole) = self.whole.take()
        {
            let (file, step) = (self.shared.file.clone(), self.hash_step());
            let hashed = tokio::task::spawn_blocking(move || whole.read_on(&file, step));
            self.whole = Some(hashed.await.map_err(Error::stopped)??);
            self.say_hashed();
            self.checkpoint();
        }
        let size = self.shared.file.size();
        let whole = self.whole.take_if(|whole| whole.length() == size);
        Ok(whole.map(WholeHasher::finish))
    }

    /// A piece that was hashed is progress, as a block that came is.
    fn hash_step(&self) -> impl Fn() + Send + 'static {
        let shared = self.shared.clone();
        #[cfg(test)]
        let slow = self.content.0.downloads.slow();
        move || {
            #[cfg(test)]
            slow();
            shared.step();
        }
    }

    /// Makes what came so far durable, and how far it is hashed, while the fetch goes on.
    fn checkpoint(&mut self) {
        let busy = self.checkpoint.as_ref().is_some_and(|task| !task.is_finished());
        let due =
            if self.since_checkpoint < CHECKPOINT_BYTES { MAX_CHECKPOINT_DELAY } else { CHECKPOINT_INTERVAL };
        if self.shared.file.is_streaming_through() || busy || self.checkpointed.elapsed() < due {
            return;
        }
        (self.since_checkpoint, self.checkpointed) = (0, Instant::now());
        self.checkpoint = Some(self.save());
    }

    fn save(&self) -> JoinHandle<()> {
        let file = self.shared.file.clone();
        if let Some(hashed) = self.whole.as_ref().and_then(WholeHasher::state) {
            file.set_hashed(hashed);
        }
        tokio::task::spawn_blocking(move || {
            if let Err(error) = file.checkpoint() {
                tracing::warn!("cannot checkpoint a download: {error}");
            }
        })
    }
}

/// Parts blocks and their places into lots of which each writes a bounded number of bytes.
fn in_lots(found: Vec<(Block, Vec<Position>)>) -> Vec<Vec<(Block, Vec<Position>)>> {
    let (mut lots, mut lot, mut bytes) = (Vec::new(), Vec::new(), 0);
    for (block, mut places) in found {
        while !places.is_empty() {
            if bytes >= WRITE_BATCH_BYTES {
                lots.push(std::mem::take(&mut lot));
                bytes = 0;
            }
            let most = (WRITE_BATCH_BYTES - bytes) / block.data.len().max(1) + 1;
            let rest = places.split_off(most.min(places.len()));
            bytes += places.len() * block.data.len();
            lot.push((block.clone(), places));
            places = rest;
        }
    }
    lots.push(lot);
    lots
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

/// Decodes a block and writes its data where it belongs.
fn write(
    file: &PartialBlob,
    block: Block,
    places: Vec<Position>,
    whole: &mut Option<WholeHasher>,
) -> Result<Absorbed, Error> {
    let Block { cid, data: bytes } = block;
    let node = DagNode::decode(&cid, bytes.clone())?;
    let size = node.size();
    let (kind, DagNode::File { data, children }) = (node.kind(), node) else {
        return Err(Error::Corrupt { cid, why: "expected part of a file, found a directory or link".into() });
    };
    if let Some(place) = places.iter().find(|place| place.length != size) {
        let why = format!("expected a file part of {} bytes, found {kind} of {size} bytes", place.length);
        return Err(Error::Corrupt { cid, why });
    }
    // A folded block that is received again is kept already.
    if data.is_empty() && places.iter().any(Position::is_whole) {
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
                whole.push(place.offset, &data);
            }
        }
    }
    Ok(Absorbed { cid, places, size: bytes.len(), children, inlined: inlined(&cid, &bytes), own })
}
