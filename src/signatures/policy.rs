//! Policies in use: which repositories need which keys, and what was found of signatures already.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ocipfs_oci::Digest;

use super::{Checked, PublicKey, TrustStore, Verdict, Withheld};
use crate::access::Pattern;

/// Manifests that are remembered as signatures, or as none.
const CACHE_ENTRIES: usize = 20_000;

/// What makes a signature valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// A public key of cosign.
    Cosign(PublicKey),
    /// Certificates of notation.
    Notation(TrustStore),
}

/// How many of its keys a policy needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Require {
    /// Each of them.
    #[default]
    All,
    /// One of them.
    Any,
}

/// Keys that must have signed what some repositories have.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The repositories.
    pub repositories: Vec<Pattern>,
    /// Whether all of the keys are needed.
    pub require: Require,
    /// Numbers of keys.
    pub(super) keys: Vec<usize>,
}

impl Policy {
    fn covers(&self, repository: &str) -> bool {
        self.repositories.iter().any(|pattern| pattern.matches(repository))
    }
}

/// A key that signed, and until when that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signer {
    pub(super) key: usize,
    /// Seconds since 1970.
    pub(super) until: u64,
}

/// All policies of a node, with what was found by them: another file makes other policies, which know of nothing yet.
pub struct Policies {
    /// A digest of the file and of all keys that it names.
    source: Digest,
    pub(super) names: Vec<String>,
    pub(super) keys: Vec<Key>,
    policies: Vec<Policy>,
    found: Mutex<HashMap<Digest, Option<Arc<Checked>>>>,
}

impl PartialEq for Policies {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Policies {
    pub(super) fn new(source: Digest, keys: Vec<(String, Key)>, policies: Vec<Policy>) -> Self {
        let (names, keys) = keys.into_iter().unzip();
        Self { source, names, keys, policies, found: Mutex::default() }
    }

    /// Whether content of a repository has to be signed.
    pub fn covers(&self, repository: &str) -> bool {
        self.policies.iter().any(|policy| policy.covers(repository))
    }

    /// Whether content of any repository has to be signed.
    pub fn cover_anything(&self) -> bool {
        !self.policies.is_empty()
    }

    /// The patterns of repositories whose content has to be signed.
    pub fn patterns(&self) -> impl Iterator<Item = &Pattern> {
        self.policies.iter().flat_map(|policy| &policy.repositories)
    }

    /// Returns the keys by which `signed` says that something is signed, and until when.
    pub(super) fn signers(&self, signed: impl Fn(&Key) -> Option<u64>) -> Vec<Signer> {
        let all = self.keys.iter().enumerate();
        all.filter_map(|(key, of)| signed(of).map(|until| Signer { key, until })).collect()
    }

    /// Decides by what signed a manifest of a repository.
    pub fn judge(&self, repository: &str, signers: &[Signer], now: u64) -> Verdict {
        for (number, policy) in self.policies.iter().enumerate() {
            if !policy.covers(repository) {
                continue;
            }
            let signed = |key: &usize| signers.iter().any(|one| one.key == *key && one.until > now);
            let missing: Vec<usize> = policy.keys.iter().copied().filter(|key| !signed(key)).collect();
            let passes = match policy.require {
                Require::All => missing.is_empty(),
                Require::Any => missing.len() < policy.keys.len(),
            };
            if !passes {
                return Verdict::Withheld(Withheld {
                    repository: repository.into(),
                    policy: number + 1,
                    keys: missing.into_iter().map(|key| self.names[key].clone()).collect(),
                    require: policy.require,
                    // A signature whose time is over is worth a word: the image was fine yesterday.
                    expired: policy.keys.iter().any(|key| signers.iter().any(|one| one.key == *key && one.until <= now)),
                });
            }
        }
        Verdict::Passed
    }

    /// Returns what was found of a manifest, if that was looked at: a signature, or none.
    pub fn found(&self, manifest: &Digest) -> Option<Option<Arc<Checked>>> {
        self.locked().get(manifest).cloned()
    }

    /// Remembers what was found of a manifest. Its bytes never change, and neither do these policies.
    pub fn remember(&self, manifest: &Digest, checked: Option<Checked>) -> Option<Arc<Checked>> {
        let checked = checked.map(Arc::new);
        let mut found = self.locked();
        if found.len() >= CACHE_ENTRIES {
            found.clear();
        }
        found.insert(manifest.clone(), checked.clone());
        checked
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<Digest, Option<Arc<Checked>>>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
