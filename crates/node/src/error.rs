//! Errors of a node, by what its callers can do about them: start it in another way, fetch or resolve later, choose
//! another key.

use std::{error, io, path::PathBuf, time::Duration};

use hickory_resolver::ResolveError as LookupError;
use libp2p::{Multiaddr, PeerId, identity::DecodingError};

use crate::{Cid, Domain, IpnsName, routing::ipns};

/// An error of the library that runs the swarm, which has no type of its own.
type SwarmError = Box<dyn error::Error + Send + Sync>;

/// The node is shutting down.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the node is shutting down")]
pub struct Stopped;

/// A peer address lacks a peer id, so the peer that answers could not be verified.
#[derive(Clone, Debug, thiserror::Error)]
#[error("invalid peer address {0}: expected it to end in /p2p/<peer id>")]
pub struct NoPeerId(pub Multiaddr);

/// A key file cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the key file {path}: {why}")]
pub struct KeyFileError {
    /// The key's file.
    pub path: PathBuf,
    /// The cause.
    #[source]
    pub why: KeyFileCause,
}

/// The cause of a [`KeyFileError`].
#[derive(Debug, thiserror::Error)]
pub enum KeyFileCause {
    /// The operating system refused it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The file does not hold a key.
    #[error("not a libp2p private key ({0}); move the file away to create a new key")]
    Invalid(#[source] DecodingError),
    /// A new key cannot be encoded.
    #[error(transparent)]
    Encode(DecodingError),
}

/// A node cannot be started, or its directory cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The key of the node's identity cannot be read or written.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
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
        #[source]
        why: SwarmError,
    },
    /// A configured peer or bootstrap peer cannot be verified.
    #[error(transparent)]
    NoPeerId(#[from] NoPeerId),
    /// The members of the private swarm cannot be read.
    #[error(transparent)]
    Members(#[from] AdminError),
    /// The records of names cannot be read.
    #[error(transparent)]
    Records(#[from] RecordError),
    /// The swarm could not be started.
    #[error("cannot start the swarm: {0}")]
    Swarm(#[source] SwarmError),
}

/// The members or the key of a private swarm cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Key holders of a private swarm have an admission list; other networks have none.
    #[error("this node is in no private swarm")]
    NotPrivate,
    /// Only the node that made the admin key has it.
    #[error("this node does not have the admin key of the swarm")]
    NoKey,
    /// A swarm has one admin.
    #[error("the swarm has an admin already: {0}")]
    Exists(PeerId),
    /// The settings name another admin.
    #[error("--swarm-admin names {named}, but this node has the key of the admin {own}")]
    OtherAdmin {
        /// The admin whose key is in the node directory.
        own: PeerId,
        /// The admin of the settings.
        named: PeerId,
    },
    /// Only the public key of ed25519 is part of a peer ID.
    #[error("invalid admin {0}: expected the ID of an ed25519 key, as `ocipfs swarm admin init` prints it")]
    NoEd25519(PeerId),
    /// The admin's node spreads the list.
    #[error("this node has the admin key and stays a member")]
    Oneself,
    /// The list is full.
    #[error("the admission list is full: it has {0} members at most")]
    Full(usize),
    /// A swarm key is being replaced.
    #[error("the swarm key is being replaced already: both keys are accepted for {0} s more")]
    UnderWay(u64),
    /// The time for which both keys are accepted is out of range.
    #[error("invalid overlap: expected {} s to {} days", min.as_secs(), max.as_secs() / 86_400)]
    Overlap {
        /// The shortest one.
        min: Duration,
        /// The longest one.
        max: Duration,
    },
    /// The admin key cannot be read or written.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// The file of the members cannot be read.
    #[error("cannot read the members of the swarm: {0}")]
    Load(#[source] io::Error),
    /// The file of the members cannot be written.
    #[error("cannot write the members of the swarm: {0}")]
    Save(#[source] io::Error),
    /// The list or the key cannot be signed.
    #[error("cannot sign for the swarm: {0}")]
    Sign(String),
    /// The swarm has stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// A peer cannot be dialed.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The peer could not be verified.
    #[error(transparent)]
    NoPeerId(#[from] NoPeerId),
    /// The peer could not be reached.
    #[error("cannot reach {address}: {why}")]
    Unreachable {
        /// The address dialed.
        address: Multiaddr,
        /// The failures of all transports, in plain words.
        why: String,
    },
    /// The peer ID is that of the node itself.
    #[error(
        "cannot reach {0}: the peer ID is this node's own: the address is its own, or another node uses a copy of its identity"
    )]
    Own(Multiaddr),
    /// The swarm has stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// A block cannot be fetched.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FetchError {
    /// No peer is connected, or the search ended without a provider.
    #[error("no provider found for {cid} (asked {} for {:.1} s)", peers(*asked), waited.as_secs_f64())]
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
    /// Providers were found, and are connected only through relays that limit bytes.
    #[error(
        "{providers} providers of {cid} are reachable only through a relay that limits data: no direct connection within {:.1} s",
        waited.as_secs_f64()
    )]
    OnlyRelayed {
        /// The missing block.
        cid: Cid,
        /// How many of the providers are connected so.
        providers: usize,
        /// How long a direct connection was tried.
        waited: Duration,
    },
    /// This process has no swarm, so no peer could be asked.
    #[error("{0} not found in the node directory; only a running node can ask peers")]
    Offline(Cid),
    /// The swarm has stopped.
    #[error("the node is shutting down")]
    Stopped,
}

/// An IPNS name or a domain cannot be resolved.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// No record of a name was found.
    #[error("no record found for {name} (asked {} for {:.1} s)", peers(*asked), waited.as_secs_f64())]
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
        /// The cause.
        #[source]
        why: DnsFailure,
    },
    /// A DNS lookup would leave a private swarm.
    #[error(
        "cannot resolve domain {0}: a node with a swarm key does not use DNS; use the key instead, ipns/<k51...>"
    )]
    PrivateDns(Domain),
    /// The records in the node directory cannot be read or written.
    #[error(transparent)]
    Records(#[from] RecordError),
}

