//! The images of a request: patterns become the references that match, and names of other registries those of this one.

use std::collections::BTreeSet;

use ocipfs_oci::{Name, Reference, Tag};

use crate::{
    control::{
        Failure, RequestedImage,
        failure::{content_failure, names_failure},
        instance::{Instance, reference::ImageRef},
    },
    images::{archive::tag_stem, repository::matches_pattern},
    names::NameKind,
};

/// Names that are listed at a time.
const PAGE_SIZE: usize = 500;
/// Images that one pattern may stand for.
const MAX_IMAGES: usize = 10_000;
/// The namespace of images on Docker Hub that have none.
const LIBRARY: &str = "library/";

impl Instance {
    /// Returns the references that a request stands for.
    pub(super) async fn requested(&self, image: &RequestedImage) -> Result<Vec<ImageRef>, Failure> {
        if !image.reference.contains('*') {
            return Ok(vec![self.known_as(self.image_ref(&image.reference)?).await]);
        }
        let text = self.without_own_registry(&image.reference);
        let (names, tags) = text.rsplit_once(':').unwrap_or((text, "*"));
        let mut found = Vec::new();
        for name in self.matching_names(names).await? {
            let kind = NameKind::parse(&name).map_err(names_failure)?;
            let all = match kind.tags(self.resolver()).await {
                Err(error) if error.is_absence() => Vec::new(),
                all => all.map_err(names_failure)?,
            };
            // Those of signatures come with their images.
            let matching = |tag: &Tag| tag_stem(tag).is_none() && matches_pattern(tags, tag.as_str());
            let matching = all.into_iter().filter(matching);
            found.extend(matching.map(|tag| ImageRef { name: name.clone(), reference: Reference::Tag(tag) }));
            if found.len() > MAX_IMAGES {
                let text = format!("{} stands for more than {MAX_IMAGES} images", image.reference);
                return Err(Failure::new(text).hint("give narrower patterns, and export several bundles"));
            }
        }
        match found.is_empty() {
            true => Err(Failure::new(format!("no image matches {}", image.reference))
                .hint("`ocipfs repo ls` lists the repositories that are here")),
            false => Ok(found),
        }
    }

    /// Returns the names of repositories that a pattern stands for.
    async fn matching_names(&self, pattern: &str) -> Result<BTreeSet<String>, Failure> {
        if !pattern.contains('*') {
            return Ok([pattern.to_string()].into());
        }
        let (mut all, mut last) = (BTreeSet::new(), String::new());
        loop {
            let (repositories, after) = (self.resolver().repositories().clone(), last.clone());
            let here = self.content().store().run(move |_| repositories.names(&after, PAGE_SIZE)).await;
            let here = here.map_err(|error| content_failure(error.into()))?;
            let followed = self.resolver().followed();
            let there = followed.repositories(self.resolver(), &last, PAGE_SIZE).await;
            let page: BTreeSet<Name> = here.into_iter().chain(there.map_err(content_failure)?).collect();
            let page: Vec<Name> = page.into_iter().take(PAGE_SIZE).collect();
            let Some(end) = page.last() else { return Ok(all) };
            last = end.to_string();
            let matching = page.iter().filter(|name| matches_pattern(pattern, name.as_str()));
            all.extend(matching.map(Name::to_string));
        }
    }

    /// Returns a reference as it is known here: with or without the namespace of Docker Hub.
    async fn known_as(&self, image_ref: ImageRef) -> ImageRef {
        let other = match image_ref.name.strip_prefix(LIBRARY) {
            Some(short) => short.to_string(),
            None if image_ref.name.contains('/') => return image_ref,
            None => format!("{LIBRARY}{}", image_ref.name),
        };
        if self.has_manifest(&image_ref.name, &image_ref.reference).await {
            return image_ref;
        }
        match self.has_manifest(&other, &image_ref.reference).await {
            true => ImageRef { name: other, ..image_ref },
            false => image_ref,
        }
    }

    async fn has_manifest(&self, name: &str, reference: &Reference) -> bool {
        match NameKind::parse(name) {
            Ok(kind) => kind.manifest(self.resolver(), reference).await.is_ok(),
            Err(_) => false,
        }
    }
}
