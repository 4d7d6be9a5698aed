//! Named keys, each with an IPNS name of its own: `keys/<key name>.key` in the node directory.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use libp2p::identity::Keypair;

use super::IpnsNames;
use crate::{IpnsName, KeyError, KeyFileError, identity};

fn path_of(data_dir: &Path, key_name: &str) -> Result<PathBuf, KeyError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if key_name.is_empty()
        || key_name.len() > 64
        || key_name.starts_with('.')
        || !key_name.chars().all(fits)
        || key_name == "self"
    {
        return Err(KeyError::KeyName(key_name.into()));
    }
    Ok(data_dir.join("keys").join(format!("{key_name}.key")))
}

/// Loads a key, creating it if it is missing.
pub fn load_or_create(data_dir: &Path, key_name: &str) -> Result<Keypair, KeyError> {
    let path = path_of(data_dir, key_name)?;
    let failed = |e: io::Error| KeyFileError { path: path.clone(), why: e.into() };
    fs::create_dir_all(data_dir.join("keys")).map_err(failed)?;
    Ok(identity::load_or_create_at(&path)?)
}

/// Loads a key, which must exist.
pub fn load(data_dir: &Path, key_name: &str) -> Result<Keypair, KeyError> {
    let path = path_of(data_dir, key_name)?;
    match path.exists() {
        true => Ok(identity::load_or_create_at(&path)?),
        false => Err(KeyError::NoKey(key_name.into())),
    }
}

/// Creates a key, which must not exist.
pub fn create(data_dir: &Path, key_name: &str) -> Result<Keypair, KeyError> {
    match path_of(data_dir, key_name)?.exists() {
        true => Err(KeyError::KeyExists(key_name.into())),
        false => load_or_create(data_dir, key_name),
    }
}

/// Stores an exported key under a free key name, as libp2p's protobuf: Kubo's `libp2p-protobuf-cleartext`.
pub fn import(data_dir: &Path, key_name: &str, bytes: &[u8]) -> Result<Keypair, KeyError> {
    let path = path_of(data_dir, key_name)?;
    let key = Keypair::from_protobuf_encoding(bytes).map_err(KeyError::NotAKey)?;
    match path.exists() {
        true if load(data_dir, key_name)?.public() == key.public() => Ok(key),
        true => Err(KeyError::KeyExists(key_name.into())),
        false => {
            let failed = |e: io::Error| KeyFileError { path: path.clone(), why: e.into() };
            fs::create_dir_all(data_dir.join("keys")).map_err(failed)?;
            identity::write_secret(&path, bytes).map_err(failed)?;
            Ok(key)
        }
    }
}

/// Renames a key.
fn rename(data_dir: &Path, from: &str, to: &str, overwrites: bool) -> Result<(), KeyError> {
    let (path, renamed) = (path_of(data_dir, from)?, path_of(data_dir, to)?);
    if !path.exists() {
        return Err(KeyError::NoKey(from.into()));
    }
    if renamed.exists() && !overwrites {
        return Err(KeyError::KeyExists(to.into()));
    }
    Ok(fs::rename(&path, renamed).map_err(|e| KeyFileError { path, why: e.into() })?)
}

/// Removes a key.
fn remove(data_dir: &Path, key_name: &str) -> Result<(), KeyError> {
    let path = path_of(data_dir, key_name)?;
    match fs::remove_file(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(KeyError::NoKey(key_name.into())),
        removed => Ok(removed.map_err(|e| KeyFileError { path, why: e.into() })?),
    }
}

/// Returns all key names, sorted.
pub fn list(data_dir: &Path) -> Result<Vec<String>, KeyError> {
    let dir = data_dir.join("keys");
    let failed = |e: io::Error| KeyFileError { path: dir.clone(), why: e.into() };
    let entries = match fs::read_dir(&dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut key_names = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        key_names.extend(name.to_str().and_then(|name| name.strip_suffix(".key")).map(String::from));
    }
    key_names.sort();
    Ok(key_names)
}

impl IpnsNames {
    /// Returns the key with this key name and its IPNS name, creating it if it is missing.
    pub async fn name_key(&self, key_name: &str) -> Result<(Keypair, IpnsName), KeyError> {
        let key_name = key_name.to_string();
        let make = move |names: &IpnsNames| names.change_keys(|dir| load_or_create(dir, &key_name));
        let key = self.with_keys(make).await?;
        let name = IpnsName::of(&key);
        Ok((key, name))
    }

    /// Returns the key names and IPNS names of all keys.
    pub async fn name_keys(&self) -> Result<Vec<(String, IpnsName)>, KeyError> {
        let list = |names: &IpnsNames| {
            let dir = &names.0.data_dir;
            let named =
                |key_name: String| Ok((key_name.clone(), IpnsName::of(&load_or_create(dir, &key_name)?)));
            list(dir)?.into_iter().map(named).collect()
        };
        self.with_keys(list).await
    }

