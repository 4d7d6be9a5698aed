//! The account and the certificates in the node directory.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Error, domain::Domain};
use crate::http::tls::Certificate;

/// An account, and the server that it is at.
#[derive(Deserialize, Serialize)]
struct Known<T> {
    directory: String,
    credentials: T,
}

pub fn refused(path: &Path, why: impl ToString) -> Error {
    Error::File { path: path.display().to_string(), why: why.to_string() }
}

/// Makes the directory, which only its owner can read.
pub fn make_dir(dir: &Path) -> Result<(), Error> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|why| refused(dir, why))
}

pub fn account_path(dir: &Path) -> PathBuf {
    dir.join("account.json")
}

/// Reads the account at a server; none where there is none, or one at another server.
pub fn read_account(dir: &Path, directory: &str) -> Result<Option<Value>, Error> {
    let path = account_path(dir);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(why) => return Err(refused(&path, why)),
    };
    let known: Known<Value> = serde_json::from_slice(&bytes).map_err(|why| refused(&path, why))?;
    Ok((known.directory == directory).then_some(known.credentials))
}

/// The file of an account, and what it holds.
pub fn account(
    dir: &Path,
    directory: &str,
    credentials: &impl Serialize,
) -> Result<(PathBuf, Vec<u8>), Error> {
    let path = account_path(dir);
    let bytes = serde_json::to_vec_pretty(&Known { directory: directory.into(), credentials });
    let bytes = bytes.map_err(|why| refused(&path, why))?;
    Ok((path, bytes))
}

/// One file holds the key and the chain, so that both change at once.
pub fn certificate_path(dir: &Path, domain: &Domain) -> PathBuf {
    dir.join(format!("{domain}.pem"))
}

/// Reads the certificate of a name, if there is one.
pub fn read(dir: &Path, domain: &Domain) -> Result<Option<Certificate>, Error> {
    let path = certificate_path(dir, domain);
    match fs::read(&path) {
        Ok(pem) => {
            let certificate = parse(&path, &pem)?;
            certificate.check(&path.display().to_string())?;
            Ok(Some(certificate))
        }
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(why) => Err(refused(&path, why)),
    }
}

/// Reads a certificate with its key; the path is for errors.
pub fn parse(path: &Path, pem: &[u8]) -> Result<Certificate, Error> {
    let shown = path.display().to_string();
    Ok(Certificate::parse((pem, &shown), (pem, &shown))?)
}

/// Writes a file that only its owner can read: it is the new one or the old one, also after a crash.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    ocipfs_node::write_secret(path, bytes).map_err(|why| refused(path, why))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn an_account_is_kept_for_its_server_and_only_its_owner_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("acme");
        make_dir(&dir).unwrap();
        assert!(read_account(&dir, "https://one").unwrap().is_none());
        let (path, bytes) = account(&dir, "https://one", &serde_json::json!({ "id": 1 })).unwrap();
        write(&path, &bytes).unwrap();
        assert_eq!(read_account(&dir, "https://one").unwrap().unwrap()["id"], 1);
        assert!(read_account(&dir, "https://two").unwrap().is_none());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&dir), mode(&account_path(&dir))), (0o700, 0o600));
        fs::write(account_path(&dir), "{").unwrap();
        assert!(matches!(read_account(&dir, "https://one"), Err(Error::File { .. })));
    }
}
