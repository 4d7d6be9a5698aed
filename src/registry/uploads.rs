//! Blobs coming in ("Pushing blobs"): whole, in parts, as a stream, or by mounting what is here.

mod content_range;

use axum::{
    body::BodyDataStream,
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
};
use ocipfs_oci::{Algorithm, Digest, Name};

use super::{Registry, Target, body, error::ApiError, query::Query};
use crate::{access::Action, content::Upload, names::NameKind};
use content_range::ContentRange;

/// Recommended minimum length of an upload chunk; a shorter one is accepted and costs as much.
const CHUNK_MIN_LENGTH: &str = "65536";

/// `POST`: mounts a blob, takes one whole, or begins an upload.
pub async fn begin(
    target: &Target<'_>,
    query: &Query,
    body: &mut BodyDataStream,
) -> Result<Response, ApiError> {
    let Target { registry, name, .. } = *target;
    if let Some(algorithm) = query.value("digest-algorithm") {
        algorithm.parse::<Algorithm>()?;
    }
    if let Some(digest) = query.value("mount") {
        let digest: Digest = digest.parse()?;
        let from = query.value("from").and_then(|from| NameKind::parse(from).ok());
        if may_mount(target, from.as_ref()) && registry.pushes.mount(name, &digest, from.as_ref()).await? {
            return Ok(created(name, &digest));
        }
    }
    if let Some(digest) = query.value("digest") {
        let digest: Digest = digest.parse()?;
        registry.pushes.put_blob(name, &digest, body).await?;
        return Ok(created(name, &digest));
    }
    let upload = registry.pushes.begin_upload(name)?;
    Ok(progress(StatusCode::ACCEPTED, name, &upload))
}

/// Whether a client may pull from where it mounts. Otherwise it uploads, as if the blob were not there.
fn may_mount(target: &Target<'_>, from: Option<&NameKind>) -> bool {
    let Target { registry, visitor, .. } = target;
    from.is_none_or(|from| registry.access.may(visitor, Action::Pull, from.name().as_str()))
}

/// `GET`: how far an upload is.
pub async fn status(registry: &Registry, name: &Name, id: &str) -> Result<Response, ApiError> {
    let upload = registry.pushes.upload(name, id).await?;
    Ok(progress(StatusCode::NO_CONTENT, name, &upload))
}

/// `PATCH`: the next part, or all of it as a stream. A part that says where it begins is durable when it is acknowledged.
pub async fn part(
    registry: &Registry,
    name: &Name,
    id: &str,
    headers: &HeaderMap,
    body: &mut BodyDataStream,
) -> Result<Response, ApiError> {
    let mut upload = registry.pushes.upload(name, id).await?;
    // What an earlier part brought was acknowledged, and this one may take long.
    registry.pushes.save_upload(&mut upload).await?;
    let range = ContentRange::of(headers)?;
    append(name, &mut upload, range.as_ref(), headers, body).await?;
    match range {
        Some(_) => registry.pushes.save_upload(&mut upload).await?,
        None => registry.pushes.save_upload_soon(&upload),
    }
    Ok(progress(StatusCode::ACCEPTED, name, &upload))
}

/// `PUT`: the last part, if there is one, and the digest of all.
pub async fn end(
    registry: &Registry,
    name: &Name,
    id: &str,
    query: &Query,
    headers: &HeaderMap,
    body: &mut BodyDataStream,
) -> Result<Response, ApiError> {
    let digest: Digest = query.value("digest").ok_or_else(ApiError::no_digest)?.parse()?;
    let mut upload = registry.pushes.upload(name, id).await?;
    let range = ContentRange::of(headers)?;
    append(name, &mut upload, range.as_ref(), headers, body).await?;
    registry.pushes.finish_upload(name, upload, &digest).await?;
    Ok(created(name, &digest))
}

/// `DELETE`: cancels an upload.
pub async fn cancel(registry: &Registry, name: &Name, id: &str) -> Result<Response, ApiError> {
    let upload = registry.pushes.upload(name, id).await?;
    registry.pushes.cancel_upload(upload).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Appends a body, which begins where the upload ends.
async fn append(
    name: &Name,
    upload: &mut Upload,
    range: Option<&ContentRange<'_>>,
    headers: &HeaderMap,
    body: &mut BodyDataStream,
) -> Result<(), ApiError> {
    let content_length = body::length(headers);
    let Some(range) = range else {
        if content_length != Some(0) {
            upload.append(body).await?;
        }
        return Ok(());
    };
    let before = upload.length();
    // The client resumes at the offset that the headers tell.
    upload.check_offset(range.first()).map_err(|error| {
        let refusal = ApiError::from(error).with(header::LOCATION, location(name, upload.id()));
        refusal.with(header::RANGE, received_range(before))
    })?;
    range.check_length(content_length)?;
    upload.append(body).await?;
    range.check_received(upload.length() - before)
}

/// The `Range` of the received bytes. Both positions are included, so that nothing looks like one byte: as other registries
/// have it.
fn received_range(length: u64) -> String {
    format!("0-{}", length.saturating_sub(1))
}

fn location(name: &Name, id: &str) -> String {
    format!("/v2/{name}/blobs/uploads/{id}")
}

fn progress(status: StatusCode, name: &Name, upload: &Upload) -> Response {
    let headers = [
        (header::LOCATION, location(name, upload.id())),
        (header::RANGE, received_range(upload.length())),
        (HeaderName::from_static("docker-upload-uuid"), upload.id().into()),
        (HeaderName::from_static("oci-chunk-min-length"), CHUNK_MIN_LENGTH.into()),
    ];
    (status, headers).into_response()
}

fn created(name: &Name, digest: &Digest) -> Response {
    let headers = [
        (header::LOCATION, format!("/v2/{name}/blobs/{digest}")),
        (HeaderName::from_static("docker-content-digest"), digest.to_string()),
    ];
    (StatusCode::CREATED, headers).into_response()
}
