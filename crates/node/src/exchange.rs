//! Getting the blocks of one DAG from peers: those that are connected, else those that a search finds.

mod awaited;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::task::AbortOnDropHandle;

use crate::{Cid, Error, Fetched, Node, bitswap::Inquiry, node::Online};
use awaited::Awaited;

/// Peers that are connected are asked first; this long, before anybody is searched.
const HEAD_START: Duration = Duration::from_millis(500);
/// When a search ended with nobody, what connected peers still get to answer.
const LAST_CALL: Duration = Duration::from_secs(2);
/// The blocks of one DAG on their way. Only its root is announced, so the root is what providers are found by.
pub struct Session {
    search: Arc<Search>,
    /// None in a process without a swarm.
    fetch: Option<Fetch>,
    awaited: Awaited,
    /// The search for further providers, which goes on whatever becomes of the futures that `next` makes.
    searching: Option<AbortOnDropHandle<()>>,
}

struct Fetch {
    id: u64,
    blocks: mpsc::UnboundedReceiver<Fetched>,
}

struct Search {
    node: Node,
    root: Cid,
    announced: Cid,
    providers: AtomicUsize,
}

impl Session {
    pub(crate) fn new(node: Node, root: Cid, announced: Cid) -> Self {
        let fetch = node.online().map(|online| {
            let (id, blocks) = online.commands.begin();
            Fetch { id, blocks }
        });
        let search = Search { node, root, announced, providers: AtomicUsize::new(0) };
        Self { search: Arc::new(search), fetch, awaited: Awaited::default(), searching: None }
    }

    /// Searches further providers well within `stall_timeout`, after which the reader gives up.
    pub fn within(mut self, stall_timeout: Duration) -> Self {
        self.awaited.set_stall_timeout(stall_timeout);
        self
    }

    /// Asks for blocks, each with its length or 0 where that is unknown; the first needed first.
    pub fn want(&mut self, wanted: Vec<(Cid, u64)>) {
        self.awaited.want(wanted.iter().map(|(cid, _)| cid), Instant::now());
        if let (Some(fetch), Some(online)) = (&self.fetch, self.search.node.online()) {
            online.commands.want(fetch.id, wanted);
        }
    }

    /// Puts a block that was asked for before all others.
    pub fn prefer(&self, cid: Cid) {
        if let (Some(fetch), Some(online)) = (&self.fetch, self.search.node.online()) {
            online.commands.prefer(fetch.id, cid);
        }
    }

    /// Takes back what was asked for.
    pub fn unwant(&mut self, cids: Vec<Cid>) {
        self.awaited.unwant(&cids);
        if let (Some(fetch), Some(online)) = (&self.fetch, self.search.node.online()) {
            online.commands.unwant(fetch.id, cids);
        }
    }

    /// Fetches the root, or says within `patience` whether nobody has it or nobody answered.
    pub async fn root(&mut self, patience: Duration) -> Result<Fetched, Error> {
        let (search, root) = (self.search.clone(), self.search.root);
        let online = search.node.online().ok_or(Error::Offline(root))?;
        let inquiry = self.fetch.as_ref().map(|fetch| online.commands.inquire(fetch.id, root));
        self.want(vec![(root, 0)]);
        let (Some(fetch), Some(inquiry)) = (&mut self.fetch, inquiry) else {
            return Err(Error::Offline(root));
        };
        let fetched = tokio::select! {
            block = fetch.blocks.recv() => block.ok_or(Error::Stopped),
            error = search.verdict(online, patience, inquiry) => Err(error),
        }?;
        self.awaited.came(&fetched.block.cid, Instant::now());
        Ok(fetched)
    }

    /// A block that has come already.
    pub fn ready(&mut self) -> Option<Fetched> {
        let fetched = self.fetch.as_mut()?.blocks.try_recv().ok()?;
        self.awaited.came(&fetched.block.cid, Instant::now());
        Some(fetched)
    }

    /// The next block that comes, in no order, be it awaited still or not. It has no deadline: the reader knows what
    /// progress is. Its future may be dropped at any time: neither a block nor the wait for a search is lost with it.
    pub async fn next(&mut self) -> Result<Fetched, Error> {
        loop {
            let overdue = self.awaited.overdue();
            let Some(fetch) = &mut self.fetch else {
                return match overdue {
                    Some(_) => Err(Error::Offline(self.search.root)),
                    None => std::future::pending().await,
                };
            };
            let wait = async {
                match overdue {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                fetched = fetch.blocks.recv() => {
                    let fetched = fetched.ok_or(Error::Stopped)?;
                    self.awaited.came(&fetched.block.cid, Instant::now());
                    return Ok(fetched);
                }
                () = wait => self.search_again(),
            }
        }
    }

    /// Searches for the root's providers while the fetch goes on, unless a search is under way.
    fn search_again(&mut self) {
        self.awaited.searched(Instant::now());
        if self.searching.as_ref().is_some_and(|search| !search.is_finished()) {
            return;
        }
        let search = self.search.clone();
        self.searching = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            if let Some(online) = search.node.online() {
                search.search(online).await;
            }
        })));
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let (Some(fetch), Some(online)) = (&self.fetch, self.search.node.online()) {
            online.commands.end(fetch.id);
        }
    }
}

impl Search {
    /// Says that the root is not found once a search ended with no provider and all connected peers had their time, or that
    /// it did not come within `patience`.
    async fn verdict(
        &self,
        online: &Online,
        patience: Duration,
        mut inquiry: watch::Receiver<Option<Inquiry>>,
    ) -> Error {
        let start = Instant::now();
        let deadline = start + patience;
        let search = async {
            online.peers.settled().await;
            if online.peers.count() > 0 {
                tokio::time::sleep(HEAD_START).await;
            }
            self.search(online).await;
            if self.providers() == 0 && online.peers.count() > 0 {
                tokio::time::sleep(LAST_CALL).await;
                all_asked(&mut inquiry, start).await;
            }
        };
        let _ = tokio::time::timeout_at(deadline, search).await;
        let holders = inquiry.borrow().map_or(0, |inquiry| inquiry.holders);
        if self.providers() == 0 && holders == 0 {
            let asked = online.peers.count();
            return Error::NotFound { cid: self.root, asked, waited: start.elapsed() };
        }
        tokio::time::sleep_until(deadline).await;
        let providers = self.providers().max(holders);
        Error::Unanswered { cid: self.root, providers, waited: start.elapsed() }
    }

    fn providers(&self) -> usize {
        self.providers.load(Ordering::Relaxed)
    }

    /// Searches providers once, dialling them.
    async fn search(&self, online: &Online) {
        let Ok(mut found) = online.find_providers(self.announced).await else { return };
        let mut providers = 0;
        while let Some(peer) = found.recv().await {
            providers += usize::from(peer != self.node.peer_id());
            self.providers.fetch_max(providers, Ordering::Relaxed);
        }
    }
}

/// Waits until every peer was asked and had its time to answer, which is never where one says that it has the block.
async fn all_asked(inquiry: &mut watch::Receiver<Option<Inquiry>>, begun: Instant) {
    loop {
        let ends = inquiry.borrow_and_update().and_then(|inquiry| inquiry.ends(begun));
        let changed = inquiry.changed();
        let stopped = match ends {
            Some(at) => match tokio::time::timeout_at(at, changed).await {
                Ok(changed) => changed.is_err(),
                Err(_) => return,
            },
            None => changed.await.is_err(),
        };
        if stopped {
            return;
        }
    }
}
