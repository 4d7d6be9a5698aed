//! Blobs: `GET`, `HEAD` and `DELETE`.

use std::ops::Range;

use axum::{
    body::Body,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::{Stream, stream};
use ocipfs_oci::{ByteRanges, Digest, Reference, range};

use super::{
    Target,
    error::{ApiError, ResourceKind},
    immutable,
    multipart::Multipart,
    not_modified,
    withheld::Reader,
};
use crate::{
    content,
    names::{self, Asked, BlobSource, NameKind},
};

/// The media type of blobs, whatever their manifests say.
const OCTETS: &str = "application/octet-stream";

fn refusal(error: content::Error) -> ApiError {
    ApiError::content(error, ResourceKind::Blob)
}

fn names_refusal(error: names::Error) -> ApiError {
    ApiError::names(error, ResourceKind::Blob)
}

fn parse_name(name: &str) -> Result<NameKind, ApiError> {
    NameKind::parse(name).map_err(names_refusal)
}

/// `HEAD` of a blob: 200 only where a `GET` would begin.
pub async fn head(
    reader: &Reader<'_>,
    name: &str,
    digest: &str,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let registry = reader.registry;
    let digest: Digest = digest.parse()?;
    let kind = parse_name(name)?;
    let located = kind.locate_blob(&registry.resolver, &digest).await.map_err(names_refusal)?;
    reader.check(&kind, Asked::Blob(&digest)).await?;
    let size = match located {
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
    let whole = || (head_of(&digest, size, OCTETS.into()), Body::empty()).into_response();
    Ok(not_modified(headers, &digest).unwrap_or_else(whole))
}

/// `GET` of a blob or of ranges of it.
pub async fn get(
    reader: &Reader<'_>,
    name: &str,
    digest: &str,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let registry = reader.registry;
    let digest: Digest = digest.parse()?;
    let kind = parse_name(name)?;
    let found = kind.find_blob(&registry.resolver, &digest).await.map_err(names_refusal)?;
    reader.check(&kind, Asked::Blob(&digest)).await?;
    if let Some(answer) = not_modified(headers, &digest) {
        return Ok(answer);
    }
    match &found.source {
        BlobSource::Inline(bytes) => {
            let size = bytes.len() as u64;
            let ranges = requested_ranges(headers, &digest, size)?;
            let slice = |range: &Range<u64>| {
                Ok::<_, content::Error>(bytes.slice(range.start as usize..range.end as usize))
            };
            let pieces = stream::iter(ranges.all(size).iter().map(slice).collect::<Vec<_>>());
            Ok(answer(&digest, size, ranges, pieces))
        }
        BlobSource::Blob(blob) => {
            let ranges = requested_ranges(headers, &digest, blob.size)?;
            let content = registry.resolver.content();
            if !matches!(ranges, RequestedRanges::Whole) {
                found.verify_for_part(content).await.map_err(refusal)?;
            }
            let reader = content.open_ranges(blob, &ranges.all(blob.size)).await.map_err(refusal)?;
            Ok(answer(&digest, blob.size, ranges, reader.into_stream_logged()))
        }
    }
}

/// `DELETE` of a blob: of this repository alone.
pub async fn delete(target: &Target<'_>, digest: &str) -> Result<Response, ApiError> {
    let digest: Digest = digest.parse()?;
    immutable::check_deletion(target, &Reference::Digest(digest.clone())).await?;
    target.registry.pushes.delete_blob(target.name, &digest).await?;
    Ok(StatusCode::ACCEPTED.into_response())
}

/// What a request wants of a blob.
enum RequestedRanges {
    Whole,
    Range(Range<u64>),
    /// Several ranges, which do not overlap.
    Ranges(Vec<Range<u64>>),
}

impl RequestedRanges {
    fn all(&self, size: u64) -> Vec<Range<u64>> {
        let whole = 0..size;
        match self {
            Self::Whole => vec![whole],
            Self::Range(range) => vec![range.clone()],
            Self::Ranges(ranges) => ranges.clone(),
        }
    }
}

/// What the headers ask for.
fn requested_ranges(headers: &HeaderMap, digest: &Digest, size: u64) -> Result<RequestedRanges, ApiError> {
    let text = |name| headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
    if !range::if_range_holds(text(header::IF_RANGE), &digest.etag()) {
        return Ok(RequestedRanges::Whole);
    }
    let Some(header) = text(header::RANGE) else { return Ok(RequestedRanges::Whole) };
    let Some(ranges) = ByteRanges::parse(header)? else { return Ok(RequestedRanges::Whole) };
    let mut ranges = ranges.resolve(size)?;
    match ranges.len() {
        1 => Ok(RequestedRanges::Range(ranges.remove(0))),
        _ => Ok(RequestedRanges::Ranges(ranges)),
    }
}

fn head_of(digest: &Digest, length: u64, content_type: String) -> [(&'static str, String); 5] {
    [
        ("docker-content-digest", digest.to_string()),
        ("etag", digest.etag()),
        ("accept-ranges", "bytes".into()),
        ("content-type", content_type),
        ("content-length", length.to_string()),
    ]
}

fn answer(
    digest: &Digest,
    size: u64,
    requested: RequestedRanges,
    content: impl Stream<Item = Result<Bytes, content::Error>> + Send + 'static,
) -> Response {
    match requested {
        RequestedRanges::Whole => {
            (head_of(digest, size, OCTETS.into()), Body::from_stream(content)).into_response()
        }
        RequestedRanges::Range(part) => {
            let range = [(header::CONTENT_RANGE, range::content_range(&part, size))];
            let head = head_of(digest, part.end - part.start, OCTETS.into());
            (StatusCode::PARTIAL_CONTENT, head, range, Body::from_stream(content)).into_response()
        }
        RequestedRanges::Ranges(ranges) => {
            let parts = Multipart::new(ranges, size);
            let head = head_of(digest, parts.length(), parts.content_type());
            (StatusCode::PARTIAL_CONTENT, head, Body::from_stream(parts.body(content))).into_response()
        }
    }
}
