//! The memory of answers that are made whole, such as manifests and lists, until their clients have taken them.

use std::sync::Arc;

use axum::{
    body::{Body, HttpBody, to_bytes},
    extract::State,
    response::Response,
};
use tokio::sync::Semaphore;

use super::error::ApiError;
use crate::content;

/// Limit for all of them at one time, without the short ones.
const TOTAL_BYTES: usize = 32 << 20;
/// Shorter answers are not counted: there is one for each connection at most.
const SHORT_BYTES: usize = 64 << 10;

/// Memory budget of such responses. Clones share it.
#[derive(Clone, Debug)]
pub struct ResponseBudget(Arc<Semaphore>);

impl Default for ResponseBudget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(TOTAL_BYTES)))
    }
}

/// Counts an answer until it is sent, and refuses it where clients leave too much unread.
pub async fn count(State(documents): State<ResponseBudget>, answer: Response) -> Result<Response, ApiError> {
    let length = answer.body().size_hint().exact().and_then(|length| usize::try_from(length).ok());
    let Some(length) = length.filter(|length| *length > SHORT_BYTES) else { return Ok(answer) };
    let units = u32::try_from(length).unwrap_or(u32::MAX);
    let Ok(room) = documents.0.try_acquire_many_owned(units) else {
        return Err(ApiError::busy("too many responses are waiting for slow clients: try again later"));
    };
    let (parts, body) = answer.into_parts();
    // It is in memory already.
    let bytes = to_bytes(body, length).await.map_err(ApiError::body)?;
    Ok(Response::from_parts(parts, Body::from(content::hold(bytes, room))))
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;

    use super::*;

    #[tokio::test]
    async fn unread_manifests_take_bounded_memory_and_exceeding_it_is_503_with_retry_after() {
        let documents = ResponseBudget::default();
        let large = || count(State(documents.clone()), vec![7; 4 << 20].into_response());
        let mut unread = Vec::new();
        for _ in 0..TOTAL_BYTES / (4 << 20) {
            unread.push(large().await.expect("there is memory for it"));
        }
        let refused = large().await.expect_err("one too many").into_response();
        assert_eq!(refused.status(), 503);
        assert!(refused.headers().contains_key("retry-after"));
        count(State(documents.clone()), vec![7; SHORT_BYTES].into_response()).await.expect("it is short");
        let body = unread.pop().expect("an answer").into_body();
        assert!(to_bytes(body, usize::MAX).await.unwrap() == vec![7; 4 << 20]);
        large().await.expect("one was read");
    }
}
