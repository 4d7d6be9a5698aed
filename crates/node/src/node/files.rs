//! Searching a file by the hash of its bytes, for a caller that knows nothing else of it.

use std::collections::HashSet;

use futures::{StreamExt, stream::FuturesUnordered};
use libp2p::PeerId;
use tokio::sync::mpsc;

use super::Node;
use crate::{
    Cid,
    command::{FileSearch, SwarmCommand},
    online::Online,
};

/// Peers that announce a file and are asked for its root.
const MAX_PROVIDERS: usize = 10;

impl Node {
    /// Searches a file by the CID that its bytes would have as one raw block: connected peers are asked for the root of its
    /// DAG, and peers that announce the CID once they are connected. Returns the roots that they tell, which the caller has
    /// to verify; the search ends when the channel is dropped, and the channel closes when no peer is left to ask.
    pub fn find_file(&self, raw: Cid) -> mpsc::UnboundedReceiver<Cid> {
        let (roots, found) = mpsc::unbounded_channel();
        if let Some(online) = &self.0.online {
            let (me, searched) = (self.peer_id(), online.clone());
            online.spawn(async move {
                tokio::select! {
                    () = roots.closed() => {}
                    () = search(&searched, me, raw, &roots) => {}
                }
            });
        }
        found
    }
}

async fn search(online: &Online, me: PeerId, raw: Cid, roots: &mpsc::UnboundedSender<Cid>) {
    let (sender, mut providers) = mpsc::unbounded_channel();
    let search = FileSearch { roots: roots.clone(), providers: sender };
    if online.send(SwarmCommand::FindFile(raw, search)).await.is_err() {
        return;
    }
    let (mut seen, mut joining) = (HashSet::from([me]), FuturesUnordered::new());
    loop {
        tokio::select! {
            Some(provider) = providers.recv() => {
                if seen.len() <= MAX_PROVIDERS && seen.insert(provider) {
                    joining.push(async move {
                        online.peers.until_connected(&provider).await;
                        provider
                    });
                }
            }
            Some(provider) = joining.next() => {
                let ask = SwarmCommand::AskForFile(raw, provider, roots.clone());
                if online.send(ask).await.is_err() {
                    return;
                }
            }
            else => return,
        }
    }
}
