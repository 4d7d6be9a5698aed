//! The file with the members and the keys of a swarm, readable by its owner only.

use std::{
    fs,
    io::{self, ErrorKind},
    path::Path,
};

use bytes::{Bytes, BytesMut};

use super::rollover;
use crate::{
    bitswap::wire::fields::{self, Value, put_number, put_slice},
    identity::write_secret,
};

/// Its name in the node directory.
pub(crate) const FILE: &str = "members";
/// Earlier keys that are remembered.
pub(super) const MAX_EARLIER: usize = 16;

/// What the file holds; all of it may be empty.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Saved {
    pub(super) list: Vec<u8>,
    pub(super) rollover: Vec<u8>,
    pub(super) ends: u64,
    /// The sha256 of keys that were replaced, and that settings may still name.
    pub(super) earlier: Vec<String>,
    /// Sequence number of the list that an invitation told of: older ones are not taken.
    pub(super) least: u64,
}

/// Reads the file; without one, nothing is known.
pub(super) fn load(data_dir: &Path) -> io::Result<Saved> {
    let path = data_dir.join(FILE);
    let mut bytes = match fs::read(&path) {
        Ok(bytes) => Bytes::from(bytes),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Saved::default()),
        Err(error) => return Err(of_file(&path, error)),
    };
    let mut saved = Saved::default();
    let damaged = |_| io::Error::new(ErrorKind::InvalidData, "the file `members` is damaged; move it away");
    while let Some((number, value)) = fields::next(&mut bytes).map_err(damaged)? {
        match (number, value) {
            (1, Value::Slice(list)) => saved.list = list.into(),
            (2, Value::Slice(rollover)) => saved.rollover = rollover.into(),
            (3, Value::Number(ends)) => saved.ends = ends,
            (4, Value::Slice(earlier)) => saved.earlier.push(hex::encode(earlier)),
            (5, Value::Number(least)) => saved.least = least,
            _ => {}
        }
    }
    Ok(saved)
}

/// Writes the file.
pub(super) fn save(data_dir: &Path, saved: &Saved) -> io::Result<()> {
    let mut bytes = BytesMut::new();
    put_slice(&mut bytes, 1, &saved.list);
    put_slice(&mut bytes, 2, &saved.rollover);
    put_number(&mut bytes, 3, saved.ends);
    let earlier = saved.earlier.iter().filter_map(|fingerprint| hex::decode(fingerprint).ok());
    earlier.for_each(|fingerprint| put_slice(&mut bytes, 4, &fingerprint));
    put_number(&mut bytes, 5, saved.least);
    let path = data_dir.join(FILE);
    write_secret(&path, &bytes).map_err(|error| of_file(&path, error))
}

/// An error that names its file.
fn of_file(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Has a node whose directory is new take no admission list below this sequence number, which an invitation tells.
pub fn expect_list(data_dir: &Path, least: u64) -> io::Result<()> {
    let mut saved = load(data_dir)?;
    saved.least = saved.least.max(least);
    save(data_dir, &saved)
}

/// Returns whether one of two swarm keys has taken the place of the other, as far as a node directory knows. Both are given by
/// their sha256.
pub fn succeeds(data_dir: &Path, before: &str, after: &str) -> bool {
    let Ok(saved) = load(data_dir) else { return false };
    let newest = rollover::unverified(&saved.rollover).ok().map(|rollover| rollover.new.fingerprint());
    let is_known = |key: &str| saved.earlier.iter().chain(&newest).any(|known| known == key);
    is_known(before) && is_known(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_members_of_a_swarm_are_read_as_they_were_saved() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(dir.path()).unwrap(), Saved::default());
        let saved = Saved {
            list: vec![1, 2],
            rollover: vec![3; 100],
            ends: 5,
            earlier: vec!["ab".repeat(32), "cd".repeat(32)],
            least: 6,
        };
        save(dir.path(), &saved).unwrap();
        assert_eq!(load(dir.path()).unwrap(), saved);
        let mode = fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "it may have a key in it");
        fs::write(dir.path().join(FILE), [0xff; 3]).unwrap();
        assert!(load(dir.path()).unwrap_err().to_string().contains("move it away"));
        fs::remove_file(dir.path().join(FILE)).unwrap();
        fs::create_dir(dir.path().join(FILE)).unwrap();
        for error in [load(dir.path()).unwrap_err(), save(dir.path(), &saved).unwrap_err()] {
            assert!(error.to_string().contains(&dir.path().join(FILE).display().to_string()), "{error}");
        }
        assert!(!dir.path().join("members.new").exists(), "nothing is left that takes room");
    }
}
