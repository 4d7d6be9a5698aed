//! What the commands ask of a house: one handler, reached over the socket of a running `serve`,
//! or in the process where none runs.

pub mod client;
mod house;
mod input;
mod lock;
mod message;
mod names;
pub mod server;
mod socket;

pub use house::{House, Options};
pub use message::{
    Added, AddedLayer, Failure, Identity, ImageInfo, ImageReply, ImageRequest, Inspected, InspectedImage,
    LayerRequest, Note, PeerInfo, Reply, Request, Source, Status, Stored,
};
pub use names::{NameRequest, NameTarget, OwnName, Published};
