//! The ed25519 key that identifies this peer, stored in the node directory.

use std::{fs, io::Write, os::unix::fs::OpenOptionsExt, path::Path};

use libp2p::identity::Keypair;

use crate::{KeyFileCause, KeyFileError};

/// Loads this peer's key from `data_dir`, or creates it.
pub fn load_or_create(data_dir: &Path) -> Result<Keypair, KeyFileError> {
    load_or_create_at(&data_dir.join("identity.key"))
}

/// Loads a key, or creates it.
pub fn load_or_create_at(path: &Path) -> Result<Keypair, KeyFileError> {
    load_or_create_key(path).map_err(|why| KeyFileError { path: path.into(), why })
}

fn load_or_create_key(path: &Path) -> Result<Keypair, KeyFileCause> {
    match fs::read(path) {
        Ok(bytes) => Keypair::from_protobuf_encoding(&bytes).map_err(KeyFileCause::Invalid),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let key = Keypair::generate_ed25519();
            write_secret(path, &key.to_protobuf_encoding().map_err(KeyFileCause::Encode)?)?;
            Ok(key)
        }
        Err(e) => Err(e.into()),
    }
}

/// Writes a temporary file and renames it, so that a crash leaves no partial key. A disk that is full keeps the previous file.
pub fn write_secret(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    let written = write_new(&beside, bytes).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        // What fitted takes room.
        let _ = fs::remove_file(&beside);
        return written;
    }
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    fs::File::open(dir.unwrap_or(Path::new(".")))?.sync_all()
}

fn write_new(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_key_is_stable_and_has_private_permissions() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let first = load_or_create(dir.path()).unwrap();
        let second = load_or_create(dir.path()).unwrap();
        assert_eq!(first.public(), second.public());
        let mode = fs::metadata(dir.path().join("identity.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_identity_key_is_rejected_and_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("identity.key"), b"nonsense").unwrap();
        let error = load_or_create(dir.path()).unwrap_err().to_string();
        assert!(error.contains("not a libp2p private key"), "{error}");
        assert_eq!(fs::read(dir.path().join("identity.key")).unwrap(), b"nonsense");
    }
}
