//! Bodies of requests.

use std::time::Duration;

use axum::{
    body::BodyDataStream,
    http::{HeaderMap, header},
};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;

use super::error::ApiError;

/// The length that a client says its body has.
pub fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Reads a body of at most `limit` bytes, which may make no progress for this long.
pub async fn whole(
    headers: &HeaderMap,
    parts: &mut BodyDataStream,
    limit: u64,
    stall: Duration,
) -> Result<Bytes, ApiError> {
    if length(headers).is_some_and(|length| length > limit) {
        return Err(ApiError::too_large(limit));
    }
    let mut all = BytesMut::new();
    loop {
        match tokio::time::timeout(stall, parts.next()).await {
            Ok(Some(Ok(part))) => all.extend_from_slice(&part),
            Ok(Some(Err(error))) => return Err(ApiError::body(error)),
            Ok(None) => return Ok(all.freeze()),
            Err(_) => return Err(ApiError::body(format!("no bytes received for {} s", stall.as_secs()))),
        }
        if all.len() as u64 > limit {
            return Err(ApiError::too_large(limit));
        }
    }
}
