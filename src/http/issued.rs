//! Tokens of this node: made by `ocipfs token create`, in place of passwords. The file has their hashes, not the tokens.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use ocipfs_oci::Digest;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::access::{Action, Actions, Pattern};

/// What every token begins with, so that scanners for secrets know one.
pub const PREFIX: &str = "ocipfs_";
const FILE: &str = "tokens.json";
/// Tokens of one node.
const MAX_TOKENS: usize = 10_000;

/// A token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuedToken {
    /// Its name: unique, and the user of the log.
    pub name: String,
    /// The repositories that it is for.
    pub repositories: Vec<Pattern>,
    /// What may be done to them.
    pub actions: Actions,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// When it expires, in seconds since 1970; none of one that does not.
    pub expires: Option<u64>,
}

impl IssuedToken {
    /// Whether it allows an action.
    pub fn allows(&self, action: Action, repository: &str) -> bool {
        self.actions.has(action) && self.repositories.iter().any(|pattern| pattern.matches(repository))
    }

    /// Whether it is valid at a time, in seconds since 1970.
    pub fn is_valid(&self, now: u64) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

/// Why tokens cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read or written.
    #[error("cannot use the tokens in {}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Error of the operating system.
        why: io::Error,
    },
    /// The file is not what this version writes.
    #[error("invalid tokens in {}: {why}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where, and what is wrong.
        why: String,
    },
    /// There is one of this name.
    #[error("token {0:?} exists already")]
    Exists(String),
    /// There is none of this name.
    #[error("token {0:?} not found")]
    Unknown(String),
    /// A name that logs and scripts could not show.
    #[error("invalid token name {0:?}: expected 1 to 100 letters, digits, `-`, `_` and `.`")]
    Name(String),
    /// More than are ever used.
    #[error("too many tokens: the limit is {MAX_TOKENS}")]
    TooMany,
}

/// The tokens of a node directory. Clones share them.
#[derive(Clone)]
pub struct IssuedTokens(Arc<Inner>);

struct Inner {
    path: PathBuf,
    tokens: RwLock<BTreeMap<Digest, Arc<IssuedToken>>>,
}

/// A row of the file.
#[derive(Serialize, Deserialize)]
struct Row {
    hash: Digest,
    #[serde(flatten)]
    token: IssuedToken,
}

