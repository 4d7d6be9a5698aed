//! Policies in use: which repositories need which keys, and what was found of signatures already.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use ocipfs_oci::Digest;

use super::{
    signer::{Checked, Key, Signer},
    spelling::canonical,
    verdict::{Require, Verdict, Withheld},
};
use crate::access::Pattern;

/// Manifests that are remembered as signatures, or as none.
const CACHE_ENTRIES: usize = 20_000;
/// Signatures with certificates are looked at again after this time: a certificate may not have been valid yet.
const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(60);

/// Keys that must have signed what some repositories have.
#[derive(Clone, Debug)]
pub struct SignaturePolicy {
    /// The repositories.
    pub repositories: Vec<Pattern>,
    /// Whether all of the keys are needed.
    pub require: Require,
    /// Numbers of keys.
    keys: Vec<usize>,
}

impl SignaturePolicy {
    pub(super) fn new(repositories: Vec<Pattern>, require: Require, keys: Vec<usize>) -> Self {
        Self { repositories, require, keys }
    }

    /// Whether it is about a repository, by its name as it is asked for or in the one spelling of its CID or key.
    fn covers(&self, repository: &str, spelled: &str) -> bool {
        self.repositories.iter().any(|pattern| pattern.matches(repository) || pattern.matches(spelled))
    }
}

/// All policies of a node, with what was found by them: another file makes other policies, which know of nothing yet.
pub struct Policies {
    /// A digest of the file and of all keys that it names.
    source: Digest,
    names: Vec<String>,
    keys: Vec<Key>,
    policies: Vec<SignaturePolicy>,
    found: Mutex<HashMap<Digest, Found>>,
}

/// What was found of a manifest, and when.
type Found = (Option<Arc<Checked>>, Instant);

impl PartialEq for Policies {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Policies {
    pub(super) fn new(source: Digest, keys: Vec<(String, Key)>, policies: Vec<SignaturePolicy>) -> Self {
        let (names, keys) = keys.into_iter().unzip();
        Self { source, names, keys, policies, found: Mutex::default() }
    }

    /// A digest of the file and of all keys that it names.
    pub fn source(&self) -> &Digest {
        &self.source
    }

    /// Whether content of a repository has to be signed.
    pub fn covers(&self, repository: &str) -> bool {
        let spelled = canonical(repository);
        self.policies.iter().any(|policy| policy.covers(repository, &spelled))
    }

    /// Whether content of any repository has to be signed.
    pub fn cover_anything(&self) -> bool {
        !self.policies.is_empty()
    }

    /// The patterns of repositories whose content has to be signed.
    pub fn patterns(&self) -> impl Iterator<Item = &Pattern> {
        self.policies.iter().flat_map(|policy| &policy.repositories)
    }

    /// Returns all keys.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Decides by what signed a manifest of a repository.
    pub fn judge(&self, repository: &str, signers: &[Signer], now: u64) -> Verdict {
        let spelled = canonical(repository);
        for (number, policy) in self.policies.iter().enumerate() {
            if !policy.covers(repository, &spelled) {
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
                    expired: policy
                        .keys
                        .iter()
                        .any(|key| signers.iter().any(|one| one.key == *key && one.until <= now)),
                });
            }
        }
        Verdict::Passed
    }

    /// Returns what was found of a manifest, if that was looked at: a signature, or none.
    pub fn found(&self, manifest: &Digest) -> Option<Option<Arc<Checked>>> {
        let (checked, when) = self.locked().get(manifest).cloned()?;
        let is_due = checked.as_ref().is_some_and(|checked| checked.has_certificates);
        (!is_due || when.elapsed() < CERTIFICATE_INTERVAL).then_some(checked)
    }

    /// Remembers what was found of a manifest. Its bytes never change, and neither do these policies.
    pub fn remember(&self, manifest: &Digest, checked: Option<Checked>) -> Option<Arc<Checked>> {
        let checked = checked.map(Arc::new);
        let mut found = self.locked();
        if found.len() >= CACHE_ENTRIES {
            found.clear();
        }
        found.insert(manifest.clone(), (checked.clone(), Instant::now()));
        checked
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<Digest, Found>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
