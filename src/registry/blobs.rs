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
    names::{BlobSource, NameKind, followed},
};

fn refusal(error: content::Error) -> ApiError {
    ApiError::content(error, ResourceKind::Blob)
}

async fn find(registry: &Registry, name: &str, digest: &Digest) -> Result<BlobSource, ApiError> {
    let refusal = |error| ApiError::names(error, ResourceKind::Blob);
    let kind = NameKind::parse(name).map_err(refusal)?;
    kind.blob(&registry.resolver, digest).await.map_err(refusal)
}

/// `HEAD` of a blob: 200 only where a `GET` would begin.
pub async fn head(
    registry: &Registry,
    name: &str,
    digest: &str,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let digest: Digest = digest.parse()?;
    let size = match find(registry, name, &digest).await? {
        BlobSource::Inline(bytes) => bytes.len() as u64,
        BlobSource::Blob(blob) => {
            registry.resolver.content().check(&blob).await.map_err(refusal)?;
            renew(registry, name, &digest).await?;
            blob.size
        }
    };
    let whole = || (head_of(&digest, size), Body::empty()).into_response();
    Ok(not_modified(headers, &digest).unwrap_or_else(whole))
}

/// Begins the grace period of a blob again, before the client is told that it need not be pushed.
async fn renew(registry: &Registry, name: &str, digest: &Digest) -> Result<(), ApiError> {
    let Ok(NameKind::Hosted { name }) = NameKind::parse(name) else { return Ok(()) };
    let (of, blob) = (name.clone(), digest.clone());
    let since = registry.ask(move |all| all.unreferenced_since(&of, &blob)).await?;
    if since.is_none_or(|since| since >= content::now()) {
        return Ok(());
    }
    let (of, blob) = (name.clone(), digest.clone());
    match registry.edit(move |edit| edit.renew_piece(&of, &blob)).await? {
        true => Ok(()),
        // Its grace period ended since it was found.
        false => Err(ApiError::unknown_blob(&name, digest)),
    }
}

/// `GET` of a blob or of one range of it.
pub async fn get(
    registry: &Registry,
    name: &str,
    digest: &str,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let digest: Digest = digest.parse()?;
    let source = find(registry, name, &digest).await?;
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
    let digest: Digest = digest.parse()?;
    let (of, what) = (name.clone(), digest.clone());
    match registry.edit(move |edit| edit.remove_piece(&of, &what)).await? {
        true => Ok(StatusCode::ACCEPTED.into_response()),
        false => {
            let wanted = followed::Target::Blob(&digest);
            match followed::origin(&registry.resolver, name, &wanted).await {
                Some(origin) => Err(ApiError::followed(name, &digest, &origin)),
                None => Err(ApiError::unknown_blob(name, &digest)),
            }
        }
    }
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
