use axum::{
    body::{Body, BodyDataStream},
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{AppendHeaders, IntoResponse, Response},
};
use ocipfs_oci::{Digest, Hasher, Name, Reference, Tag};

use super::{
    Registry, body,
    error::{ApiError, ResourceKind},
    not_modified,
    query::Query,
    stale,
};
use crate::{
    content::{self, StoreError, Stored, UploadError},
    images::{
        MAX_MANIFEST,
        repository::{Edit, InspectedManifest, RepositoryBlob, inspect},
    },
    names::{Adopted, NameKind, followed},
};

const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");
/// Tags that one push may set.
const MAX_TAGS: usize = 100;

/// `GET` and `HEAD` of a manifest; axum takes the body off where it was a `HEAD`.
pub async fn get(
    registry: &Registry,
    name: &str,
    reference: &str,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let reference: Reference = reference.parse()?;
    let refusal = |error| ApiError::names(error, ResourceKind::Manifest);
    let kind = NameKind::parse(name).map_err(refusal)?;
    let document = kind.manifest(&registry.resolver, &reference).await.map_err(refusal)?;
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
    let reader = content.pieces_of(&document.digest, document.bytes).await;
    let reader = reader.map_err(|error| refusal(error.into()))?;
    Ok((stale(registry, &kind), headers, Body::from_stream(reader.into_stream_logged())).into_response())
}

/// `PUT` of a manifest, by tag or by digest, with further tags in the query.
pub async fn put(
    registry: &Registry,
    name: &Name,
    reference: &str,
    query: &Query,
    headers: &HeaderMap,
    body: &mut BodyDataStream,
) -> Result<Response, ApiError> {
    let reference: Reference = reference.parse()?;
    let tags = tags(&reference, query)?;
    let bytes = body::whole(headers, body, MAX_MANIFEST, registry.resolver.content().stall_timeout()).await?;
    let digest = match &reference {
        Reference::Digest(digest) => digest.clone(),
        Reference::Tag(_) => Digest::sha256_of(&bytes),
    };
    let found = Hasher::of(digest.algorithm(), &bytes);
    if found != digest {
        return Err(ApiError::digest_differs(&found, &digest));
    }
    let said = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let turn = registry.resolver.content().turn_to_parse(bytes.len()).await;
    let turn = turn.map_err(|error| ApiError::names(error.into(), ResourceKind::Manifest))?;
    let inspected = inspect(&bytes, &digest, said).map_err(ApiError::manifest)?;
    drop(turn);
    // Until the manifest holds it, what is fetched for it stays.
    let _storing = registry.resolver.content().gc_guard().await;
    let adopted = registry.resolver.adopt(name, (&digest, &tags), &inspected).await;
    let adopted = adopted.map_err(|error| ApiError::names(error, ResourceKind::Blob))?;
    check_blobs(registry, name, &inspected, &adopted).await?;
    let subject = inspected.subject.clone();
    let add = adding(name, &digest, tags.clone(), (inspected, adopted), bytes.len() as u64);
    let stored = registry.resolver.content().store_bytes(bytes, &digest, add);
    match stored.await {
        // Deleted while it was pushed.
        Err(UploadError::Store(StoreError::Gone(needed))) => return Err(ApiError::missing(name, &[needed])),
        stored => stored?,
    }
    registry.resolver.repositories().wake();
    let location = [(header::LOCATION, format!("/v2/{name}/manifests/{digest}"))];
    let headers = [("docker-content-digest", digest.to_string()), ("etag", digest.etag())];
    let subject = AppendHeaders(subject.map(|subject| (OCI_SUBJECT, subject.to_string())));
    let tags = match reference {
        Reference::Digest(_) => tags,
        Reference::Tag(_) => Vec::new(),
    };
    let tags = AppendHeaders(tags.into_iter().map(|tag| (OCI_TAG, tag.to_string())));
    Ok((StatusCode::CREATED, location, headers, subject, tags).into_response())
}

/// Adds a stored manifest to a repository, unless a blob that it needs is gone by then.
fn adding(
    name: &Name,
    digest: &Digest,
    tags: Vec<Tag>,
    (inspected, adopted): (InspectedManifest, Adopted),
    size: u64,
) -> impl FnMut(&redb::WriteTransaction, &Stored) -> Result<(), StoreError> + Clone + Send + 'static {
    let (name, digest) = (name.clone(), digest.clone());
    move |write, stored| {
        adopted.add(write, &name)?;
        let edit = Edit::new(write);
        let is_here = inspected.blobs.iter();
        let is_here = is_here
            .map(|digest| Ok(edit.piece(&name, digest)?.is_some() || edit.has_manifest(&name, digest)?));
        if let Some(digest) = inspected.lacks(&is_here.collect::<Result<Vec<_>, StoreError>>()?).pop() {
            return Err(StoreError::Gone(digest));
        }
        let pushed = inspected
            .pushed(RepositoryBlob { digest: digest.clone(), size, root: stored.root }, content::now());
        edit.put_manifest(&name, &pushed, &tags, Some(&inspected.referrer), &inspected.references)
    }
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

/// Refuses a manifest without its blobs before anything of it is stored.
async fn check_blobs(
    registry: &Registry,
    name: &Name,
    inspected: &InspectedManifest,
    adopted: &Adopted,
) -> Result<(), ApiError> {
    let (of, blobs) = (name.clone(), inspected.blobs.clone());
    let is_here = registry.ask(move |all| {
        let is_here = |digest| Ok(all.piece(&of, digest)?.is_some() || all.manifest(&of, digest)?.is_some());
        blobs.iter().map(is_here).collect::<Result<Vec<_>, StoreError>>()
    });
    let is_here: Vec<bool> = is_here
        .await?
        .into_iter()
        .zip(&inspected.blobs)
        .map(|(is_here, digest)| is_here || adopted.piece(digest).is_some())
        .collect();
    let missing = inspected.lacks(&is_here);
    if missing.is_empty() { Ok(()) } else { Err(ApiError::missing(name, &missing)) }
}

/// `DELETE` of a tag, whose manifest is untagged then, or of a manifest with its tags, its referrers and all that
/// nothing else in the repository references.
pub async fn delete(registry: &Registry, name: &Name, reference: &str) -> Result<Response, ApiError> {
    let reference: Reference = reference.parse()?;
    let (of, what) = (name.clone(), reference.clone());
    let removed = registry.edit(move |edit| match &what {
        Reference::Tag(tag) => edit.remove_tag(&of, tag),
        Reference::Digest(digest) => edit.remove_manifest(&of, digest),
    });
    match removed.await? {
        true => Ok(StatusCode::ACCEPTED.into_response()),
        false => {
            let wanted = followed::Target::Manifest(&reference);
            match followed::origin(&registry.resolver, name, &wanted).await {
                Some(origin) => Err(ApiError::followed(name, &reference, &origin)),
                None => Err(ApiError::unknown_manifest(name, &reference)),
            }
        }
    }
}
