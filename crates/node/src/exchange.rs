//! Getting a block: from the node directory, else from peers, else by finding who has it.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::Mutex, time::Instant};

use crate::{Cid, Error, Node, js, node::Online};

/// Peers that are connected are asked first; this long, before anybody is searched.
const HEAD_START: Duration = Duration::from_millis(500);
/// When a search ended with nobody, what connected peers still get to answer.
const LAST_CALL: Duration = Duration::from_secs(2);
/// A block of a known DAG is waited for this long before its root's providers are searched (again).
const SEARCH_AGAIN: Duration = Duration::from_secs(5);
/// Longer than anybody waits: deadlines are the callers', not rust-ipfs's.
const FOR_EVER: Duration = Duration::from_secs(24 * 60 * 60);

/// A block and its address.
#[derive(Clone, Debug)]
pub struct Block {
    /// The address.
    pub cid: Cid,
    /// The bytes that hash to it.
    pub data: Bytes,
}

/// The blocks of one DAG. Only its root is announced, so the root is what providers are found by.
pub struct Session {
    node: Node,
    root: Cid,
    providers: AtomicUsize,
    searching: Mutex<()>,
}

impl Session {
    pub(crate) fn new(node: Node, root: Cid) -> Self {
        Self { node, root, providers: AtomicUsize::new(0), searching: Mutex::new(()) }
    }

    /// Fetches the root, or says within `patience` whether nobody has it or nobody answered.
    pub async fn fetch_root(&self, patience: Duration) -> Result<Bytes, Error> {
        if let Some(data) = self.node.local(&self.root).await? {
            return Ok(data);
        }
        let online = self.node.online().ok_or(Error::Offline(self.root))?;
        tokio::select! {
            // Out of turn: it has a deadline, and comes before all others.
            block = ask(online, &self.root) => block,
            error = self.verdict(online, patience) => Err(error),
        }
    }

    /// Fetches a block below the root. It waits for ever: the reader knows whether others arrive meanwhile.
    pub async fn fetch(&self, cid: &Cid) -> Result<Bytes, Error> {
        if let Some(data) = self.node.local(cid).await? {
            return Ok(data);
        }
        let online = self.node.online().ok_or(Error::Offline(*cid))?;
        let mut block = std::pin::pin!(want(online, cid));
        loop {
            tokio::select! {
                block = &mut block => return block,
                () = tokio::time::sleep(SEARCH_AGAIN) => {}
            }
            tokio::select! {
                block = &mut block => return block,
                () = self.search(online) => {}
            }
        }
    }

    /// The same below a root that was verified whole: what is here is not hashed again.
    pub async fn fetch_verified(&self, cid: &Cid) -> Result<Bytes, Error> {
        match self.node.local_verified(cid).await? {
            Some(data) => Ok(data),
            None => self.fetch(cid).await,
        }
    }

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

    /// Searches the root's providers once, dialling them; the readers of one DAG share a search.
    async fn search(&self, online: &Online) {
        let _turn = self.searching.lock().await;
        let Ok(mut found) = online.find_providers(self.root).await else { return };
        let mut providers = 0;
        while let Some(peer) = found.recv().await {
            providers += usize::from(peer != self.node.peer_id());
            self.providers.fetch_max(providers, Ordering::Relaxed);
        }
    }
}

async fn want(online: &Online, cid: &Cid) -> Result<Bytes, Error> {
    let mut patience = js::TURN;
    while online.peers.are_mostly_js() {
        let _turn = online.turn.lock().await;
        match tokio::time::timeout(patience, ask(online, cid)).await {
            Ok(block) => return block,
            Err(_) => patience *= 2,
        }
    }
    ask(online, cid).await
}

async fn ask(online: &Online, cid: &Cid) -> Result<Bytes, Error> {
    let block = online.ipfs.repo().get_block(cid).timeout(FOR_EVER).await;
    block.map(|block| block.inner_data().clone()).map_err(|_| Error::Stopped)
}
