//! The rest of a request's body that is not wanted.

use std::time::Duration;

use axum::{
    body::BodyDataStream,
    http::{HeaderMap, header},
};
use futures::StreamExt;

/// Bytes of an unwanted body that are still read.
pub const MAX_DRAIN_BYTES: usize = 64 << 20;
/// And for so long.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads the rest of a body: most clients see no answer before they have sent all of it.
pub async fn drain(headers: &HeaderMap, parts: &mut BodyDataStream) {
    // Who waits to be told to send anything is not told.
    if headers.contains_key(header::EXPECT) {
        return;
    }
    let read = async {
        let mut left = MAX_DRAIN_BYTES;
        while let Some(Ok(part)) = parts.next().await {
            left = left.saturating_sub(part.len());
            if left == 0 {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, read).await;
}
