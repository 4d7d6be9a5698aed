//! The ed25519 key that names this peer, kept in the node directory.

use std::{fs, io::Write, os::unix::fs::OpenOptionsExt, path::Path};

use libp2p::identity::Keypair;

use crate::Error;

/// Reads this peer's key in `data_dir`, or makes one where there is none.
pub fn load_or_create(data_dir: &Path) -> Result<Keypair, Error> {
    load_or_create_at(&data_dir.join("identity.key"))
}

/// Reads a key, or makes one where there is none.
pub fn load_or_create_at(path: &Path) -> Result<Keypair, Error> {
    let error = |why: String| Error::Identity { path: path.into(), why };
    match fs::read(path) {
        Ok(bytes) => Keypair::from_protobuf_encoding(&bytes).map_err(|e| {
            error(format!("not a libp2p private key ({e}); move the file away to create a new key"))
        }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let key = Keypair::generate_ed25519();
            let bytes = key.to_protobuf_encoding().map_err(|e| error(e.to_string()))?;
            write_secret(path, &bytes).map_err(|e| error(e.to_string()))?;
            Ok(key)
        }
        Err(e) => Err(error(e.to_string())),
    }
}

/// Writes beside and renames, so that a crash leaves no half key behind.
pub fn write_secret(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_stays_the_same_and_is_secret() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let first = load_or_create(dir.path()).unwrap();
        let second = load_or_create(dir.path()).unwrap();
        assert_eq!(first.public(), second.public());
        let mode = fs::metadata(dir.path().join("identity.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_identity_is_refused_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("identity.key"), b"nonsense").unwrap();
        let error = load_or_create(dir.path()).unwrap_err().to_string();
        assert!(error.contains("not a libp2p private key"), "{error}");
        assert_eq!(fs::read(dir.path().join("identity.key")).unwrap(), b"nonsense");
    }
}
