//! Whether what is found under a name is signed as the policies say, wherever its content and its signatures are: pushed here, at
//! a followed name, or below a CID.
//!
//! ```text
//! verdict ─► images::signed        pushed repositories: rows say what references what
//!         └─► Evidence             other names: signatures are read from where the manifest is
//!               └─► Admitted       what signed manifests there reference
//! ```

mod admitted;
mod evidence;

use std::{collections::VecDeque, sync::Arc};

use ocipfs_oci::{Digest, Index, Manifest, Name, Reference};

use super::{Document, Error, NameKind, Resolver, resolve::layout};
use crate::{
    content::{self, CidPath},
    images::signed::SignedRepositories,
    signatures::{Policies, Signer, Verdict, Withheld, signed_by_tag},
};
use admitted::Admission;
pub use admitted::Admitted;
use evidence::{Evidence, Found};

/// Tags whose images are looked at for one that references a blob.
const MAX_TAGS: usize = 500;
/// Manifests that one such look reads.
const MAX_DOCUMENTS: usize = 1000;

/// What is asked for under a name.
#[derive(Clone, Copy)]
pub enum Asked<'a> {
    /// A manifest, which was read.
    Manifest(&'a Document),
    /// A blob.
    Blob(&'a Digest),
}

impl Asked<'_> {
    fn digest(&self) -> &Digest {
        match self {
            Self::Manifest(document) => &document.digest,
            Self::Blob(digest) => digest,
        }
    }

    fn is_manifest(&self) -> bool {
        matches!(self, Self::Manifest(_))
    }
}

impl NameKind {
    /// Decides whether content of this name is served to all who may pull it.
    pub async fn verdict(&self, resolver: &Resolver, asked: Asked<'_>) -> Result<Verdict, Error> {
        let name = self.name();
        let Some(policies) = resolver.policies.of(name.as_str()) else { return Ok(Verdict::Passed) };
        let mut withheld = None;
        if let Self::Hosted { name } = self {
            let (of, by, digest) = (name.clone(), policies.clone(), asked.digest().clone());
            let as_manifest = asked.is_manifest();
            let decide = move |all: &SignedRepositories, store: &content::Store| {
                all.verdict(store, &by, &of, (&digest, as_manifest))
            };
            match resolver.on_signed(decide).await? {
                Verdict::Passed => return Ok(Verdict::Passed),
                verdict => withheld = Some(verdict),
            }
            // Nothing else has content of this name.
            let of = name.clone();
            let is_here = resolver.on_repositories(move |all| all.has_any(&of)).await?;
            if is_here && resolver.followed.names().is_empty() {
                return Ok(withheld.unwrap_or(Verdict::Passed));
            }
        }
        let evidence = Evidence::Name { kind: self, resolver };
        let found = match asked {
            Asked::Manifest(document) => self.own_verdict(resolver, &policies, &evidence, document).await?,
            Asked::Blob(_) => policies.judge(name.as_str(), &[], content::now()),
        };
        if found.is_passed() {
            return Ok(found);
        }
        let is_admitted = || resolver.admitted.has(&policies, name, asked.digest(), asked.is_manifest());
        if !is_admitted() && resolver.admitted.may_walk(&policies, name) {
            self.walk(resolver, &policies, &evidence).await;
        }
        if !is_admitted() {
            return Ok(withheld.unwrap_or(found));
        }
        if let Asked::Manifest(document) = asked {
            resolver.admitted.insert(&policies, name, references(document), Admission::Content);
        }
        Ok(Verdict::Passed)
    }

    /// Decides about a manifest by its own signatures, and takes note of what it references.
    async fn own_verdict(
        &self,
        resolver: &Resolver,
        policies: &Arc<Policies>,
        evidence: &Evidence<'_>,
        document: &Document,
    ) -> Result<Verdict, Error> {
        let admission = match evidence.found(policies, document).await? {
            Found::Signature => Admission::Part,
            Found::Judged(Verdict::Passed) => Admission::Content,
            Found::Judged(withheld) => return Ok(withheld),
        };
        resolver.admitted.insert(policies, self.name(), references(document), admission);
        Ok(Verdict::Passed)
    }

