//! The file of the remembered peers. Nothing depends on it, so an unreadable one is replaced.

use std::{fs, io, path::Path};

use super::{RememberedPeer, RememberedPeers, seconds};
use crate::identity::write_secret;

pub(crate) const FILE: &str = "peers.json";
/// More than a full table takes.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Reads the peers of a node directory.
pub fn load(path: &Path, public: bool) -> RememberedPeers {
    let mut remembered = RememberedPeers::new(public);
    match read(path) {
        Ok(peers) => remembered.restore(peers, seconds()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            let path = path.display();
            tracing::warn!(%path, %error, "cannot read the peers of the last run; starting without them");
        }
    }
    remembered
}

fn read(path: &Path) -> io::Result<Vec<RememberedPeer>> {
    if fs::metadata(path)?.len() > MAX_FILE_BYTES {
        return Err(io::Error::other("the file is too large"));
    }
    serde_json::from_slice(&fs::read(path)?).map_err(io::Error::from)
}

/// Writes them if they changed since the last call. Only this user may read whom the node talks to.
pub fn save(path: &Path, remembered: &mut RememberedPeers) -> io::Result<()> {
    if !std::mem::take(&mut remembered.changed) {
        return Ok(());
    }
    let mut peers: Vec<_> = remembered.peers.values().collect();
    peers.sort_by_key(|peer| std::cmp::Reverse(peer.last_reached));
    let written =
        serde_json::to_vec(&peers).map_err(io::Error::from).and_then(|json| write_secret(path, &json));
    remembered.changed = written.is_err();
    written
}
