//! The file of access rules: read again when it changes, as the file of users.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use tokio::sync::watch;

use super::htpasswd::{Stamp, Users};
use crate::access::{self, Rules};

/// A file of rules has some kilobytes.
const MAX_BYTES: u64 = 4 << 20;

/// Why a file gives no rules.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("cannot read the access rules in {path}: {why}")]
    Read {
        /// The file.
        path: String,
        /// Error of the operating system.
        why: std::io::Error,
    },
    /// It is larger than any file of rules.
    #[error("cannot read the access rules in {path}: {bytes} bytes exceed the limit of {MAX_BYTES}")]
    Large {
        /// The file.
        path: String,
        /// Its length.
        bytes: u64,
    },
    /// Its text is not what rules are made of.
    #[error("invalid access rules in {path}, {why}")]
    Invalid {
        /// The file.
        path: String,
        /// The line, and what is wrong there.
        why: access::Error,
    },
}

/// Rules of a file. Clones share what was read.
#[derive(Clone)]
pub struct AccessRules(Arc<Inner>);

struct Inner {
    path: PathBuf,
    users: Option<Users>,
    rules: RwLock<Arc<Rules>>,
    read: Mutex<Read>,
    changed: watch::Sender<()>,
}

/// The file as it was last read.
struct Read {
    stamp: Option<Stamp>,
    text: String,
    /// Why its newest content is not used.
    failing: Option<String>,
}

impl AccessRules {
    /// Reads a file; `users` are those whose names rules are expected to have.
    pub fn read(path: &Path, users: Option<Users>) -> Result<Self, Error> {
        let (rules, text, stamp) = load(path)?;
        let all = Self(Arc::new(Inner {
            path: path.into(),
            users,
            rules: RwLock::new(Arc::new(rules)),
            read: Mutex::new(Read { stamp, text, failing: None }),
            changed: watch::Sender::default(),
        }));
        all.warn_of_unknown_users();
        Ok(all)
    }

    /// Returns the rules as they are now.
    pub fn current(&self) -> Arc<Rules> {
        self.0.rules.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Wakes when the rules are others.
    pub fn changed(&self) -> watch::Receiver<()> {
        self.0.changed.subscribe()
    }

    /// Reads the file again if it was changed.
    pub async fn refresh(&self) {
        let rules = self.clone();
        let _ = tokio::task::spawn_blocking(move || rules.read_changed()).await;
    }

    /// Reads the file again at once.
    pub async fn reload(&self) {
        self.locked().stamp = None;
        self.refresh().await;
    }

    /// Keeps the rules it has where the file cannot be read: it may be half written.
    fn read_changed(&self) {
        let path = &self.0.path;
        let mut read = self.locked();
        if read.stamp.is_some() && read.stamp == Stamp::of(path) {
            return;
        }
        match load(path) {
            Ok((rules, text, stamp)) => {
                let is_same = read.text == text;
                *read = Read { stamp, text, failing: None };
                drop(read);
                if !is_same {
                    *self.0.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
                    tracing::info!(path = %path.display(), "reloaded the access rules");
                    self.warn_of_unknown_users();
                    self.0.changed.send_replace(());
                }
            }
            Err(error) => {
                let why = error.to_string();
                if read.failing.as_ref() != Some(&why) {
                    tracing::warn!("cannot reload the access rules, the previous ones stay: {why}");
                }
                (read.stamp, read.failing) = (None, Some(why));
            }
        }
    }

    /// A rule about a user that does not exist is mostly a typo. Users of other issuers are not known before they come.
    fn warn_of_unknown_users(&self) {
        let rules = self.current();
        let Some(users) = self.0.users.as_ref().filter(|_| rules.oidc.is_empty()) else { return };
        for user in rules.named_users().filter(|user| !users.has(user)) {
            let path = self.0.path.display();
            tracing::warn!(user, "the access rules in {path} name a user that --htpasswd does not have");
        }
    }

    fn locked(&self) -> MutexGuard<'_, Read> {
        self.0.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn load(path: &Path) -> Result<(Rules, String, Option<Stamp>), Error> {
    let name = path.display().to_string();
    let failed = |why| Error::Read { path: name.clone(), why };
    let stamp = Stamp::settled(path);
    let bytes = std::fs::metadata(path).map_err(failed)?.len();
    if bytes > MAX_BYTES {
        return Err(Error::Large { path: name, bytes });
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let rules = text.parse().map_err(|why| Error::Invalid { path: name, why })?;
    Ok((rules, text, stamp))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Action, User};

    fn rule(user: &str) -> String {
        format!("[[rule]]\nusers = ['{user}']\nrepositories = ['a']\nactions = ['pull']\n")
    }

    #[tokio::test]
    async fn access_rules_are_reloaded_and_a_broken_file_keeps_the_previous_ones() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), rule("me")).unwrap();
        let rules = AccessRules::read(file.path(), None).unwrap();
        let mut changed = rules.changed();
        let may = |user: &str| rules.current().allows(&User::named(user), Action::Pull, "a");
        assert!(may("me") && !may("you"));
        std::fs::write(file.path(), rule("you")).unwrap();
        rules.refresh().await;
        assert!(!may("me") && may("you") && changed.has_changed().unwrap());
        changed.mark_unchanged();
        std::fs::write(file.path(), "[[rule]]\nusr = []\n").unwrap();
        rules.reload().await;
        assert!(may("you") && !changed.has_changed().unwrap());
    }
}
