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

/// As what a digest was referenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub enum Admission {
    /// By a signature, which anyone may make: it is served as a blob, and is not a manifest by that.
    Part,
    /// By what is signed.
    Content,
}

/// What signed manifests reference, of names whose content no rows describe. Clones share it.
#[derive(Clone, Default)]
pub struct Admitted(Arc<Mutex<Entries>>);

#[derive(Default)]
struct Entries {
    /// The file and the keys by which they were signed.
    policies: Option<Digest>,
    digests: HashMap<(Name, Digest), (Instant, Admission)>,
    walked: HashMap<Name, Instant>,
}

impl Admitted {
    /// Remembers what a signed manifest of a name references, or a signature.
    pub fn insert(&self, policies: &Policies, name: &Name, digests: Vec<Digest>, admission: Admission) {
        let mut entries = self.entries(policies);
        if entries.digests.len() + digests.len() > CACHE_ENTRIES {
            entries.digests.clear();
        }
        let now = Instant::now();
        for digest in digests {
            let known = entries.digests.entry((name.clone(), digest)).or_insert((now, admission));
            let is_over = known.0.elapsed() >= TTL;
            if is_over || admission >= known.1 {
                *known = (now, admission);
            }
        }
    }

    /// Whether a signed manifest of a name references this; as a blob also whether a signature does.
    pub fn has(&self, policies: &Policies, name: &Name, digest: &Digest, as_manifest: bool) -> bool {
        let entries = self.entries(policies);
        let known = entries.digests.get(&(name.clone(), digest.clone()));
        known.is_some_and(|(when, admission)| {
            when.elapsed() < TTL && (!as_manifest || *admission == Admission::Content)
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_signature_is_made_of_is_admitted_as_a_blob_and_not_as_a_manifest() {
        let policies = |text| Policies::parse(text, |_| Err("no file".into())).unwrap();
        let (one, other) = (policies(""), policies("# another file"));
        let (admitted, name): (_, Name) = (Admitted::default(), "app".parse().unwrap());
        let digest = Digest::sha256_of(b"1");
        let has =
            |policies| [false, true].map(|as_manifest| admitted.has(policies, &name, &digest, as_manifest));
        let insert = |admission| admitted.insert(&one, &name, vec![digest.clone()], admission);
        assert_eq!(has(&one), [false; 2]);
        insert(Admission::Part);
        assert_eq!(has(&one), [true, false]);
        insert(Admission::Content);
        insert(Admission::Part);
        assert_eq!(has(&one), [true; 2]);
        assert!(admitted.may_walk(&one, &name) && !admitted.may_walk(&one, &name));
        // Other policies know of nothing.
        assert_eq!(has(&other), [false; 2]);
        assert_eq!(has(&one), [false; 2]);
        assert!(admitted.may_walk(&one, &name));
    }
}
