//! Fetching the blocks of one DAG from peers: from the connected ones first, then from the providers that a search
//! finds.

mod awaited;

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use libp2p::PeerId;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::task::AbortOnDropHandle;

use crate::{Cid, FetchError, FetchedBlock, bitswap::Inquiry, locked, online::Online};
use awaited::Awaited;

/// How long connected peers have to answer before providers are searched.
const SEARCH_DELAY: Duration = Duration::from_millis(500);
/// How long connected peers still have to answer after a search that found no provider.
const FINAL_ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Providers that are remembered to explain a failure.
const MAX_FOUND: usize = 32;

/// Fetches the blocks of one DAG from peers.
///
/// Providers are found by the DAG's root, since only roots are announced.
pub struct BlockFetcher {
    search: Arc<ProviderSearch>,
    /// `None` in a process without a swarm.
    session: Option<ClientSession>,
    awaited: Awaited,
    /// Whether a peer sent a block: then a lost connection is worth waiting for.
    has_received: bool,
    /// The search for further providers; dropping a future of `next_block` does not end it.
    searching: Option<AbortOnDropHandle<()>>,
}

/// The session of the Bitswap client.
struct ClientSession {
    id: u64,
    blocks: mpsc::UnboundedReceiver<FetchedBlock>,
}

/// Searches for providers of a DAG.
struct ProviderSearch {
    /// `None` in a process without a swarm.
    online: Option<Arc<Online>>,
    me: PeerId,
    root: Cid,
    search_root: Cid,
    providers: AtomicUsize,
    /// Providers that the search found, the first of them.
    found: Mutex<HashSet<PeerId>>,
    /// Whether the last search ended without a provider while no peer was connected.
    is_alone: watch::Sender<bool>,
}

impl BlockFetcher {
    pub(crate) fn new(online: Option<Arc<Online>>, me: PeerId, root: Cid, search_root: Cid) -> Self {
        let session = online.as_ref().map(|online| {
            let (id, blocks) = online.bitswap_client.begin();
            ClientSession { id, blocks }
        });
        let (providers, is_alone) = (AtomicUsize::new(0), watch::Sender::new(false));
        let found = Mutex::default();
        let search = ProviderSearch { online, me, root, search_root, providers, found, is_alone };
        let (search, awaited) = (Arc::new(search), Awaited::default());
        Self { search, session, awaited, has_received: false, searching: None }
    }

    /// Searches further providers well before `stall_timeout`, after which the reader gives up.
    pub fn with_stall_timeout(mut self, stall_timeout: Duration) -> Self {
        self.awaited.set_stall_timeout(stall_timeout);
        self
    }

    /// Requests blocks in the order in which they are needed, each with its length, or 0 if unknown.
    pub fn want(&mut self, wanted: Vec<(Cid, u64)>) {
        self.awaited.want(wanted.iter().map(|(cid, _)| cid), Instant::now());
        if let (Some(session), Some(online)) = (&self.session, &self.search.online) {
            online.bitswap_client.want(session.id, wanted);
        }
    }

    /// Requests blocks that are not needed yet. They are not awaited: no provider is searched for them.
    pub fn want_ahead(&self, cids: Vec<Cid>) {
        if let (Some(session), Some(online)) = (&self.session, &self.search.online) {
            online.bitswap_client.want_ahead(session.id, cids);
        }
    }

    /// Gives a requested block the highest priority.
    pub fn prefer(&self, cid: Cid) {
        if let (Some(session), Some(online)) = (&self.session, &self.search.online) {
            online.bitswap_client.prefer(session.id, cid);
        }
    }

    /// Cancels requests.
    pub fn unwant(&mut self, cids: Vec<Cid>) {
        self.awaited.unwant(&cids);
        if let (Some(session), Some(online)) = (&self.session, &self.search.online) {
            online.bitswap_client.unwant(session.id, cids);
        }
    }

    /// Fetches the root. Fails after `timeout` at the latest: `NotFound` without a provider, `Unanswered` if a provider
    /// did not send it, `OnlyRelayed` if none could be connected directly.
    pub async fn fetch_root(&mut self, timeout: Duration) -> Result<FetchedBlock, FetchError> {
        let (search, root) = (self.search.clone(), self.search.root);
        let online = search.online.as_deref().ok_or(FetchError::Offline(root))?;
        let inquiry = self.session.as_ref().map(|session| online.bitswap_client.inquire(session.id, root));
        self.want(vec![(root, 0)]);
        let (Some(session), Some(inquiry)) = (&mut self.session, inquiry) else {
            return Err(FetchError::Offline(root));
        };
        let fetched = tokio::select! {
            block = session.blocks.recv() => block.ok_or(FetchError::Stopped),
            error = search.not_found_or_unanswered(online, timeout, inquiry) => Err(error),
        }?;
        Ok(self.received(fetched))
    }

    /// Returns a block that has been received already.
    pub fn try_next_block(&mut self) -> Option<FetchedBlock> {
        let fetched = self.session.as_mut()?.blocks.try_recv().ok()?;
        Some(self.received(fetched))
    }

    fn received(&mut self, fetched: FetchedBlock) -> FetchedBlock {
        self.has_received = true;
        self.awaited.received(&fetched.block.cid, Instant::now());
        fetched
    }

