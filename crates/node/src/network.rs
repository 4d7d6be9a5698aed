//! Moving a node directory to another network: what it knows of the old one is not revealed in the next.

use std::{fs, io::ErrorKind, path::Path};

use crate::{Error, identity, ipns, routing};

/// Deletes what a node directory knows of its network: the records of names and of the routing system. Followed names
/// stay followed. The directory must not be in use.
pub fn leave_network(data_dir: &Path) -> Result<(), Error> {
    let identity = identity::load_or_create(data_dir)?;
    ipns::leave_network(data_dir, &identity)?;
    let path = data_dir.join(routing::FILE);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Error::names(format!("cannot remove {}: {error}", path.display())))
        }
        _ => Ok(()),
    }
}
