//! Whether what a repository has is signed as the policies say: by the rows of pushed repositories, and by the bytes of their
//! signatures. What was found of a signature is remembered, so that a look takes some rows.
//!
//! These pass: what is signed; what a signed index or manifest references; and signatures with what they are made of.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use ocipfs_oci::{Digest, Name};

use super::repository::{Repositories, RepositoryBlob};
use crate::{
    content::{self, SignatureCheck, Store, StoreError},
    signatures::{
        Checked, Policies, PolicySource, SignatureManifest, Signer, Verdict, is_signature_type, tags_of,
    },
};

/// Signatures of one manifest by known keys that are enough.
pub const MAX_SIGNATURES: usize = 100;
/// Candidates that one search reads and checks. What was found of others before is known, so another search comes further.
pub const MAX_CHECKS: usize = 500;
/// Referrers of one manifest among which signatures are searched.
const MAX_REFERRERS: usize = 10_000;
/// Rows that are read at once.
const PAGE_SIZE: usize = 500;
/// Manifests that are looked at on the way from a blob to what is signed.
const MAX_VISITED: usize = 10_000;
/// The largest manifest of a signature.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// One signature is read and checked at a time: it takes memory, and the others that wait are often for the same one.
static TURN: Mutex<()> = Mutex::new(());

/// The check of pushed repositories. Every call blocks.
#[derive(Clone)]
pub struct SignedRepositories {
    repositories: Repositories,
    policies: PolicySource,
}

impl SignatureCheck for SignedRepositories {
    fn covers(&self, repository: &str) -> bool {
        self.policies.of(repository).is_some()
    }

    fn covers_anything(&self) -> bool {
        self.policies.current().is_some()
    }

    fn passes(&self, store: &Store, repository: &str, digest: &Digest) -> Result<bool, StoreError> {
        let Some(policies) = self.policies.of(repository) else { return Ok(true) };
        // Only names that were parsed have rows.
        let Ok(name) = repository.parse::<Name>() else { return Ok(false) };
        Ok(self.verdict(store, &policies, &name, (digest, false))?.is_passed())
    }
}

impl SignedRepositories {
    /// Checks these repositories by these policies.
    pub fn new(repositories: Repositories, policies: PolicySource) -> Self {
        Self { repositories, policies }
    }

    /// Decides about a manifest or a blob of a repository; `as_manifest` about what is asked for as a manifest, be it here or not.
    pub fn verdict(
        &self,
        store: &Store,
        policies: &Policies,
        name: &Name,
        (digest, as_manifest): (&Digest, bool),
    ) -> Result<Verdict, StoreError> {
        let now = content::now();
        let is_manifest = as_manifest || self.repositories.manifest(name, digest)?.is_some();
        if is_manifest && self.checked(store, policies, name, digest)?.is_some() {
            return Ok(Verdict::Passed);
        }
        let (mut waiting, mut seen, mut withheld) = (VecDeque::from([digest.clone()]), HashSet::new(), None);
        while let Some(next) = waiting.pop_front() {
            if seen.len() >= MAX_VISITED {
                break;
            }
            if !seen.insert(next.clone()) {
                continue;
            }
            let verdict = policies.judge(name.as_str(), &self.signers(store, policies, name, &next)?, now);
            if verdict.is_passed() {
                return Ok(verdict);
            }
            withheld.get_or_insert(verdict);
            for above in self.repositories.referencing(name, &next, MAX_VISITED)? {
                // What a signature is made of. A manifest is not, even if a signature names it.
                let is_part = next == *digest && !is_manifest;
                if is_part && self.checked(store, policies, name, &above)?.is_some() {
                    return Ok(Verdict::Passed);
                }
                waiting.push_back(above);
            }
        }
        Ok(withheld.unwrap_or(Verdict::Passed))
    }

    /// Returns who signed a manifest.
    pub fn signers(
        &self,
        store: &Store,
        policies: &Policies,
        name: &Name,
        digest: &Digest,
    ) -> Result<Vec<Signer>, StoreError> {
        let (mut signers, mut signed, mut checks) = (Vec::new(), 0, 0);
        for candidate in self.candidates(name, digest)? {
            if policies.found(&candidate).is_none() {
                if checks >= MAX_CHECKS {
                    continue;
                }
                checks += 1;
            }
            let checked = self.checked(store, policies, name, &candidate)?;
            if let Some(checked) = checked.filter(|checked| checked.subject == *digest) {
                signers.extend(&checked.signers);
                signed += usize::from(!checked.signers.is_empty());
            }
            if signed >= MAX_SIGNATURES {
                break;
            }
        }
        Ok(signers)
    }

    /// The manifests that may be signatures of a digest: by their subject, or by their tag.
    fn candidates(&self, name: &Name, digest: &Digest) -> Result<Vec<Digest>, StoreError> {
        let mut found = Vec::new();
        for tag in tags_of(digest) {
            found.extend(self.repositories.tag(name, &tag)?);
        }
        let (mut last, mut read) = (String::new(), 0);
        while read < MAX_REFERRERS {
            let page = self.repositories.referrers(name, digest, &last, PAGE_SIZE)?;
            let Some(end) = page.last() else { break };
            (last, read) = (end.digest.to_string(), read + page.len());
            let is_signature = |kind: &ocipfs_oci::MediaType| is_signature_type(kind.as_str());
            let signatures =
                page.into_iter().filter(|one| one.artifact_type.as_ref().is_some_and(is_signature));
            found.extend(signatures.map(|one| one.digest));
        }
        Ok(found)
    }

    /// Returns what a manifest signs, if it is a signature all of which is here.
    fn checked(
        &self,
        store: &Store,
        policies: &Policies,
        name: &Name,
        digest: &Digest,
    ) -> Result<Option<Arc<Checked>>, StoreError> {
        if let Some(found) = policies.found(digest) {
            return Ok(found);
        }
        let Some(manifest) = self.repositories.manifest(name, digest)? else { return Ok(None) };
        // What cannot be read may be repaired.
        let Some(json) = bytes(store, &manifest.blob, MAX_MANIFEST_BYTES)? else { return Ok(None) };
        let Some(parsed) = SignatureManifest::parse(&json) else {
            return Ok(policies.remember(digest, None));
        };
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = policies.found(digest) {
            return Ok(found);
        }
        let read = |digest: &Digest, size: u64| match self.repositories.blob(name, digest)? {
            Some(blob) => bytes(store, &blob, size),
            None => Ok(None),
        };
        // What is not all here is looked at again.
        let Some(config) = read(&parsed.config.0, parsed.config.1)? else { return Ok(None) };
        let mut layers = Vec::new();
        for part in &parsed.parts {
            let Some(layer) = read(&part.digest, part.size)? else { return Ok(None) };
            layers.push(layer);
        }
        Ok(policies.remember(digest, parsed.check(policies.keys(), &config, &layers, content::now())))
    }
}

/// Reads a stored blob of at most so many bytes; none where it is longer or not here, or not what its digest says.
fn bytes(store: &Store, blob: &RepositoryBlob, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
    if blob.size > limit {
        return Ok(None);
    }
    let Some(stored) = store.file(&blob.root)? else { return Ok(None) };
    let file = match store.open_file(&stored) {
        Err(StoreError::Gone(_)) => return Ok(None),
        opened => opened?,
    };
    let Ok(bytes) = file.read_at(0, stored.size as usize) else { return Ok(None) };
    let is_right = ocipfs_oci::Hasher::of(blob.digest.algorithm(), &bytes) == blob.digest;
    Ok(is_right.then(|| bytes.to_vec()))
}

#[cfg(test)]
mod tests;
