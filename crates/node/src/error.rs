use std::{path::PathBuf, time::Duration};

use libp2p::Multiaddr;

use crate::{Cid, Name, names::Domain, swarm_key};

/// What can go wrong between this node and its peers.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The key that names this peer cannot be read or written.
    #[error("the identity key {path}: {why}")]
    Identity {
        /// The key's file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The swarm key is not one.
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
    /// Another program listens there already.
    #[error("cannot listen on {address} for peers: {why}")]
    Listen {
        /// The address asked for.
        address: Multiaddr,
        /// What the system said.
        why: String,
    },
    /// The address names no peer, so nobody could tell whether the right one answered.
    #[error("{0} does not end in /p2p/<peer id>")]
    NoPeerId(Multiaddr),
    /// The peer could not be reached.
    #[error("cannot reach {address}: {why}")]
    Dial {
        /// The address dialled.
        address: Multiaddr,
        /// What the transport said.
        why: String,
    },
    /// Nobody to ask, or the search ended without a provider.
    #[error("nobody has {cid} (asked {asked} peers for {:.1} s)", waited.as_secs_f64())]
    NotFound {
        /// The block looked for.
        cid: Cid,
        /// How many peers were connected.
        asked: usize,
        /// How long the search took.
        waited: Duration,
    },
    /// Somebody announced it and sent nothing in time.
    #[error("{providers} peers announce {cid}, but none sent it within {:.1} s", waited.as_secs_f64())]
    Unanswered {
        /// The block looked for.
        cid: Cid,
        /// How many providers the search found.
        providers: usize,
        /// How long they were given.
        waited: Duration,
    },
    /// This process has no swarm, so no peer could be asked.
    #[error("{0} is not in the node directory, and without a running node no peer can be asked")]
    Offline(Cid),
    /// Nobody knows what a name means.
    #[error("nobody has a record of {name} (asked {asked} peers for {:.1} s)", waited.as_secs_f64())]
    NoRecord {
        /// The name looked for.
        name: Name,
        /// How many peers were connected.
        asked: usize,
        /// How long the search took.
        waited: Duration,
    },
    /// The owner of a domain does not say that it means anything.
    #[error(
        "{0} is no DNSLink: neither _dnslink.{0} nor {0} has a TXT record dnslink=/ipfs/<cid> or dnslink=/ipns/<name>"
    )]
    NoDnsLink(Domain),
    /// Nobody told what a domain means.
    #[error("DNS does not tell what {domain} means: {why}")]
    Dns {
        /// The domain looked up.
        domain: Domain,
        /// What the resolver said.
        why: String,
    },
    /// A look-up would leave a private swarm.
    #[error("{0} is a domain, and a node with a swarm key asks no DNS: name the key instead, ipns/<k51...>")]
    PrivateDns(Domain),
    /// No word for a key.
    #[error("{0:?} is no name for a key: letters, digits, '-', '_' and '.', at most 64, and not \"self\"")]
    KeyName(String),
    /// There is no key of that name.
    #[error("this node has no key {0:?}")]
    NoKey(String),
    /// There is another key of that name.
    #[error("there is another key {0:?} already")]
    KeyExists(String),
    /// What was imported is no key.
    #[error("this is no private key as libp2p writes it: {0}")]
    NotAKey(String),
    /// Its key's owner has used up all sequences.
    #[error("{0} cannot be published again: its last record has the greatest sequence that there is")]
    LastSequence(Name),
    /// The names of this node cannot be read, written or signed.
    #[error("the names in the node directory: {0}")]
    Names(String),
    /// The swarm could not be built.
    #[error("the swarm did not start: {0}")]
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
