//! Moving a node directory to another network: what it knows of the old one is not revealed in the next.

use std::{fs, io::ErrorKind, path::Path};

use crate::{KeyError, RecordError, identity, ipns, members, peers, routing};

/// Deletes what a node directory knows of its network: the records of names and of the routing system, its peers
/// and the members of a private swarm. Followed names stay followed. The directory must not be in use.
pub fn leave_network(data_dir: &Path) -> Result<(), RecordError> {
    let identity = identity::load_or_create(data_dir).map_err(KeyError::from)?;
    ipns::leave_network(data_dir, &identity)?;
    for file in [routing::FILE, peers::REMEMBERED_FILE, members::FILE] {
        let path = data_dir.join(file);
        match fs::remove_file(&path) {
            Err(why) if why.kind() != ErrorKind::NotFound => return Err(RecordError::Remove { path, why }),
            _ => {}
        }
    }
    Ok(())
}
