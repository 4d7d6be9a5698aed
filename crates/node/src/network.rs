//! A node directory that leaves its network: what it knows of the old one is not told in the next.

use std::{fs, io::ErrorKind, path::Path};

use crate::{Error, identity, names, routing};

/// Forgets what a node directory knows of its network: the meanings of names, and what peers told of the routing system.
/// The directory must not be in use. Names that are followed are followed in the next network too.
pub fn leave_network(data_dir: &Path) -> Result<(), Error> {
    let identity = identity::load_or_create(data_dir)?;
    names::leave_network(data_dir, &identity)?;
    let path = data_dir.join(routing::FILE);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Error::names(format!("cannot remove {}: {error}", path.display())))
        }
        _ => Ok(()),
    }
}
