//! What of pushed and imported repositories the signature policies withhold: of manifests that are named, in the state of a node, and
//! as a warning about what is imported.

use ocipfs_oci::{Digest, Name, Tag};

use super::{Instance, Notes};
use crate::{
    content::{Store, StoreError},
    control::{Failure, Note, WithheldImage, WithheldImages, failure::content_failure},
    images::{import::Imported, repository::Repositories, signed::SignedRepositories},
    names::{Asked, Error, NameKind},
    signatures::{PolicySource, Withheld, signed_by_tag},
};

/// Names and tags that are read at a time.
const PAGE_SIZE: usize = 500;
/// Names that are looked at.
const MAX_NAMES: usize = 10_000;
/// Tags that are looked at, those of signatures included: the state is often asked for.
const MAX_TAGS: usize = 500;
/// Images that are told by name.
const MAX_TOLD: usize = 10;

impl Instance {
    /// Returns for each of these manifests why it is served only to those who may sign it; none for those that pass.
    pub(super) async fn withheld(&self, all: Vec<(Name, Digest)>) -> Result<Vec<Option<String>>, Failure> {
        let source = self.resolver().policies().clone();
        if source.current().is_none() {
            return Ok(vec![None; all.len()]);
        }
        let signed = SignedRepositories::new(self.resolver().repositories().clone(), source.clone());
        let judge = move |store: &Store| {
            let why = |(name, digest): &(Name, Digest)| match source.of(name.as_str()) {
                Some(policies) => {
                    let verdict = signed.verdict(store, &policies, name, (digest, true))?;
                    Ok(verdict.withheld().map(|why| why.to_string()))
                }
                None => Ok(None),
            };
            all.iter().map(why).collect()
        };
        self.content().store().run(judge).await.map_err(|error| content_failure(error.into()))
    }

    /// Returns which tagged images are served only to those who may sign them; none where there are no policies.
    pub(super) async fn withheld_tags(&self) -> Result<Option<WithheldImages>, Failure> {
        let policies = self.resolver().policies().clone();
        if policies.current().is_none() {
            return Ok(None);
        }
        let repositories = self.resolver().repositories().clone();
        let signed = SignedRepositories::new(repositories.clone(), policies.clone());
        let look = move |store: &Store| {
            Search { store, repositories, signed, policies, looked_at: 0, found: WithheldImages::default() }
                .run()
        };
        self.content().store().run(look).await.map(Some).map_err(|error| content_failure(error.into()))
    }

    /// Warns of imported images that are not signed as the policies say.
    pub(super) async fn warn_of_unsigned(&self, images: &[Imported], notes: &Notes) {
        for image in images {
            let warning = match self.why_unsigned(image).await {
                Ok(None) => continue,
                Ok(Some(why)) => format!("{} is not served: {why}", image.reference),
                Err(error) => {
                    format!("whether {} is signed cannot be read: {}", image.reference, error.message)
                }
            };
            let _ = notes.send(Note::Warning(warning));
        }
    }

    async fn why_unsigned(&self, image: &Imported) -> Result<Option<Withheld>, Failure> {
        let of = self.image_ref(&image.reference)?;
        let resolver = self.resolver();
        if resolver.policies().of(&of.name).is_none() {
            return Ok(None);
        }
        let verdict = async {
            let kind = NameKind::parse(&of.name)?;
            let document = kind.manifest(resolver, &of.reference).await?;
            kind.verdict(resolver, Asked::Manifest(&document)).await
        };
        Ok(verdict.await.map_err(|error: Error| Failure::new(error))?.withheld())
    }
}

/// A walk through the tags of the repositories that policies are about.
struct Search<'a> {
    store: &'a Store,
    repositories: Repositories,
    signed: SignedRepositories,
    policies: PolicySource,
    looked_at: usize,
    found: WithheldImages,
}

impl Search<'_> {
    fn run(mut self) -> Result<WithheldImages, StoreError> {
        let (mut last, mut read) = (String::new(), 0);
        loop {
            let names = self.repositories.names(&last, PAGE_SIZE)?;
            let Some(end) = names.last() else { break };
            (last, read) = (end.to_string(), read + names.len());
            for name in &names {
                self.look_at(name)?;
                if self.found.more {
                    return Ok(self.found);
                }
            }
            if read >= MAX_NAMES {
                self.found.more = true;
                break;
            }
        }
        Ok(self.found)
    }

    fn look_at(&mut self, name: &Name) -> Result<(), StoreError> {
        let Some(policies) = self.policies.of(name.as_str()) else { return Ok(()) };
        let mut last = String::new();
        loop {
            let tags = self.repositories.tags(name, &last, PAGE_SIZE)?;
            let Some((end, _)) = tags.last() else { return Ok(()) };
            last = end.to_string();
            for (tag, digest) in &tags {
                if self.looked_at >= MAX_TAGS {
                    self.found.more = true;
                    return Ok(());
                }
                self.looked_at += 1;
                if signed_by_tag(tag).is_some() {
                    continue;
                }
                let verdict = self.signed.verdict(self.store, &policies, name, (digest, true))?;
                if let Some(why) = verdict.withheld() {
                    self.found.add(name, tag, digest, &why);
                }
            }
        }
    }
}

impl WithheldImages {
    fn add(&mut self, name: &Name, tag: &Tag, digest: &Digest, why: &Withheld) {
        self.images += 1;
        if self.first.len() < MAX_TOLD {
            let (image, digest) = (format!("{name}:{tag}"), digest.to_string());
            self.first.push(WithheldImage { image, digest, why: why.to_string() });
        }
    }
}
