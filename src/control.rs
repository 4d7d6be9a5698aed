//! Control interface of an instance: one request handler, reached over the socket of a running `serve`, or in
//! the process if none runs.

pub mod client;
mod input;
mod instance;
mod lock;
mod message;
mod names;
mod network;
pub mod server;
mod socket;
mod trust;

pub use instance::{Instance, Naming, Options};
pub use message::{
    Added, AddedLayer, Collected, DamageInfo, Dropped, Failure, FollowedName, Identity, ImageInfo,
    ImageReply, ImageRequest, Inspected, InspectedImage, LayerRequest, Note, PeerInfo, Pin, Publication,
    RemovedInfo, Reply, RepoCollected, RepoContents, RepoInfo, RepoManifest, RepoReply, RepoRequest, RepoTag,
    Request, Room, Source, Status, StoreReply, StoreRequest, Stored, Verified,
};
pub use names::{NameRequest, NameTarget, OwnName, Published};
pub use network::Network;
