//! Users in a file of `htpasswd -B`: a name, a colon and the bcrypt hash of a password in each line.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use ocipfs_oci::Digest;
use tokio::sync::Semaphore;

/// Logins that need no second look.
const REMEMBERED: usize = 1_000;
/// bcrypt is slow by intent: so many are computed at once.
const AT_ONCE: usize = 2;

/// Why a file gives no users.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("cannot read the users in {path}: {why}")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        why: std::io::Error,
    },
    /// A line of another form.
    #[error("{path}, line {line}: a user is written as <name>:<bcrypt hash>")]
    Line {
        /// The file.
        path: String,
        /// Which line.
        line: usize,
    },
    /// There is nobody.
    #[error("{0} has no users")]
    Empty(String),
}

/// Users, by their names. Clones share what is remembered.
#[derive(Clone)]
pub struct Users(Arc<Inner>);

struct Inner {
    hashes: HashMap<String, String>,
    /// For who is no user: it takes as long to refuse them.
    decoy: String,
    known: Mutex<HashSet<Digest>>,
    computing: Semaphore,
}

impl Users {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|why| Error::Read { path: name.clone(), why })?;
        let mut hashes = HashMap::new();
        for (n, line) in text.lines().map(str::trim).enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let user = line.split_once(':').filter(|(user, hash)| !user.is_empty() && is_bcrypt(hash));
            let (user, hash) = user.ok_or(Error::Line { path: name.clone(), line: n + 1 })?;
            hashes.insert(user.to_string(), hash.to_string());
        }
        let decoy = hashes.values().next().cloned().ok_or(Error::Empty(name))?;
        let (known, computing) = (Mutex::default(), Semaphore::new(AT_ONCE));
        Ok(Self(Arc::new(Inner { hashes, decoy, known, computing })))
    }

    /// Whether a user has this password.
    pub async fn know(&self, user: &str, password: &str) -> bool {
        // No user's name holds a colon.
        let login = Digest::sha256_of(format!("{user}:{password}").as_bytes());
        if self.known(|known| known.contains(&login)) {
            return true;
        }
        let Ok(_turn) = self.0.computing.acquire().await else { return false };
        let (hash, is_user) = match self.0.hashes.get(user) {
            Some(hash) => (hash.clone(), true),
            None => (self.0.decoy.clone(), false),
        };
        let password = password.to_string();
        let verify = move || bcrypt::verify(password, &hash).unwrap_or(false);
        let matches = tokio::task::spawn_blocking(verify).await.unwrap_or(false);
        let knows = is_user && matches;
        if knows {
            self.known(|known| {
                if known.len() >= REMEMBERED {
                    known.clear();
                }
                known.insert(login)
            });
        }
        knows
    }

    fn known<T>(&self, with: impl FnOnce(&mut HashSet<Digest>) -> T) -> T {
        with(&mut self.0.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn is_bcrypt(hash: &str) -> bool {
    ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| hash.starts_with(prefix)) && hash.len() == 60
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_user_is_known_by_the_password() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let hash = bcrypt::hash("secret", 4).unwrap();
        std::fs::write(file.path(), format!("# users\n\nme:{hash}\n")).unwrap();
        let users = Users::read(file.path()).unwrap();
        for _ in 0..2 {
            assert!(users.know("me", "secret").await);
            assert!(!users.know("me", "other").await && !users.know("you", "secret").await);
        }
    }

    #[test]
    fn other_files_are_refused_with_the_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (text, told) in [
            ("", "no users"),
            ("me:secret", "line 1"),
            ("# x\nme:$apr1$abc$def", "line 2"),
            ("$2y$05$abc", "line 1"),
        ] {
            std::fs::write(file.path(), text).unwrap();
            let error = Users::read(file.path()).err().unwrap().to_string();
            assert!(error.contains(told), "{text}: {error}");
        }
        assert!(matches!(Users::read(Path::new("/nowhere")), Err(Error::Read { .. })));
    }
}
