//! Manifests: `GET`, `HEAD`, `PUT` and `DELETE`.

use axum::{
    body::{Body, BodyDataStream},
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{AppendHeaders, IntoResponse, Response},
};
use ocipfs_oci::{Name, Reference, Tag};

use super::{
    Target, body,
    error::{ApiError, ResourceKind},
    immutable, not_modified,
    query::Query,
    request_log::SignaturePushed,
    stale,
    withheld::Reader,
};
use crate::{
    access::Action,
    images::MAX_MANIFEST,
    names::{
        Asked, NameKind,
        push::{ManifestPush, PushedManifest},
    },
    signatures,
};

const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");
/// Tags that one push may set.
const MAX_TAGS: usize = 100;

/// `GET` and `HEAD` of a manifest; axum takes the body off where it was a `HEAD`.
pub async fn get(
    reader: &Reader<'_>,
    name: &str,
    reference: &str,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let registry = reader.registry;
    let reference: Reference = reference.parse()?;
    let refusal = |error| ApiError::names(error, ResourceKind::Manifest);
    let kind = NameKind::parse(name).map_err(refusal)?;
    let document = kind.find_manifest(&registry.resolver, &reference).await.map_err(refusal)?;
    reader.check(&kind, Asked::Manifest(&document)).await?;
    if let Some(answer) = not_modified(headers, &document.digest) {
        return Ok(answer);
    }
    let headers = [
        ("docker-content-digest", document.digest.to_string()),
        ("etag", document.digest.etag()),
        ("content-type", document.media_type.to_string()),
        ("content-length", document.bytes.len().to_string()),
    ];
    let content = registry.resolver.content();
    let pieces = content.pieces_of(&document.digest, document.bytes).await;
    let pieces = pieces.map_err(|error| refusal(error.into()))?;
    Ok((stale(registry, &kind), headers, Body::from_stream(pieces.into_stream_logged())).into_response())
}

/// `PUT` of a manifest, by tag or by digest, with further tags in the query.
pub async fn put(
    target: &Target<'_>,
    reference: &str,
    query: &Query,
    headers: &HeaderMap,
    body: &mut BodyDataStream,
) -> Result<Response, ApiError> {
    let Target { registry, visitor, name } = *target;
    let reference: Reference = reference.parse()?;
    let tags = tags(&reference, query)?;
    let stall_timeout = registry.resolver.content().stall_timeout();
    let bytes = body::whole(headers, body, MAX_MANIFEST, stall_timeout).await?;
    let is_attached = !registry.access.may(visitor, Action::Push, name.as_str());
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_signature = registry.events.are_wanted() && signatures::is_signature(&bytes);
    let immutable = immutable::among(target, &tags);
    let push =
        ManifestPush { reference: &reference, tags: tags.clone(), immutable, is_attached, media_type, bytes };
    let pushed = registry.pushes.put_manifest(name, push).await?;
    // The tag in the path needs no confirmation.
    let confirmed = if matches!(reference, Reference::Digest(_)) { tags } else { Vec::new() };
    let mut created = created(name, pushed, confirmed);
    if is_signature {
        created.extensions_mut().insert(SignaturePushed);
    }
    Ok(created)
}

fn created(name: &Name, pushed: PushedManifest, tags: Vec<Tag>) -> Response {
    let PushedManifest { digest, subject } = pushed;
    let location = [(header::LOCATION, format!("/v2/{name}/manifests/{digest}"))];
    let headers = [("docker-content-digest", digest.to_string()), ("etag", digest.etag())];
    let subject = AppendHeaders(subject.map(|subject| (OCI_SUBJECT, subject.to_string())));
    let tags = AppendHeaders(tags.into_iter().map(|tag| (OCI_TAG, tag.to_string())));
    (StatusCode::CREATED, location, headers, subject, tags).into_response()
}

/// The tags that a push sets.
fn tags(reference: &Reference, query: &Query) -> Result<Vec<Tag>, ApiError> {
    let own = match reference {
        Reference::Tag(tag) => vec![tag.clone()],
        Reference::Digest(_) => Vec::new(),
    };
    let mut tags = own;
    for text in query.values("tag") {
        let tag: Tag = text.parse()?;
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    if tags.len() > MAX_TAGS { Err(ApiError::too_many_tags(MAX_TAGS)) } else { Ok(tags) }
}

/// `DELETE` of a tag, whose manifest is untagged then, or of a manifest with its tags, its referrers and all that
/// nothing else in the repository references.
pub async fn delete(target: &Target<'_>, reference: &str) -> Result<Response, ApiError> {
    let reference: Reference = reference.parse()?;
    immutable::check_deletion(target, &reference).await?;
    let Target { registry, name, .. } = target;
    match reference {
        Reference::Tag(tag) => registry.pushes.delete_tag(name, &tag).await?,
        Reference::Digest(digest) => registry.pushes.delete_manifest(name, &digest).await?,
    }
    Ok(StatusCode::ACCEPTED.into_response())
}
