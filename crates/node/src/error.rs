use std::{path::PathBuf, time::Duration};

use libp2p::Multiaddr;

use crate::{Cid, IpnsName, mutable_name::Domain, swarm_key};

/// An error between this node and its peers.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// A key file cannot be read or written.
    #[error("cannot use the key file {path}: {why}")]
    Identity {
        /// The key's file.
        path: PathBuf,
        /// The cause.
        why: String,
    },
    /// The swarm key is invalid.
    #[error(transparent)]
    SwarmKey(#[from] swarm_key::Error),
    /// An option would reach out of a private swarm.
    #[error("{what} cannot be used with a swarm key: {why}")]
    HalfPrivate {
        /// The option or address.
        what: String,
        /// Why it is not private.
        why: &'static str,
    },
    /// Another program listens on the port already.
    #[error("cannot listen on {address} for peers: {why}")]
    Listen {
        /// The address.
        address: Multiaddr,
        /// The error of the operating system.
        why: String,
    },
    /// The address lacks a peer id, so the peer that answers could not be verified.
    #[error("invalid peer address {0}: expected it to end in /p2p/<peer id>")]
    NoPeerId(Multiaddr),
    /// The peer could not be reached.
    #[error("cannot reach {address}: {why}")]
    Dial {
        /// The address dialled.
        address: Multiaddr,
        /// The error of the transport.
        why: String,
    },
    /// No peer is connected, or the search ended without a provider.
    #[error("no provider found for {cid} (asked {asked} peers for {:.1} s)", waited.as_secs_f64())]
    NotFound {
        /// The missing block.
        cid: Cid,
        /// How many peers were connected.
        asked: usize,
        /// How long the search took.
        waited: Duration,
    },
    /// Providers were found, but none sent the block in time.
    #[error("{providers} providers of {cid}, none sent it within {:.1} s", waited.as_secs_f64())]
    Unanswered {
        /// The missing block.
        cid: Cid,
        /// How many providers the search found.
        providers: usize,
        /// How long they had to answer.
        waited: Duration,
    },
    /// This process has no swarm, so no peer could be asked.
    #[error("{0} not found in the node directory; only a running node can ask peers")]
    Offline(Cid),
    /// No record of a name was found.
    #[error("no record found for {name} (asked {asked} peers for {:.1} s)", waited.as_secs_f64())]
    NoRecord {
        /// The name.
        name: IpnsName,
        /// How many peers were connected.
        asked: usize,
        /// How long the search took.
        waited: Duration,
    },
    /// A domain has no DNSLink.
    #[error(
        "no DNSLink for {0}: neither _dnslink.{0} nor {0} has a TXT record dnslink=/ipfs/<cid> or dnslink=/ipns/<name>"
    )]
    NoDnsLink(Domain),
    /// A DNS lookup failed.
    #[error("DNS lookup of {domain} failed: {why}")]
    Dns {
        /// The domain.
        domain: Domain,
        /// The error of the resolver.
        why: String,
    },
    /// A DNS lookup would leave a private swarm.
    #[error(
        "cannot resolve domain {0}: a node with a swarm key does not use DNS; use the key instead, ipns/<k51...>"
    )]
    PrivateDns(Domain),
    /// The key name is invalid.
    #[error("invalid key name {0:?}: expected 1 to 64 letters, digits, '-', '_' or '.', and not \"self\"")]
    KeyName(String),
    /// There is no key with this key name.
    #[error("key {0:?} not found")]
    NoKey(String),
    /// Another key has this key name.
    #[error("key {0:?} already exists")]
    KeyExists(String),
    /// The imported bytes are not a private key.
    #[error("not a libp2p private key: {0}")]
    NotAKey(String),
    /// The last record has the highest sequence.
    #[error("cannot publish {0} again: its last record has the highest possible sequence")]
    LastSequence(IpnsName),
    /// The names of this node cannot be read, written or signed.
    #[error("cannot read or write the names in the node directory: {0}")]
    Names(String),
    /// The swarm could not be started.
    #[error("cannot start the swarm: {0}")]
    Start(String),
    /// The swarm has stopped.
    #[error("the node is shutting down")]
    Stopped,
}

impl Error {
    pub(crate) fn names(error: impl ToString) -> Self {
        Self::Names(error.to_string())
    }
}
