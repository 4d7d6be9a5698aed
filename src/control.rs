//! Control interface of an instance: one request handler, reached over the socket of a running `serve`, or in
//! the process if none runs.

mod attachment;
pub mod client;
mod deeds;
mod elsewhere;
mod failure;
mod instance;
mod invitation;
mod message;
pub mod server;
mod socket;
mod trust;

pub use attachment::{Attachment, Destination};
pub use failure::{bundle_failure, import_failure, layer_file_failure};
pub use instance::{Instance, Naming, Network, Options, make_data_dir};
pub use invitation::Invitation;
pub use message::{
    Added, AddedLayer, BundleReply, BundleRequest, Collected, CreatedToken, DamageInfo, Dropped, Earlier,
    ExportedBundle, ExportedImage, Failure, FollowedName, Identity, ImageInfo, ImageReply, ImageRequest,
    ImportOptions, ImportedBundle, Inspected, InspectedImage, Invited, LayerRequest, ListInfo, MAX_EXPANSION,
    MemberInfo, MembersReply, MembersRequest, NameRequest, NameTarget, Note, OwnName, PeerInfo, Pin,
    Progress, Publication, Published, RemovedInfo, Reply, RepoCollected, RepoContents, RepoInfo,
    RepoManifest, RepoReply, RepoRequest, RepoTag, Request, RequestedImage, Room, Source, Status, StoreReply,
    StoreRequest, Stored, TokenReply, TokenRequest, Unit, Verified, WithheldImage, WithheldImages,
};
