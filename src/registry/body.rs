//! Bodies of requests that are read whole.

use std::time::Duration;

use axum::{
    body::{Body, BodyDataStream},
    http::{HeaderMap, header},
};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;

use super::error::Refusal;

/// The length that a client says its body has.
pub fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Reads a body of at most `limit` bytes, which may make no progress for this long.
pub async fn whole(headers: &HeaderMap, body: Body, limit: u64, stall: Duration) -> Result<Bytes, Refusal> {
    if length(headers).is_some_and(|length| length > limit) {
        return Err(Refusal::too_large(limit));
    }
    let mut parts: BodyDataStream = body.into_data_stream();
    let mut all = BytesMut::new();
    loop {
        match tokio::time::timeout(stall, parts.next()).await {
            Ok(Some(Ok(part))) => all.extend_from_slice(&part),
            Ok(Some(Err(error))) => return Err(Refusal::body(error)),
            Ok(None) => return Ok(all.freeze()),
            Err(_) => return Err(Refusal::body(format!("nothing came for {} s", stall.as_secs()))),
        }
        if all.len() as u64 > limit {
            return Err(Refusal::too_large(limit));
        }
    }
}
