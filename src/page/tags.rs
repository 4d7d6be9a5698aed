//! The tags of a repository, a page at a time, and one image with what refers to it.

use std::time::Duration;

use axum::extract::Query;
use futures::{StreamExt, stream};
use ocipfs_oci::{Descriptor, Digest, MediaType, Reference, Tag};
use serde::{Deserialize, Serialize};

use super::{
    Answer, Extension, PageVisitor, Refusal, Shown, State, answer,
    image::{ImageInfo, Images, MAX_LISTED_PARTS, MAX_PARTS},
};
use crate::names::NameKind;

/// Tags of one answer, each with its image.
const PAGE_SIZE: usize = 25;
/// Images that are read at a time.
const CONCURRENT: usize = 4;
/// How long an image may take that has to be fetched.
const IMAGE_TIMEOUT: Duration = Duration::from_secs(10);
/// Referrers that are listed.
const MAX_REFERRERS: usize = 100;
const CREATED: &str = "org.opencontainers.image.created";

#[derive(Debug, Deserialize)]
pub struct AskedTags {
    name: String,
    #[serde(default)]
    last: String,
}

#[derive(Debug, Deserialize)]
pub struct AskedImage {
    name: String,
    reference: String,
}

#[derive(Debug, Serialize)]
pub struct Tags {
    name: String,
    tags: Vec<TagInfo>,
    /// The tag after which there are more.
    next: Option<Tag>,
    /// The repository's name could not be resolved: it is shown as it was.
    stale: bool,
}

#[derive(Debug, Serialize)]
struct TagInfo {
    tag: Tag,
    /// When it was pushed here, in seconds since 1970.
    pushed: Option<u64>,
    image: Option<ImageInfo>,
    /// Why the image could not be read.
    missing: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct Shows {
    image: ImageInfo,
    referrers: Vec<ReferrerInfo>,
    more_referrers: bool,
    /// Why referrers could not be listed.
    missing: Option<String>,
}

#[derive(Debug, Serialize)]
struct ReferrerInfo {
    digest: Digest,
    artifact_type: Option<MediaType>,
    bytes: u64,
    created: Option<String>,
}

pub async fn list(
    (State(page), Extension(visitor)): Shown,
    Query(AskedTags { name, last }): Query<AskedTags>,
) -> Answer<Tags> {
    let kind = parse(&name, &visitor)?;
    let resolver = page.instance()?.resolver();
    let mut tags = kind.tags_after(resolver, &last, PAGE_SIZE + 1).await?;
    let has_more = tags.len() > PAGE_SIZE;
    tags.truncate(PAGE_SIZE);
    let next = tags.last().filter(|_| has_more).cloned();
    let sees_unsigned = visitor.sees_unsigned(&name);
    let images = Images { resolver, kind: &kind, most_parts: MAX_LISTED_PARTS, sees_unsigned };
    let tags = stream::iter(tags.into_iter().map(|tag| tag_info(images, tag)));
    let tags = tags.buffered(CONCURRENT).collect().await;
    let stale = resolver.is_stale(&kind);
    answer(Tags { name, tags, next, stale })
}

pub async fn image(
    (State(page), Extension(visitor)): Shown,
    Query(AskedImage { name, reference }): Query<AskedImage>,
) -> Answer<Shows> {
    let kind = parse(&name, &visitor)?;
    let reference: Reference = reference.parse().map_err(Refusal::query)?;
    let resolver = page.instance()?.resolver();
    let sees_unsigned = visitor.sees_unsigned(&name);
    let image = Images { resolver, kind: &kind, most_parts: MAX_PARTS, sees_unsigned };
    let image = image.read(&reference).await?;
    let (referrers, more_referrers, missing) = match kind.referrers(resolver, &image.digest, "").await {
        Ok(referrers) => {
            let has_more = referrers.more_after.is_some() || referrers.found.len() > MAX_REFERRERS;
            let listed = referrers.found.into_iter().take(MAX_REFERRERS).map(referrer_info).collect();
            (listed, has_more, None)
        }
        Err(error) if error.is_absence() => (Vec::new(), false, None),
        Err(error) => (Vec::new(), false, Some(error.to_string())),
    };
    answer(Shows { image, referrers, more_referrers, missing })
}

/// Parses a name that the visitor may pull from.
fn parse(name: &str, visitor: &PageVisitor) -> Result<NameKind, Refusal> {
    if !visitor.may_pull(name) {
        return Err(Refusal::hidden(visitor, name));
    }
    NameKind::parse(name).map_err(Refusal::query)
}

async fn tag_info(images: Images<'_>, tag: Tag) -> TagInfo {
    let Images { resolver, kind, .. } = images;
    let reference = Reference::Tag(tag.clone());
    let reading = images.read(&reference);
    let (image, missing) = match tokio::time::timeout(IMAGE_TIMEOUT, reading).await {
        Ok(Ok(image)) => (Some(image.brief()), None),
        Ok(Err(error)) => (None, Some(error.to_string())),
        Err(_) => (None, Some("it was not found in time".into())),
    };
    let pushed = match (kind, &image) {
        (NameKind::Hosted { name }, Some(image)) => {
            let (name, tag, digest) = (name.clone(), tag.clone(), image.digest.clone());
            let repositories = resolver.repositories().clone();
            let at = resolver.content().store().run(move |_| repositories.tagged_at(&name, &tag, &digest));
            at.await.ok().flatten()
        }
        _ => None,
    };
    TagInfo { tag, pushed, image, missing }
}

fn referrer_info(referrer: Descriptor) -> ReferrerInfo {
    let created = referrer.annotation(CREATED).map(|created| created.chars().take(40).collect());
    let Descriptor { digest, artifact_type, size, .. } = referrer;
    ReferrerInfo { digest, artifact_type, bytes: size, created }
}
