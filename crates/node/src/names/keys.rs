//! Named keys: each is a name of its own, `keys/<word>.key` in the node directory.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use libp2p::identity::Keypair;

use crate::{Error, identity};

fn path_of(data_dir: &Path, word: &str) -> Result<PathBuf, Error> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if word.is_empty()
        || word.len() > 64
        || word.starts_with('.')
        || !word.chars().all(fits)
        || word == "self"
    {
        return Err(Error::KeyName(word.into()));
    }
    Ok(data_dir.join("keys").join(format!("{word}.key")))
}

/// The key of this name, made where there is none.
pub fn load_or_create(data_dir: &Path, word: &str) -> Result<Keypair, Error> {
    let path = path_of(data_dir, word)?;
    let failed = |e: io::Error| Error::Identity { path: path.clone(), why: e.to_string() };
    fs::create_dir_all(data_dir.join("keys")).map_err(failed)?;
    identity::load_or_create_at(&path)
}

/// The key of this name, which must exist.
pub fn load(data_dir: &Path, word: &str) -> Result<Keypair, Error> {
    let path = path_of(data_dir, word)?;
    match path.exists() {
        true => identity::load_or_create_at(&path),
        false => Err(Error::NoKey(word.into())),
    }
}

/// Makes the key of this name, which must not exist.
pub fn create(data_dir: &Path, word: &str) -> Result<Keypair, Error> {
    match path_of(data_dir, word)?.exists() {
        true => Err(Error::KeyExists(word.into())),
        false => load_or_create(data_dir, word),
    }
}

/// Keeps a key that was exported under this name, which must be free: libp2p's protobuf, as Kubo's
/// `libp2p-protobuf-cleartext` has it.
pub fn import(data_dir: &Path, word: &str, bytes: &[u8]) -> Result<Keypair, Error> {
    let path = path_of(data_dir, word)?;
    let key = Keypair::from_protobuf_encoding(bytes).map_err(|e| Error::NotAKey(e.to_string()))?;
    match path.exists() {
        true if load(data_dir, word)?.public() == key.public() => Ok(key),
        true => Err(Error::KeyExists(word.into())),
        false => {
            let failed = |e: io::Error| Error::Identity { path: path.clone(), why: e.to_string() };
            fs::create_dir_all(data_dir.join("keys")).map_err(failed)?;
            identity::write_secret(&path, bytes).map_err(failed)?;
            Ok(key)
        }
    }
}

/// The words of all keys, sorted.
pub fn list(data_dir: &Path) -> Result<Vec<String>, Error> {
    let dir = data_dir.join("keys");
    let failed = |e: io::Error| Error::Identity { path: dir.clone(), why: e.to_string() };
    let entries = match fs::read_dir(&dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut words = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        words.extend(name.to_str().and_then(|name| name.strip_suffix(".key")).map(String::from));
    }
    words.sort();
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_listed() {
        let dir = tempfile::tempdir().unwrap();
        assert!(list(dir.path()).unwrap().is_empty());
        let first = load_or_create(dir.path(), "releases").unwrap();
        assert_eq!(load_or_create(dir.path(), "releases").unwrap().public(), first.public());
        load_or_create(dir.path(), "nightly").unwrap();
        assert_eq!(list(dir.path()).unwrap(), ["nightly", "releases"]);
    }

    #[test]
    fn words_that_would_lead_elsewhere_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        for word in ["", "..", "a/b", ".hidden", "self", "ä", &"x".repeat(65)] {
            assert!(matches!(load_or_create(dir.path(), word), Err(Error::KeyName(_))), "{word}");
        }
    }

    #[test]
    fn a_key_is_imported_where_none_is_in_its_place() {
        let [one, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let key = create(one.path(), "team").unwrap();
        let bytes = key.to_protobuf_encoding().unwrap();
        assert!(matches!(create(one.path(), "team"), Err(Error::KeyExists(_))));
        for _ in 0..2 {
            assert_eq!(import(other.path(), "of-the-team", &bytes).unwrap().public(), key.public());
        }
        assert_eq!(load(other.path(), "of-the-team").unwrap().public(), key.public());
        create(other.path(), "taken").unwrap();
        assert!(matches!(import(other.path(), "taken", &bytes), Err(Error::KeyExists(_))));
        for bad in [&b""[..], b"nonsense", &bytes[..20]] {
            assert!(matches!(import(other.path(), "bad", bad), Err(Error::NotAKey(_))));
        }
        assert!(matches!(load(other.path(), "bad"), Err(Error::NoKey(_))));
    }
}