    /// Creates a key, which must not exist.
    pub async fn new_key(&self, key_name: &str) -> Result<IpnsName, KeyError> {
        let key_name = key_name.to_string();
        let create = move |names: &IpnsNames| names.change_keys(|dir| create(dir, &key_name));
        self.with_keys(create).await.map(|key| IpnsName::of(&key))
    }

    /// Returns the key with this key name, which must exist; `self` is the node's identity.
    pub async fn find_key(&self, key_name: &str) -> Result<Keypair, KeyError> {
        let key_name = key_name.to_string();
        self.with_keys(move |names| names.key(&key_name)).await
    }

    /// Renames a key; the new key name must be free, unless it `overwrites` the key that has it.
    pub async fn rename_key(&self, from: &str, to: &str, overwrites: bool) -> Result<(), KeyError> {
        let (from, to) = (from.to_string(), to.to_string());
        self.with_keys(move |names| names.change_keys(|dir| rename(dir, &from, &to, overwrites))).await
    }

    /// Removes a key.
    pub async fn remove_key(&self, key_name: &str) -> Result<(), KeyError> {
        let key_name = key_name.to_string();
        self.with_keys(move |names| names.change_keys(|dir| remove(dir, &key_name))).await
    }

    /// Exports a key as `ipfs key export --format=libp2p-protobuf-cleartext` does; `self` is the node's identity.
    pub async fn export_key(&self, key_name: &str) -> Result<Vec<u8>, KeyError> {
        self.find_key(key_name).await?.to_protobuf_encoding().map_err(KeyError::Encode)
    }

    /// Imports an exported key.
    pub async fn import_key(&self, key_name: &str, bytes: &[u8]) -> Result<IpnsName, KeyError> {
        let (key_name, bytes) = (key_name.to_string(), bytes.to_vec());
        let import = move |names: &IpnsNames| names.change_keys(|dir| import(dir, &key_name, &bytes));
        self.with_keys(import).await.map(|key| IpnsName::of(&key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_created_once_and_listed() {
        let dir = tempfile::tempdir().unwrap();
        assert!(list(dir.path()).unwrap().is_empty());
        let first = load_or_create(dir.path(), "releases").unwrap();
        assert_eq!(load_or_create(dir.path(), "releases").unwrap().public(), first.public());
        load_or_create(dir.path(), "nightly").unwrap();
        assert_eq!(list(dir.path()).unwrap(), ["nightly", "releases"]);
    }

    #[test]
    fn a_key_is_renamed_to_a_free_key_name_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let key = create(dir.path(), "one").unwrap();
        create(dir.path(), "taken").unwrap();
        assert!(matches!(rename(dir.path(), "one", "taken", false), Err(KeyError::KeyExists(_))));
        assert!(matches!(rename(dir.path(), "none", "two", false), Err(KeyError::NoKey(_))));
        assert!(matches!(rename(dir.path(), "one", "../two", false), Err(KeyError::KeyName(_))));
        rename(dir.path(), "one", "two", false).unwrap();
        assert_eq!(load(dir.path(), "two").unwrap().public(), key.public());
        rename(dir.path(), "two", "taken", true).unwrap();
        assert_eq!(load(dir.path(), "taken").unwrap().public(), key.public());
        remove(dir.path(), "taken").unwrap();
        assert!(matches!(remove(dir.path(), "taken"), Err(KeyError::NoKey(_))));
        assert!(list(dir.path()).unwrap().is_empty());
    }

    #[test]
    fn invalid_key_names_and_path_traversal_are_rejected() {
        let dir = tempfile::tempdir().unwrap();
        for key_name in ["", "..", "a/b", ".hidden", "self", "ä", &"x".repeat(65)] {
            assert!(matches!(load_or_create(dir.path(), key_name), Err(KeyError::KeyName(_))), "{key_name}");
        }
    }

    #[test]
    fn a_key_is_imported_under_a_free_key_name_only() {
        let [one, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let key = create(one.path(), "team").unwrap();
        let bytes = key.to_protobuf_encoding().unwrap();
        assert!(matches!(create(one.path(), "team"), Err(KeyError::KeyExists(_))));
        for _ in 0..2 {
            assert_eq!(import(other.path(), "of-the-team", &bytes).unwrap().public(), key.public());
        }
        assert_eq!(load(other.path(), "of-the-team").unwrap().public(), key.public());
        create(other.path(), "taken").unwrap();
        assert!(matches!(import(other.path(), "taken", &bytes), Err(KeyError::KeyExists(_))));
        for bad in [&b""[..], b"nonsense", &bytes[..20]] {
            assert!(matches!(import(other.path(), "bad", bad), Err(KeyError::NotAKey(_))));
        }
        assert!(matches!(load(other.path(), "bad"), Err(KeyError::NoKey(_))));
    }
}