    /// Waits for the next block, in any order; it may have been cancelled meanwhile.
    ///
    /// It has no deadline: the reader decides what progress is. It fails with `NotFound` if no peer sent a block yet, none is
    /// connected, and a search finds no provider. Cancel safe: dropping the future loses neither a block nor the wait for
    /// a search.
    pub async fn next_block(&mut self) -> Result<FetchedBlock, FetchError> {
        let mut is_alone = self.search.is_alone.subscribe();
        loop {
            let next_search = self.next_search();
            let Some(session) = &mut self.session else {
                return match next_search {
                    Some(_) => Err(FetchError::Offline(self.search.root)),
                    None => std::future::pending().await,
                };
            };
            let wait = async {
                match next_search {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let alone = async {
                // The value is locked while it is borrowed.
                let is_alone = is_alone.wait_for(|is_alone| *is_alone).await.is_ok();
                if !is_alone {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                biased;
                fetched = session.blocks.recv() => {
                    let fetched = fetched.ok_or(FetchError::Stopped)?;
                    return Ok(self.received(fetched));
                }
                () = alone, if !self.has_received => {
                    self.search.is_alone.send_replace(false);
                    if let Some(not_found) = self.not_found() {
                        return Err(not_found);
                    }
                }
                () = wait => self.search_again(),
            }
        }
    }

    /// Returns when providers are searched: at once if no peer is connected that could be asked meanwhile.
    fn next_search(&self) -> Option<Instant> {
        let due = self.awaited.next_search()?;
        let is_first = !self.has_received && !self.awaited.is_searched();
        Some(if is_first && self.has_no_peer() { Instant::now() } else { due })
    }

    fn has_no_peer(&self) -> bool {
        self.search.online.as_ref().is_none_or(|online| online.asked() == 0)
    }

    /// Returns the error if blocks are awaited and still no peer is connected.
    fn not_found(&self) -> Option<FetchError> {
        let (cid, waited) = self.awaited.longest(Instant::now()).filter(|_| self.has_no_peer())?;
        Some(FetchError::NotFound { cid, asked: 0, waited })
    }

    /// Searches the root's providers while blocks are still being fetched, unless a search is running.
    fn search_again(&mut self) {
        self.awaited.searched(Instant::now());
        if self.searching.as_ref().is_some_and(|search| !search.is_finished()) {
            return;
        }
        let search = self.search.clone();
        self.searching = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            if let Some(online) = &search.online {
                online.peers.settled().await;
                search.search(online).await;
                let is_alone = search.providers() == 0 && online.asked() == 0;
                search.is_alone.send_replace(is_alone);
            }
        })));
    }
}

impl Drop for BlockFetcher {
    fn drop(&mut self) {
        if let (Some(session), Some(online)) = (&self.session, &self.search.online) {
            online.bitswap_client.end(session.id);
        }
    }
}

impl ProviderSearch {
    /// Returns `NotFound` after a search without a provider, once all connected peers had time to answer; else
    /// `Unanswered` or `OnlyRelayed` after `timeout`.
    async fn not_found_or_unanswered(
        &self,
        online: &Online,
        timeout: Duration,
        mut inquiry: watch::Receiver<Option<Inquiry>>,
    ) -> FetchError {
        let start = Instant::now();
        let deadline = start + timeout;
        let search = async {
            // A bootstrap peer that is gone does not delay what another peer can answer.
            online.peers.connected_or_settled().await;
            if online.asked() > 0 {
                tokio::time::sleep(SEARCH_DELAY).await;
            }
            self.search(online).await;
            if self.providers() == 0 && !online.peers.is_settled() {
                online.peers.settled().await;
                self.search(online).await;
            }
            if self.providers() == 0 && online.asked() > 0 {
                tokio::time::sleep(FINAL_ANSWER_TIMEOUT).await;
                all_peers_answered(&mut inquiry, start).await;
            }
        };
        let _ = tokio::time::timeout_at(deadline, search).await;
        let holders = inquiry.borrow().map_or(0, |inquiry| inquiry.holders);
        if self.providers() == 0 && holders == 0 {
            let asked = online.asked();
            return FetchError::NotFound { cid: self.root, asked, waited: start.elapsed() };
        }
        tokio::time::sleep_until(deadline).await;
        let limited = locked(&self.found).iter().filter(|peer| online.peers.is_limited(peer)).count();
        if limited > 0 && holders == 0 {
            return FetchError::OnlyRelayed { cid: self.root, providers: limited, waited: start.elapsed() };
        }
        let providers = self.providers().max(holders);
        FetchError::Unanswered { cid: self.root, providers, waited: start.elapsed() }
    }

    fn providers(&self) -> usize {
        self.providers.load(Ordering::Relaxed)
    }

    /// Searches providers once and dials them.
    async fn search(&self, online: &Online) {
        let Ok(mut found) = online.find_providers(self.search_root).await else { return };
        let mut providers = 0;
        while let Some(peer) = found.recv().await {
            providers += usize::from(peer != self.me);
            self.providers.fetch_max(providers, Ordering::Relaxed);
            let mut remembered = locked(&self.found);
            if remembered.len() < MAX_FOUND {
                remembered.insert(peer);
            }
        }
    }
}

/// Waits until every peer was asked and had time to answer. Never ends if a peer has the block.
async fn all_peers_answered(inquiry: &mut watch::Receiver<Option<Inquiry>>, begun: Instant) {
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