impl IssuedTokens {
    /// Opens the tokens in a node directory; without a file there are none.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(FILE);
        let rows: Vec<Row> = match fs::read(&path) {
            Ok(json) => serde_json::from_slice(&json)
                .map_err(|why| Error::Json { path: path.clone(), why: why.to_string() })?,
            Err(why) if why.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(why) => return Err(Error::File { path, why }),
        };
        let tokens = rows.into_iter().map(|row| (row.hash, Arc::new(row.token))).collect();
        Ok(Self(Arc::new(Inner { path, tokens: RwLock::new(tokens) })))
    }

    /// Whether there are any.
    pub fn is_empty(&self) -> bool {
        self.0.tokens.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Returns all tokens, by their names.
    pub fn list(&self) -> Vec<IssuedToken> {
        let tokens = self.0.tokens.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<IssuedToken> = tokens.values().map(|token| (**token).clone()).collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }

    /// Adds a token, and returns its secret: it is not told again.
    pub fn create(&self, token: IssuedToken) -> Result<String, Error> {
        if !is_name(&token.name) {
            return Err(Error::Name(token.name));
        }
        // 244 bits of the system's random numbers.
        let secret = format!("{PREFIX}{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        self.change(|tokens| {
            if tokens.values().any(|known| known.name == token.name) {
                return Err(Error::Exists(token.name));
            }
            if tokens.len() >= MAX_TOKENS {
                return Err(Error::TooMany);
            }
            tokens.insert(Digest::sha256_of(secret.as_bytes()), Arc::new(token));
            Ok(())
        })?;
        Ok(secret)
    }

    /// Removes a token: requests that show it are refused from now on.
    pub fn revoke(&self, name: &str) -> Result<(), Error> {
        self.change(|tokens| {
            let before = tokens.len();
            tokens.retain(|_, token| token.name != name);
            if tokens.len() == before { Err(Error::Unknown(name.into())) } else { Ok(()) }
        })
    }

    /// Returns the token of a secret, if it is valid at a time, in seconds since 1970. The hash is looked up, so how long it
    /// takes says nothing of the secret.
    pub fn find(&self, secret: &str, now: u64) -> Option<Arc<IssuedToken>> {
        let hash = Digest::sha256_of(secret.as_bytes());
        let tokens = self.0.tokens.read().unwrap_or_else(PoisonError::into_inner);
        tokens.get(&hash).filter(|token| token.is_valid(now)).cloned()
    }

    /// Whether a token is there still, as it was.
    pub fn still_has(&self, token: &IssuedToken, now: u64) -> bool {
        let tokens = self.0.tokens.read().unwrap_or_else(PoisonError::into_inner);
        token.is_valid(now) && tokens.values().any(|known| **known == *token)
    }

    /// Changes the tokens once the file has them: one that was told is there after a crash.
    fn change(
        &self,
        change: impl FnOnce(&mut BTreeMap<Digest, Arc<IssuedToken>>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut tokens = self.0.tokens.write().unwrap_or_else(PoisonError::into_inner);
        let mut changed = tokens.clone();
        change(&mut changed)?;
        let row = |(hash, token): (&Digest, &Arc<IssuedToken>)| Row {
            hash: hash.clone(),
            token: (**token).clone(),
        };
        let rows: Vec<Row> = changed.iter().map(row).collect();
        let path = &self.0.path;
        let json = serde_json::to_vec_pretty(&rows)
            .map_err(|why| Error::Json { path: path.clone(), why: why.to_string() })?;
        write(path, &json).map_err(|why| Error::File { path: path.clone(), why })?;
        *tokens = changed;
        Ok(())
    }
}

/// Replaces a file that only its owner can read.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("json.new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), |dir| fs::File::open(dir)?.sync_all())
}

fn is_name(name: &str) -> bool {
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=100).contains(&name.len()) && name.bytes().all(is_known)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn token(name: &str, expires: Option<u64>) -> IssuedToken {
        IssuedToken {
            name: name.into(),
            repositories: vec!["team/*".parse().unwrap()],
            actions: [Action::Pull, Action::Push].into_iter().collect(),
            created: 1,
            expires,
        }
    }

    #[test]
    fn issued_tokens_are_stored_hashed_expire_and_are_revoked() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = IssuedTokens::open(dir.path()).unwrap();
        let secret = tokens.create(token("ci", Some(100))).unwrap();
        let json = fs::read_to_string(dir.path().join(FILE)).unwrap();
        assert!(secret.starts_with(PREFIX) && !json.contains(&secret));
        assert_eq!(fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode() & 0o777, 0o600);
        let tokens = IssuedTokens::open(dir.path()).unwrap();
        let found = tokens.find(&secret, 99).unwrap();
        assert!(found.allows(Action::Push, "team/app") && !found.allows(Action::Delete, "team/app"));
        assert!(!found.allows(Action::Pull, "other"));
        assert!(tokens.find(&secret, 100).is_none() && tokens.find("ocipfs_x", 0).is_none());
        assert!(matches!(tokens.create(token("ci", None)), Err(Error::Exists(_))));
        assert!(matches!(tokens.create(token("a b", None)), Err(Error::Name(_))));
        assert!(tokens.still_has(&found, 99));
        tokens.revoke("ci").unwrap();
        assert!(tokens.find(&secret, 99).is_none() && !tokens.still_has(&found, 99));
        assert!(matches!(tokens.revoke("ci"), Err(Error::Unknown(_))));
        assert!(IssuedTokens::open(dir.path()).unwrap().is_empty());
    }
}
