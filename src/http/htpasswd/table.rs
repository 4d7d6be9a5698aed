//! The content of a file of users.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    path::Path,
    sync::LazyLock,
};

/// Why a file gives no users.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("cannot read the users in {path}: {why}")]
    Read {
        /// The file.
        path: String,
        /// Error of the operating system.
        why: std::io::Error,
    },
    /// A line of another form.
    #[error("{path}, line {line}: expected <name>:<bcrypt hash>")]
    Line {
        /// The file.
        path: String,
        /// Which line.
        line: usize,
    },
    /// It has no users.
    #[error("{0} has no users")]
    Empty(String),
}

/// Users and the hashes of their passwords.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct UserTable(BTreeMap<String, String>);

impl UserTable {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|why| Error::Read { path: name.clone(), why })?;
        let mut hashes = BTreeMap::new();
        for (n, line) in text.lines().map(str::trim).enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let user = line.split_once(':').filter(|(user, hash)| !user.is_empty() && is_bcrypt(hash));
            let (user, hash) = user.ok_or(Error::Line { path: name.clone(), line: n + 1 })?;
            hashes.insert(user.to_string(), hash.to_string());
        }
        Ok(Self(hashes))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn hash(&self, user: &str) -> Option<&String> {
        self.0.get(user)
    }

    /// A hash of the file for a name that is not in it, always the same: refusing the name costs what a wrong password of a
    /// user costs, and tells nothing where costs differ.
    pub fn decoy(&self, name: &str) -> Option<&String> {
        static CHOICE: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        let number = CHOICE.hash_one(name) as usize;
        self.0.values().nth(number.checked_rem(self.0.len())?)
    }
}

fn is_bcrypt(hash: &str) -> bool {
    ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| hash.starts_with(prefix)) && hash.len() == 60
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_htpasswd_file_is_rejected_with_the_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (text, told) in
            [("me:secret", "line 1"), ("# x\nme:$apr1$abc$def", "line 2"), ("$2y$05$abc", "line 1")]
        {
            std::fs::write(file.path(), text).unwrap();
            let error = UserTable::read(file.path()).err().unwrap().to_string();
            assert!(error.contains(told), "{text}: {error}");
        }
        assert!(matches!(UserTable::read(Path::new("/nowhere")), Err(Error::Read { .. })));
    }

    #[test]
    fn the_bcrypt_cost_for_unknown_users_does_not_reveal_which_users_exist() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let line = |user: &str, cost| format!("{user}:{}\n", bcrypt::hash("secret", cost).unwrap());
        std::fs::write(file.path(), format!("# users\n\n{}{}", line("me", 4), line("you", 5))).unwrap();
        let table = UserTable::read(file.path()).unwrap();
        let decoys: Vec<&String> = (0..100).filter_map(|n| table.decoy(&format!("user{n}"))).collect();
        for cost in ["$04$", "$05$"] {
            assert!(decoys.iter().any(|hash| hash.contains(cost)), "{cost}");
        }
        assert!(decoys.iter().all(|hash| table.0.values().any(|own| own == *hash)));
        assert_eq!(table.decoy("user1"), table.decoy("user1"));
        assert!(UserTable::default().decoy("x").is_none());
    }
}
