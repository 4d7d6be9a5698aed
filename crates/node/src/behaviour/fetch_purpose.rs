//! What peers are asked for by the fetch protocol.

use libp2p::PeerId;
use tokio::sync::mpsc;

use crate::Cid;

/// Why a value is fetched from a peer.
pub(super) enum FetchPurpose {
    /// To resolve a name.
    Resolve(mpsc::UnboundedSender<Vec<u8>>),
    /// To follow this name.
    Follow(PeerId),
    /// To find a file by the hash of its bytes: its root.
    File(mpsc::UnboundedSender<Cid>),
    /// To compare its clock.
    Time,
}