    /// Looks at what the tags of a name point at, and takes note of all that is signed of it: a client may ask for a blob
    /// whose manifest it got before this process began.
    async fn walk(&self, resolver: &Resolver, policies: &Arc<Policies>, evidence: &Evidence<'_>) {
        let Ok(tags) = self.tags_after(resolver, "", MAX_TAGS).await else { return };
        let mut read = 0;
        for tag in tags {
            let Ok(top) = self.manifest(resolver, &Reference::Tag(tag)).await else { continue };
            let verdict = self.own_verdict(resolver, policies, evidence, &top).await;
            let is_passed = verdict.is_ok_and(|verdict| verdict.is_passed());
            // An index has no form of a signature, so it passed by one.
            let is_index = |document: &Document| document.media_type.is_index();
            let mut waiting = VecDeque::from_iter((is_passed && is_index(&top)).then_some(top));
            while let Some(index) = waiting.pop_front() {
                for child in references(&index) {
                    read += 1;
                    if read > MAX_DOCUMENTS {
                        return;
                    }
                    let child = self.manifest(resolver, &Reference::Digest(child)).await;
                    let Ok(child) = child else { continue };
                    resolver.admitted.insert(policies, self.name(), references(&child), Admission::Content);
                    waiting.extend(is_index(&child).then_some(child));
                }
            }
        }
    }
}

/// What a manifest or an index references, but its subject.
fn references(document: &Document) -> Vec<Digest> {
    match document.media_type.is_index() {
        true => {
            let index = Index::parse(&document.bytes).map(|index| index.manifests).unwrap_or_default();
            index.into_iter().map(|manifest| manifest.digest).collect()
        }
        false => match Manifest::parse(&document.bytes) {
            Ok(manifest) => manifest.blobs().map(|blob| blob.digest.clone()).collect(),
            Err(_) => Vec::new(),
        },
    }
}

impl Resolver {
    /// Returns why a version of a followed repository is not to be served as complete: the first of its tags that is not signed as
    /// the policies say.
    pub(in crate::names) async fn unsigned_tag(
        &self,
        name: &Name,
        directory: &CidPath,
    ) -> Result<Option<(String, Withheld)>, Error> {
        let Some(policies) = self.policies.of(name.as_str()) else { return Ok(None) };
        let image = layout::open_here(self, name, directory).await?;
        let tags = image.tags().await?;
        let evidence = Evidence::Layout { image: &image, resolver: self, name };
        for tag in tags.into_iter().filter(|tag| signed_by_tag(tag).is_none()) {
            let document = image.manifest(&Reference::Tag(tag.clone())).await?;
            if let Found::Judged(Verdict::Withheld(why)) = evidence.found(&policies, &document).await? {
                return Ok(Some((tag.to_string(), why)));
            }
        }
        Ok(None)
    }

    /// Reads signatures of pushed repositories, on a thread that may block.
    async fn on_signed<T: Send + 'static>(
        &self,
        work: impl FnOnce(&SignedRepositories, &content::Store) -> Result<T, content::StoreError> + Send + 'static,
    ) -> Result<T, content::Error> {
        let signed = SignedRepositories::new(self.repositories.clone(), self.policies.clone());
        Ok(self.content.store().run(move |store| work(&signed, store)).await?)
    }

    /// Who signed a manifest of a pushed repository.
    async fn local_signers(
        &self,
        policies: &Arc<Policies>,
        name: &Name,
        digest: &Digest,
    ) -> Result<Vec<Signer>, content::Error> {
        let (of, by, digest) = (name.clone(), policies.clone(), digest.clone());
        self.on_signed(move |all, store| all.signers(store, &by, &of, &digest)).await
    }
}
