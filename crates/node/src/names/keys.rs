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
}
