//! Messages of the control socket: a request as one line of JSON, notes, then one outcome.

mod attachment;
mod bundle;
mod image;
mod layer;
mod members;
mod name;
mod progress;
mod repo;
mod store;
mod token;
mod withheld;

use ocipfs_node::Reachability;
use serde::{Deserialize, Serialize};

pub(super) use attachment::{Answer, Ask, Attached, AttachedBundle, AttachedLayer, Envelope, Write};
pub use bundle::{
    BundleReply, BundleRequest, Earlier, ExportedBundle, ImportedBundle, MAX_EXPANSION, RequestedImage,
};
pub use image::{ExportedImage, ImageInfo, ImageReply, ImageRequest, ImportOptions, InspectedImage};
pub use layer::{Added, AddedLayer, Inspected, LayerRequest, Source};
pub use members::{ListInfo, MemberInfo, MembersReply, MembersRequest};
pub(super) use name::{ConflictingWriter, FollowedRepository, ServedRoot};
pub use name::{FollowedName, NameRequest, NameTarget, OwnName, Publication, Published};
pub use progress::{Progress, Unit};
pub use repo::{
    RemovedInfo, RepoCollected, RepoContents, RepoInfo, RepoManifest, RepoReply, RepoRequest, RepoTag,
};
pub use store::{Collected, DamageInfo, Dropped, Pin, Room, StoreReply, StoreRequest, Stored, Verified};
pub use token::{CreatedToken, TokenReply, TokenRequest};
pub use withheld::{WithheldImage, WithheldImages};

/// Request of a command.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum Request {
    /// Request about layers.
    Layer(LayerRequest),
    /// Request about images.
    Image(ImageRequest),
    /// Request about bundles.
    Bundle(BundleRequest),
    /// Return the identity of this node.
    SwarmId,
    /// List the connected peers.
    SwarmPeers,
    /// Return addresses by which other nodes find the network.
    SwarmExportPeers,
    /// Make an invitation to the private swarm of this node.
    SwarmInvite {
        /// Name to follow: `self`, or an IPNS name.
        follow: Option<String>,
        /// How long the invitation is valid.
        seconds: u64,
    },
    /// Request about the members of the private swarm.
    Members(MembersRequest),
    /// Dial a peer.
    SwarmConnect {
        /// Ends in the peer id.
        address: String,
    },
    /// About names.
    Name(NameRequest),
    /// Request about pushed repositories.
    Repo(RepoRequest),
    /// Request about the store.
    Store(StoreRequest),
    /// Request about tokens.
    Token(TokenRequest),
    /// How the node is.
    Status,
}

impl Request {
    /// Whether only a running `serve` can answer.
    pub fn needs_serve(&self) -> bool {
        matches!(
            self,
            Self::SwarmPeers
                | Self::SwarmInvite { .. }
                | Self::SwarmConnect { .. }
                | Self::Members(_)
                | Self::Name(NameRequest::Follow { wait: true, .. })
                | Self::Status
        )
    }
}

/// Reply to a [`Request`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// To `Layer`: the added or joined layers.
    Added(Added),
    /// To `Layer`: what a reference means.
    Inspected(Box<Inspected>),
    /// To `Layer`: the removed layer manifest.
    Removed {
        /// The layer manifest that is gone.
        cid: String,
    },
    /// To `Image`.
    Image(ImageReply),
    /// To `Bundle`.
    Bundle(BundleReply),
    /// To `SwarmId`.
    Identity(Identity),
    /// To `SwarmPeers`.
    Peers {
        /// The oldest connection first.
        peers: Vec<PeerInfo>,
    },
    /// To `SwarmExportPeers`.
    ExportedPeers {
        /// Each ends in a peer ID; those that this node announces come first.
        addresses: Vec<String>,
    },
    /// To `SwarmInvite`.
    Invited(Invited),
    /// To `Members`.
    Members(MembersReply),
    /// To `SwarmConnect`.
    Connected {
        /// Peer ID of the peer.
        peer: String,
    },
    /// To `Publish`.
    Published(Published),
    /// To `Resolve`.
    Resolved(NameTarget),
    /// To `Ls`.
    Names {
        /// The node's own first.
        names: Vec<OwnName>,
    },
    /// To `Repo`.
    Repo(RepoReply),
    /// To `Store`.
    Store(StoreReply),
    /// To `Token`.
    Token(TokenReply),
    /// To `Follow` and `Unfollow`.
    Followed {
        /// The name.
        name: String,
        /// Whether that changed anything.
        changed: bool,
        /// The root that is complete, if it was waited for.
        #[serde(default, alias = "served")]
        root: Option<String>,
    },
    /// To `KeyNew` and `KeyImport`.
    Key {
        /// Its key name.
        key: String,
        /// Its name.
        name: String,
    },
    /// To `KeyExport`.
    SecretKey {
        /// The key in Kubo's format `libp2p-protobuf-cleartext`, in base64.
        base64: String,
    },
    /// To `Status`.
    Status(Box<Status>),
}

