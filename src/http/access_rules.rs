//! The file of access rules: read again when it changes, as the file of users.

use std::{path::Path, sync::Arc};

use tokio::sync::watch;

use super::{
    htpasswd::Users,
    reloaded::{Reload, Reloaded},
};
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
pub struct AccessRules(Reloaded<File>);

/// The file as it was last read.
struct File {
    rules: Arc<Rules>,
    text: String,
}

impl PartialEq for File {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl AccessRules {
    /// Reads a file; `users` are those whose names rules are expected to have.
    pub fn read(path: &Path, users: Option<Users>) -> Result<Self, Error> {
        let read = move |path: &Path| {
            let file = load(path)?;
            if let Some(users) = &users {
                warn_of_unknown_users(path, &file.rules, users);
            }
            Ok(file)
        };
        Reloaded::read("the access rules", path, read).map(Self)
    }

    /// Returns the rules as they are now.
    pub fn current(&self) -> Arc<Rules> {
        self.0.get().rules.clone()
    }

    /// Wakes when the rules are others.
    pub fn changed(&self) -> watch::Receiver<()> {
        self.0.changed()
    }

    /// Reads the file again if it was changed; looks at most once a second.
    pub async fn refresh(&self) {
        self.0.refresh().await;
    }

    /// Returns the file, to be read again on SIGHUP.
    pub(crate) fn file(&self) -> Box<dyn Reload> {
        Box::new(self.0.clone())
    }
}

fn load(path: &Path) -> Result<File, Error> {
    let name = path.display().to_string();
    let failed = |why| Error::Read { path: name.clone(), why };
    let bytes = std::fs::metadata(path).map_err(failed)?.len();
    if bytes > MAX_BYTES {
        return Err(Error::Large { path: name, bytes });
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let rules = text.parse().map_err(|why| Error::Invalid { path: name, why })?;
    Ok(File { rules: Arc::new(rules), text })
}

/// A rule about a user that does not exist is mostly a typo. Users of other issuers are not known before they come.
fn warn_of_unknown_users(path: &Path, rules: &Rules, users: &Users) {
    if !rules.oidc.is_empty() {
        return;
    }
    for user in rules.named_users().filter(|user| !users.has(user)) {
        let path = path.display();
        tracing::warn!(user, "the access rules in {path} name a user that --htpasswd does not have");
    }
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
        rules.0.reload().await;
        assert!(!may("me") && may("you") && changed.has_changed().unwrap());
        changed.mark_unchanged();
        std::fs::write(file.path(), "[[rule]]\nusr = []\n").unwrap();
        rules.0.reload().await;
        assert!(may("you") && !changed.has_changed().unwrap());
    }
}
