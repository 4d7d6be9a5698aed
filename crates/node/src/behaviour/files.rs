//! Finding a file by the hash of its bytes alone. A peer that has the file tells the root of its DAG, by the fetch protocol:
//! the key is `/ocipfs/file/` and the CID that the bytes would have as one raw block, the value is the CID of the root.
//!
//! What a peer tells is not verified here: the caller compares the bytes with the hash.

use std::sync::Arc;

use libp2p::{PeerId, request_response::ResponseChannel};
use tokio::sync::{Semaphore, mpsc};

use super::{Behaviour, fetch_purpose::FetchPurpose};
use crate::{
    Blocks, Cid, Route,
    command::FileSearch,
    ipns::fetch::{FetchResponse, Key},
};

const PREFIX: &[u8] = b"/ocipfs/file/";
/// Lookups for peers at a time; beyond them, the answer is that the file was not found.
const MAX_LOOKUPS: usize = 16;
/// Connected peers that are asked for one file.
const MAX_ASKED_PEERS: usize = 64;
/// Requests that are not answered yet; beyond them, no peer is asked for a file.
const MAX_REQUESTS: usize = 2048;
/// Searches of the routing system at a time; beyond them, only connected peers are asked for a file.
const MAX_QUERIES: usize = 64;
/// The agent of peers that know the key.
const AGENT: &str = "ocipfs/";

/// An answer that was looked up, and the peer's request.
type Answer = (ResponseChannel<FetchResponse>, FetchResponse);

/// Answers what peers ask for.
pub(super) struct Files {
    blocks: Arc<dyn Blocks>,
    lookups: Arc<Semaphore>,
    sender: mpsc::UnboundedSender<Answer>,
    /// Answers to send.
    pub(super) answers: mpsc::UnboundedReceiver<Answer>,
}

impl Files {
    pub(super) fn new(blocks: Arc<dyn Blocks>) -> Self {
        let (sender, answers) = mpsc::unbounded_channel();
        Self { blocks, lookups: Arc::new(Semaphore::new(MAX_LOOKUPS)), sender, answers }
    }

    /// Looks up a file for a peer. The store is on the disk, so the answer comes later.
    pub(super) fn look_up(&self, raw: Cid, channel: ResponseChannel<FetchResponse>) {
        let (blocks, sender) = (self.blocks.clone(), self.sender.clone());
        let Ok(turn) = self.lookups.clone().try_acquire_owned() else {
            let _ = sender.send((channel, None));
            return;
        };
        tokio::task::spawn_blocking(move || {
            let root = blocks.file_of(&raw).unwrap_or_else(|error| {
                tracing::warn!(%raw, %error, "cannot look up a file for a peer");
                None
            });
            let _ = sender.send((channel, root.map(|root| root.to_bytes())));
            drop(turn);
        });
    }
}

impl Behaviour {
    /// Asks connected peers for a file, and searches those that announce it.
    pub(super) fn find_file(&mut self, raw: &Cid, search: &FileSearch) {
        let peers = self.peers.list().into_iter();
        let asked = peers.filter(|peer| {
            let is_able = peer.agent.as_ref().is_none_or(|agent| agent.starts_with(AGENT));
            is_able && peer.route != Route::LimitedRelay
        });
        for peer in asked.take(MAX_ASKED_PEERS) {
            self.ask_for_file(raw, peer.id, &search.roots);
        }
        if self.provider_queries.len() < MAX_QUERIES {
            self.find_providers(raw, &search.providers);
        }
    }

    /// Asks a peer for a file.
    pub(super) fn ask_for_file(&mut self, raw: &Cid, peer: PeerId, roots: &mpsc::UnboundedSender<Cid>) {
        if self.fetches.len() < MAX_REQUESTS {
            let id = self.behaviours.data.fetch.send_request(&peer, key_of(raw));
            self.fetches.insert(id, FetchPurpose::File(roots.clone()));
        }
    }

    /// Sends an answer to the peer that asked; it may have disconnected.
    pub(super) fn answer_file(&mut self, (channel, root): Answer) {
        let _ = self.behaviours.data.fetch.send_response(channel, root);
    }
}

fn key_of(raw: &Cid) -> Key {
    [PREFIX, &raw.to_bytes()].concat()
}

/// Returns the CID that a key asks for; none if it is another key.
pub(super) fn parse_key(key: &[u8]) -> Option<Cid> {
    Cid::try_from(key.strip_prefix(PREFIX)?).ok()
}

/// Passes on the root that a peer told, if it is one.
pub(super) fn told(value: &[u8], roots: &mpsc::UnboundedSender<Cid>) {
    if let Ok(root) = Cid::try_from(value) {
        let _ = roots.send(root);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_a_file_is_parsed_and_other_keys_are_not() {
        let raw: Cid = "bafkreibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq".parse().unwrap();
        assert_eq!(parse_key(&key_of(&raw)), Some(raw));
        for key in [&b"/ipns/abc"[..], b"/ocipfs/file/", b"/ocipfs/file/nonsense", b"", b"/ocipfs/"] {
            assert_eq!(parse_key(key), None, "{key:?}");
        }
    }

    #[test]
    fn a_malformed_root_is_not_passed_on() {
        let (roots, mut passed_on) = mpsc::unbounded_channel();
        told(b"nonsense", &roots);
        told(b"", &roots);
        assert!(passed_on.try_recv().is_err());
    }
}
