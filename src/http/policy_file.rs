//! The file of signature policies, with the keys that it names: read again when it changes, as the other files.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::sync::watch;

use super::reloaded::{Reload, Reloaded};
use crate::signatures::{self, MAX_POLICY_BYTES, Policies, PolicySource};

/// Why a file gives no policies.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("cannot read the signature policies in {path}: {why}")]
    Read {
        /// The file.
        path: String,
        /// What the operating system says, or that it is too large.
        why: String,
    },
    /// Its text is not what policies are made of, or a key cannot be used.
    #[error("invalid signature policies in {path}, {why}")]
    Invalid {
        /// The file.
        path: String,
        /// What is wrong there.
        why: signatures::Error,
    },
}

/// Policies of a file. Clones share what was read.
#[derive(Clone)]
pub struct PolicyFile(Reloaded<Policies>);

impl PolicyFile {
    /// Reads a file. Names of key files are relative to its directory.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Reloaded::read("the signature policies", path, load).map(Self)
    }

    /// Returns the policies as they are now.
    pub fn current(&self) -> Arc<Policies> {
        self.0.get()
    }

    /// Returns where the policies are.
    pub fn source(&self) -> PolicySource {
        let file = self.clone();
        PolicySource::new(move || file.current())
    }

    /// Wakes when the policies are others.
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

fn load(path: &Path) -> Result<Policies, Error> {
    let name = || path.display().to_string();
    let text = read(path).and_then(|bytes| String::from_utf8(bytes).map_err(|why| why.to_string()));
    let text = text.map_err(|why| Error::Read { path: name(), why })?;
    let beside = path.parent().map(PathBuf::from).unwrap_or_default();
    let key = |file: &str| {
        let path = beside.join(file);
        read(&path).map_err(|why| format!("cannot read {}: {why}", path.display()))
    };
    Policies::parse(&text, key).map_err(|why| Error::Invalid { path: name(), why })
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let bytes = std::fs::metadata(path).map_err(|why| why.to_string())?.len();
    if bytes > MAX_POLICY_BYTES {
        return Err(format!("{bytes} bytes exceed the limit of {MAX_POLICY_BYTES}"));
    }
    std::fs::read(path).map_err(|why| why.to_string())
}