/// Identity and addresses of a node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Identity {
    /// Its peer id.
    pub peer: String,
    /// Addresses that it listens on.
    pub listen: Vec<String>,
    /// Addresses that it announces.
    pub announced: Vec<String>,
}

/// An invitation to a private swarm.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Invited {
    /// The string for `ocipfs join`.
    pub invitation: String,
    /// Addresses of members in it.
    pub addresses: Vec<String>,
    /// The name that a node follows once it has joined.
    pub follow: Option<String>,
    /// The admin of the swarm, if it has one.
    #[serde(default)]
    pub admin: Option<String>,
    /// When it expires, in seconds since 1970.
    pub expires: u64,
}

/// A connected peer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PeerInfo {
    /// Its peer id.
    pub peer: String,
    /// Where it was reached, or came from.
    pub address: String,
    /// `out` or `in`.
    pub direction: String,
    /// Agent version that it reports.
    pub agent: Option<String>,
    /// How long it has been connected.
    pub seconds: u64,
}

/// How a node is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The version of the running program.
    pub version: String,
    /// Where the registry answers.
    pub registry: String,
    /// Whether it speaks HTTPS.
    #[serde(default)]
    pub tls: bool,
    /// Identity of the node.
    pub identity: Identity,
    /// Whether peers are told an address.
    pub reachable: bool,
    /// How other peers can dial the node.
    #[serde(default)]
    pub reachability: Reachability,
    /// `public`, `private` (a swarm key) or `own` (no public bootstrap).
    pub network: String,
    /// The admission list of a private swarm, or the one that peers tell of.
    #[serde(default)]
    pub admission_list: Option<ListInfo>,
    /// How many peers are connected.
    pub peers: usize,
    /// Configured bootstrap peers.
    #[serde(default)]
    pub bootstrap_peers: usize,
    /// Bootstrap peers whose last dial failed.
    #[serde(default)]
    pub unreachable_bootstrap_peers: usize,
    /// Peers of earlier runs and of lists that the node started with.
    #[serde(default)]
    pub remembered_peers: usize,
    /// HTTP servers that are asked for blocks.
    #[serde(default)]
    pub http_providers: usize,
    /// Addresses of peers that rejected the handshake in a private swarm: a sign of another swarm key.
    #[serde(default)]
    pub rejected_handshakes: Vec<String>,
    /// Seconds that the clocks of most peers are ahead of that of this machine, if that is more than five minutes.
    #[serde(default)]
    pub clock_ahead_seconds: Option<i64>,
    /// Connected peers whose clock differs by more than five minutes.
    #[serde(default)]
    pub peers_with_other_clocks: usize,
    /// Announced keys.
    pub announced: usize,
    /// Keys that are not announced yet.
    pub announcing: usize,
    /// Bytes of blocks sent to peers since the start.
    pub sent_bytes: u64,
    /// Blocks sent to peers.
    pub sent_blocks: u64,
    /// Bytes of blocks that came of peers.
    pub received_bytes: u64,
    /// Blocks that came of peers.
    pub received_blocks: u64,
    /// How long the root that has waited longest has been due to be announced.
    pub announce_lag_seconds: u64,
    /// Layers that commands added.
    pub layers: usize,
    /// Images that commands imported.
    pub images: usize,
    /// Layers that were pulled.
    pub cached_layers: usize,
    /// Pushed images that are served only to users who may sign them; none without `--policy`.
    #[serde(default)]
    pub withheld: Option<WithheldImages>,
    /// How the room on the disk is used.
    #[serde(flatten)]
    pub room: Room,
    /// Memory for all that peers and clients do, beyond what an idle node uses.
    #[serde(default)]
    pub max_memory: u64,
    /// The published repositories.
    pub published: Publication,
    /// Names that are followed, in order.
    pub followed: Vec<FollowedName>,
    /// Since the start.
    pub seconds: u64,
}

/// Message that is sent before the outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Note {
    /// For people.
    Warning(String),
    /// How far the operation is.
    Progress(Progress),
}

/// Why a command failed and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Description of the failure and its cause.
    pub message: String,
    /// Command or flag that helps.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure with nothing to advise.
    pub fn new(message: impl ToString) -> Self {
        Self { message: message.to_string(), hint: None }
    }

    /// Adds a hint.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// A line from the server.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Line {
    Note(Note),
    Ask(Ask),
    Write(Write),
    Done(Reply),
    Failed(Failure),
}
