use std::ops::Range;

use axum::{
    body::Body,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use ocipfs_oci::{ByteRange, Digest, Name, range};

use super::{
    Registry,
    error::{ApiError, ResourceKind},
    not_modified,
};
use crate::{
    content,
    names::{BlobSource, NameKind},
};

fn refusal(error: content::Error) -> ApiError {
    ApiError::content(error, ResourceKind::Blob)
}

/// Returns where a blob is: nothing of it is fetched yet.
async fn locate(registry: &Registry, kind: &NameKind, digest: &Digest) -> Result<BlobSource, ApiError> {
    kind.locate_blob(&registry.resolver, digest)
        .await
        .map_err(|error| ApiError::names(error, ResourceKind::Blob))
}

fn parse_name(name: &str) -> Result<NameKind, ApiError> {
    NameKind::parse(name).map_err(|error| ApiError::names(error, ResourceKind::Blob))
}

/// `HEAD` of a blob: 200 only where a `GET` would begin.
pub async fn head(
    registry: &Registry,
    name: &str,
    digest: &str,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let digest: Digest = digest.parse()?;
    let kind = parse_name(name)?;
    let size = match locate(registry, &kind, &digest).await? {
        BlobSource::Inline(bytes) => bytes.len() as u64,
        BlobSource::Blob(blob) => {
            registry.resolver.content().check(&blob).await.map_err(refusal)?;
            // The client need not push it.
            if let NameKind::Hosted { name } = &kind {
                registry.pushes.renew_blob(name, &digest).await?;
            }
            blob.size
        }
    };
    let whole = || (head_of(&digest, size), Body::empty()).into_response();
    Ok(not_modified(headers, &digest).unwrap_or_else(whole))
}

/// `GET` of a blob or of one range of it.
pub async fn get(
    registry: &Registry,
    name: &str,
    digest: &str,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let digest: Digest = digest.parse()?;
    let source = locate(registry, &parse_name(name)?, &digest).await?;
    if let Some(answer) = not_modified(headers, &digest) {
        return Ok(answer);
    }
    match source {
        BlobSource::Inline(bytes) => {
            let size = bytes.len() as u64;
            let part = wanted(headers, &digest, size)?;
            let Range { start, end } = part.clone().unwrap_or(0..size);
            Ok(answer(&digest, size, part, Body::from(bytes.slice(start as usize..end as usize))))
        }
        BlobSource::Blob(blob) => {
            let part = wanted(headers, &digest, blob.size)?;
            let content = registry.resolver.content();
            let reader = content.open(&blob, part.clone().unwrap_or(0..blob.size)).await.map_err(refusal)?;
            let body = Body::from_stream(reader.into_stream_logged());
            Ok(answer(&digest, blob.size, part, body))
        }
    }
}

/// `DELETE` of a blob: of this repository alone.
pub async fn delete(registry: &Registry, name: &Name, digest: &str) -> Result<Response, ApiError> {
    registry.pushes.delete_blob(name, &digest.parse()?).await?;
    Ok(StatusCode::ACCEPTED.into_response())
}

/// The part that the headers ask for; none means the whole.
fn wanted(headers: &HeaderMap, digest: &Digest, size: u64) -> Result<Option<Range<u64>>, ApiError> {
    let text = |name| headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
    if !range::if_range_holds(text(header::IF_RANGE), &digest.etag()) {
        return Ok(None);
    }
    let Some(range) = text(header::RANGE).and_then(ByteRange::parse) else { return Ok(None) };
    Ok(Some(range.resolve(size)?))
}

fn head_of(digest: &Digest, length: u64) -> [(&'static str, String); 5] {
    [
        ("docker-content-digest", digest.to_string()),
        ("etag", digest.etag()),
        ("accept-ranges", "bytes".into()),
        ("content-type", "application/octet-stream".into()),
        ("content-length", length.to_string()),
    ]
}

fn answer(digest: &Digest, size: u64, part: Option<Range<u64>>, body: Body) -> Response {
    match part {
        None => (head_of(digest, size), body).into_response(),
        Some(part) => {
            let range = [(header::CONTENT_RANGE, range::content_range(&part, size))];
            (StatusCode::PARTIAL_CONTENT, head_of(digest, part.end - part.start), range, body).into_response()
        }
    }
}
