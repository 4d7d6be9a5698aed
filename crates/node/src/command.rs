//! What passes between the network behaviour and the rest of the node.

use libp2p::{
    Multiaddr, PeerId,
    gossipsub::MessageId,
    kad::{self, RecordKey},
};
use tokio::sync::{mpsc, oneshot};

use crate::Cid;

pub(crate) use libp2p::gossipsub::MessageAcceptance as Verdict;

/// A command from the rest of the node to the network behaviour.
#[derive(Debug)]
pub(crate) enum SwarmCommand {
    /// Announces a CID. Replies whether at least one peer accepted the record.
    Provide(Cid, oneshot::Sender<bool>),
    /// Stops announcing a CID.
    Withdraw(Cid),
    /// Searches providers and dials them; the channel closes at the end of the search.
    FindProviders(Cid, mpsc::UnboundedSender<PeerId>),
    /// Asks connected peers, and peers that announce it, for the root of the file whose bytes are this raw block.
    FindFile(Cid, FileSearch),
    /// Asks one peer for that.
    AskForFile(Cid, PeerId, mpsc::UnboundedSender<Cid>),
    /// Dials a provider that is known otherwise, at these addresses if there are any.
    Reach(PeerId, Vec<Multiaddr>),
    /// Puts a record into the routing system. Replies whether at least one peer accepted it.
    PutValue(kad::Record, oneshot::Sender<bool>),
    /// Fetches the value of a key from connected peers; the channel closes when all have answered.
    FetchValues(RecordKey, mpsc::UnboundedSender<Vec<u8>>),
    /// Queries the routing system for the values of a key; the channel closes at the end of the query.
    FindValues(RecordKey, mpsc::UnboundedSender<Vec<u8>>),
    /// Subscribes to a name.
    Subscribe(RecordKey),
    /// Unsubscribes from a name.
    Unsubscribe(RecordKey),
    /// Stores a name's record for peers that fetch it, and publishes it to subscribers.
    Publish(kad::Record),
    /// Stores a name's record for peers that fetch it.
    Store(kad::Record),
    /// Tells members of a new admission list or swarm key, and disconnects the peers that are none.
    MembersChanged,
    /// Reports the validation of a record that a peer sent, and of its pubsub message.
    ReportValidation(PeerId, Option<MessageId>, Verdict),
}

/// Where the answers to a search for a file are sent.
#[derive(Debug)]
pub(crate) struct FileSearch {
    /// Roots that peers tell.
    pub roots: mpsc::UnboundedSender<Cid>,
    /// Peers that announce the file; they are dialled.
    pub providers: mpsc::UnboundedSender<PeerId>,
}

/// A record of a subscribed name, as received from a peer.
#[derive(Debug)]
pub(crate) struct ReceivedRecord {
    pub name: PeerId,
    pub record: Vec<u8>,
    /// The peer that sent it.
    pub from: PeerId,
    /// The message to forward if the record is valid and new.
    pub message: Option<MessageId>,
}