/// The cause of a failed DNS lookup.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DnsFailure {
    /// No server answered in time.
    #[error("no server answered within {:.1} s", .0.as_secs_f64())]
    TimedOut(Duration),
    /// The node has no swarm.
    #[error("only a running node can query DNS")]
    Offline,
    /// The system's configuration names no servers.
    #[error("cannot read the DNS servers of the system: {0}")]
    NoServers(#[source] LookupError),
    /// A server refused, or the answer is invalid.
    #[error(transparent)]
    Lookup(#[from] LookupError),
}

/// A named key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Its file cannot be read or written.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// The key name is invalid.
    #[error("invalid key name {0:?}: expected 1 to 64 letters, digits, '-', '_' or '.', and not \"self\"")]
    KeyName(String),
    /// No key has this key name.
    #[error("key {0:?} not found")]
    NoKey(String),
    /// Another key has this key name.
    #[error("key {0:?} already exists")]
    KeyExists(String),
    /// The imported bytes are not a private key.
    #[error("not a libp2p private key: {0}")]
    NotAKey(#[source] DecodingError),
    /// The key cannot be exported.
    #[error("cannot read or write the names in the node directory: {0}")]
    Encode(#[source] DecodingError),
    /// The node has stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// The records of a node's names cannot be read, written or signed.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The keys of the node cannot be read.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The last record has the highest sequence.
    #[error("cannot publish {0} again: its last record has the highest possible sequence")]
    LastSequence(IpnsName),
    /// The database failed.
    #[error("cannot read or write the names in the node directory: {0}")]
    Database(#[from] redb::Error),
    /// A record cannot be signed.
    #[error("cannot read or write the names in the node directory: {0}")]
    Sign(#[source] ipns::Error),
    /// The block store cannot say whether the root of a record is shared.
    #[error("cannot read or write the names in the node directory: {0}")]
    Blocks(#[source] io::Error),
    /// The records of a network that the node leaves cannot be deleted.
    #[error("cannot read or write the names in the node directory: cannot remove {path}: {why}")]
    Remove {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        why: io::Error,
    },
    /// The node has stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// `1 peer`, or as many as there are.
fn peers(number: usize) -> String {
    format!("{number} peer{}", if number == 1 { "" } else { "s" })
}
