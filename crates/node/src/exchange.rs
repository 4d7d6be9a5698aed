//! Getting the blocks of one DAG from peers: those that are connected, else those that a search finds.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Mutex, mpsc},
    time::Instant,
};

use crate::{Cid, Error, Fetched, Node, node::Online};

/// Peers that are connected are asked first; this long, before anybody is searched.
const HEAD_START: Duration = Duration::from_millis(500);
/// When a search ended with nobody, what connected peers still get to answer.
const LAST_CALL: Duration = Duration::from_secs(2);
/// When nothing came for so long, the root's providers are searched (again).
const SEARCH_AGAIN: Duration = Duration::from_secs(5);

/// The blocks of one DAG on their way. Only its root is announced, so the root is what providers are found by.
pub struct Session {
    search: Arc<Search>,
    /// None in a process without a swarm.
    fetch: Option<Fetch>,
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
    searching: Mutex<()>,
}

impl Session {
    pub(crate) fn new(node: Node, root: Cid, announced: Cid) -> Self {
        let fetch = node.online().map(|online| {
            let (id, blocks) = online.commands.begin();
            Fetch { id, blocks }
        });
        let (providers, searching) = (AtomicUsize::new(0), Mutex::new(()));
        let search = Search { node, root, announced, providers, searching };
        Self { search: Arc::new(search), fetch }
    }

    /// Asks for blocks, each with its length or 0 where that is unknown; the first needed first.
    pub fn want(&self, wanted: Vec<(Cid, u64)>) {
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
    pub fn unwant(&self, cids: Vec<Cid>) {
        if let (Some(fetch), Some(online)) = (&self.fetch, self.search.node.online()) {
            online.commands.unwant(fetch.id, cids);
        }
    }

    /// Fetches the root, or says within `patience` whether nobody has it or nobody answered.
    pub async fn root(&mut self, patience: Duration) -> Result<Fetched, Error> {
        let (search, root) = (self.search.clone(), self.search.root);
        let online = search.node.online().ok_or(Error::Offline(root))?;
        self.want(vec![(root, 0)]);
        let Some(fetch) = &mut self.fetch else { return Err(Error::Offline(root)) };
        tokio::select! {
            block = fetch.blocks.recv() => block.ok_or(Error::Stopped),
            error = search.verdict(online, patience) => Err(error),
        }
    }

    /// A block that has come already.
    pub fn ready(&mut self) -> Option<Fetched> {
        self.fetch.as_mut()?.blocks.try_recv().ok()
    }

    /// The next block that comes, in no order. It waits for ever: the reader knows what progress is.
    pub async fn next(&mut self) -> Result<Fetched, Error> {
        let search = self.search.clone();
        let online = search.node.online().ok_or(Error::Offline(search.root))?;
        let Some(fetch) = &mut self.fetch else { return Err(Error::Offline(search.root)) };
        let searching = async {
            loop {
                tokio::time::sleep(SEARCH_AGAIN).await;
                search.search(online).await;
            }
        };
        tokio::select! {
            biased;
            block = fetch.blocks.recv() => block.ok_or(Error::Stopped),
            () = searching => Err(Error::Stopped),
        }
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
    async fn verdict(&self, online: &Online, patience: Duration) -> Error {
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
            }
        };
        let _ = tokio::time::timeout_at(deadline, search).await;
        if self.providers() == 0 {
            let asked = online.peers.count();
            return Error::NotFound { cid: self.root, asked, waited: start.elapsed() };
        }
        tokio::time::sleep_until(deadline).await;
        Error::Unanswered { cid: self.root, providers: self.providers(), waited: start.elapsed() }
    }

    fn providers(&self) -> usize {
        self.providers.load(Ordering::Relaxed)
    }

    /// Searches providers once, dialling them.
    async fn search(&self, online: &Online) {
        let _turn = self.searching.lock().await;
        let Ok(mut found) = online.find_providers(self.announced).await else { return };
        let mut providers = 0;
        while let Some(peer) = found.recv().await {
            providers += usize::from(peer != self.node.peer_id());
            self.providers.fetch_max(providers, Ordering::Relaxed);
        }
    }
}
