//! Files that only their owner may read: warnings where other users of the machine can.

use std::{
    fs,
    io::Write,
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use super::Exit;
use crate::control::Failure;

/// Warns of key files that other users can read, and says so of the node directory.
pub fn check<'a>(data_dir: &Path, given: impl Iterator<Item = &'a PathBuf>) {
    let named = fs::read_dir(data_dir.join("keys")).into_iter().flatten().flatten().map(|entry| entry.path());
    let keys: Vec<PathBuf> = named
        .chain(["identity.key", "admin.key"].map(|name| data_dir.join(name)))
        .chain(given.cloned())
        .collect();
    for (path, mode) in keys.iter().filter_map(|path| Some((path, open_to_others(path)?))) {
        let path = path.display();
        tracing::warn!("other users can read the key {path} (mode {mode:04o}); hint: run `chmod 600 {path}`");
    }
    if let Some(mode) = open_to_others(data_dir) {
        let dir = data_dir.display();
        tracing::info!(
            "other users can read the node directory (mode {mode:04o}); hint: run `chmod 700 {dir}`"
        );
    }
}

/// The mode of a file that others than its owner may use.
fn open_to_others(path: &Path) -> Option<u32> {
    let file = fs::metadata(path).ok()?;
    let mode = file.permissions().mode() & 0o777;
    (mode & for_others(file.uid(), rustix::process::geteuid().as_raw()) != 0).then_some(mode)
}

/// The bits of a mode by which others can use a file. The group of a file of another owner is how this process reads it: so
/// Kubernetes mounts a Secret.
fn for_others(owner: u32, this_user: u32) -> u32 {
    if owner == this_user { 0o077 } else { 0o007 }
}

/// Writes a key to a new file that only its owner can read.
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Exit> {
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
    written.map_err(|e| {
        let message = format!("cannot write the key to {}: {e}", path.display());
        Exit::Failed(Failure::new(message).hint("name a file that does not exist, in a directory that does"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_file_has_private_permissions_and_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("swarm.key");
        write_new(&path, b"secret\n").unwrap();
        assert_eq!(open_to_others(&path), None);
        assert!(write_new(&path, b"other").is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "secret\n");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(open_to_others(&path), Some(0o640));
        assert_eq!(open_to_others(&dir.path().join("missing")), None);
    }

    #[test]
    fn the_group_of_a_file_of_another_owner_is_not_reported() {
        assert_eq!(for_others(1000, 1000), 0o077);
        assert_eq!(for_others(0, 65532), 0o007);
    }
}
