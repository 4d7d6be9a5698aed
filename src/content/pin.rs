//! Pins: content that is fetched whole, and kept until it is unpinned.

use std::collections::HashSet;

use ocipfs_node::Cid;
use ocipfs_unixfs::{DAG_CBOR, DagNode, links};

use super::{CidPath, Content, Error, PinInfo, fetch::DagFetcher, store::index::Index};

/// A DAG of more directories and files is not pinned as one.
const MAX_NODES: usize = 1_000_000;

impl Content {
    /// Keeps `roots`, and all that is here below them, because `pin` is pinned.
    pub async fn pin(&self, pin: Cid, roots: Vec<Cid>) -> Result<(), Error> {
        self.index(move |index| index.pin(&pin, &roots)).await?;
        self.announce(vec![pin]).await
    }

    /// Keeps a root, and all that is here below it, under a pin with a name.
    pub async fn pin_named(&self, pin: PinInfo) -> Result<(), Error> {
        let cid = pin.cid;
        self.index(move |index| index.pin_as(&pin)).await?;
        self.announce(vec![cid]).await
    }

    /// Returns all pins, sorted by their CIDs.
    pub async fn pin_infos(&self) -> Result<Vec<PinInfo>, Error> {
        self.index(Index::pin_infos).await
    }

    /// Returns the pin of a CID.
    pub async fn pin_info(&self, pin: &Cid) -> Result<Option<PinInfo>, Error> {
        let pin = *pin;
        self.index(move |index| index.pin_info(&pin)).await
    }

    /// Unpins a CID. Returns whether it was pinned.
    pub async fn unpin(&self, pin: &Cid) -> Result<bool, Error> {
        let pin = *pin;
        let Some(free) = self.index(move |index| index.unpin(&pin)).await? else { return Ok(false) };
        self.withdraw_and_collect(free).await?;
        Ok(true)
    }

    /// Unpins a CID, and leaves what it kept to the next garbage collection. Returns whether it was pinned.
    pub async fn unpin_later(&self, pin: &Cid) -> Result<bool, Error> {
        let pin = *pin;
        let was_pinned = self.index(move |index| index.unpin(&pin)).await?.is_some();
        self.collect_unreferenced_later();
        Ok(was_pinned)
    }

    /// Returns the pinned CIDs, as they were given.
    pub async fn pins(&self) -> Result<Vec<Cid>, Error> {
        self.index(Index::pins).await
    }

    /// Fetches everything below a root that is not here; `progress` is told the bytes of files so far.
    pub async fn fetch_all(&self, root: Cid, progress: &mut (dyn FnMut(u64) + Send)) -> Result<(), Error> {
        let (top, mut done) = (CidPath::from(root), 0);
        let mut fetcher = DagFetcher::new(self.clone(), &top);
        if root.codec() != DAG_CBOR {
            fetcher.fetch_root().await?;
        }
        let (mut waiting, mut seen) = (vec![root], HashSet::new());
        while let Some(cid) = waiting.pop() {
            if !seen.insert(cid) {
                continue;
            }
            if seen.len() > MAX_NODES {
                let size = seen.len() as u64;
                return Err(Error::TooLarge { at: top, size, limit: MAX_NODES as u64 });
            }
            if cid.codec() == DAG_CBOR {
                let block = self.block(cid).await?;
                waiting.extend(links(&cid, block)?);
                continue;
            }
            let node = fetcher.fetch_below(&top, &cid).await?;
            let blocks = fetcher.take_fetched();
            let cids: Vec<Cid> = blocks.iter().map(|block| block.cid).collect();
            self.store().run(move |store| store.put_blocks(&blocks)).await?;
            self.node().arrived(&cids);
            match node {
                DagNode::Directory(links) | DagNode::Shard { links, .. } => {
                    waiting.extend(links.into_iter().map(|(_, cid)| cid));
                }
                DagNode::File { ref children, .. } if !children.is_empty() => {
                    let mut reader = self.fetch_at(&cid.into()).await?;
                    reader.wait_until_stored(&mut |here| progress(done + here)).await?;
                    done += node.size();
                    progress(done);
                }
                DagNode::File { .. } | DagNode::Symlink => {}
            }
        }
        Ok(())
    }
}
