use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use ocipfs_oci::{Digest, Name};

use crate::signatures::Policies;

/// How long it counts that a signed manifest references something: its signature may be deleted.
const TTL: Duration = Duration::from_secs(10 * 60);
/// Between two looks at all tags of a name.
const WALK_INTERVAL: Duration = Duration::from_secs(30);
/// Digests that are remembered, and names.
const CACHE_ENTRIES: usize = 100_000;

/// What signed manifests reference, of names whose content no rows describe. Clones share it.
#[derive(Clone, Default)]
pub struct Admitted(Arc<Mutex<Entries>>);

#[derive(Default)]
struct Entries {
    /// The file and the keys by which they were signed.
    policies: Option<Digest>,
    digests: HashMap<(Name, Digest), Instant>,
    walked: HashMap<Name, Instant>,
}

impl Admitted {
    /// Remembers what a signed manifest of a name references.
    pub fn insert(&self, policies: &Policies, name: &Name, digests: Vec<Digest>) {
        let mut entries = self.entries(policies);
        if entries.digests.len() + digests.len() > CACHE_ENTRIES {
            entries.digests.clear();
        }
        let now = Instant::now();
        entries.digests.extend(digests.into_iter().map(|digest| ((name.clone(), digest), now)));
    }

    /// Whether a signed manifest of a name references this.
    pub fn has(&self, policies: &Policies, name: &Name, digest: &Digest) -> bool {
        let entries = self.entries(policies);
        entries.digests.get(&(name.clone(), digest.clone())).is_some_and(|when| when.elapsed() < TTL)
    }

    /// Whether it is time to look at all tags of a name, which counts as done by this.
    pub fn may_walk(&self, policies: &Policies, name: &Name) -> bool {
        let mut entries = self.entries(policies);
        if entries.walked.get(name).is_some_and(|when| when.elapsed() < WALK_INTERVAL) {
            return false;
        }
        if entries.walked.len() >= CACHE_ENTRIES {
            entries.walked.clear();
        }
        entries.walked.insert(name.clone(), Instant::now());
        true
    }

    /// The entries, empty where the policies are others than before.
    fn entries(&self, policies: &Policies) -> MutexGuard<'_, Entries> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.policies.as_ref() != Some(policies.source()) {
            *entries = Entries { policies: Some(policies.source().clone()), ..Entries::default() };
        }
        entries
    }
}
