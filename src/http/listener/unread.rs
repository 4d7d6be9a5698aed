//! HTTP/2: bytes of answers that wait in a connection because the client opens no window for them. Its frames for other purposes
//! still pass, so the stream below makes progress.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::time::{Instant, sleep, sleep_until};

use crate::{content, http::lock::locked};

/// Maximum size of a frame given to a connection: a client that reads at all takes it within the stall
/// timeout.
const MAX_FRAME_BYTES: usize = 32 << 10;

/// Frames that one connection has not sent yet, by number, and since when they wait. Clones share it.
#[derive(Clone, Default)]
pub struct Unread(Arc<Mutex<UnreadResponses>>);

#[derive(Default)]
struct UnreadResponses {
    counter: u64,
    since: BTreeMap<u64, Instant>,
}

impl Unread {
    fn locked(&self) -> MutexGuard<'_, UnreadResponses> {
        locked(&self.0)
    }

    /// Waits until some bytes have waited for so long.
    pub async fn stalls(&self, limit: Duration) {
        loop {
            let oldest = self.locked().since.first_key_value().map(|(_, since)| *since);
            match oldest {
                Some(since) if since.elapsed() >= limit => return,
                Some(since) => sleep_until(since + limit).await,
                None => sleep(limit).await,
            }
        }
    }

    /// Watches the bytes of an answer.
    pub fn watch(&self, body: Body) -> Body {
        Body::new(Watched { body, rest: Bytes::new(), unread: self.clone() })
    }

    fn note(&self, bytes: Bytes) -> Bytes {
        let mut waiting = self.locked();
        waiting.counter += 1;
        let number = waiting.counter;
        waiting.since.insert(number, Instant::now());
        content::hold(bytes, Noted { number, unread: self.clone() })
    }
}

/// An entry of the list, which goes when the connection has sent the bytes.
struct Noted {
    number: u64,
    unread: Unread,
}

impl Drop for Noted {
    fn drop(&mut self) {
        self.unread.locked().since.remove(&self.number);
    }
}

struct Watched {
    body: Body,
    /// Bytes that came from the body and that the connection has not taken yet.
    rest: Bytes,
    unread: Unread,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)).map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(bytes))) => self.rest = bytes,
                Some(Ok(Err(other))) => return Poll::Ready(Some(Ok(other))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        let length = self.rest.len().min(MAX_FRAME_BYTES);
        let bytes = self.rest.split_to(length);
        Poll::Ready(Some(Ok(Frame::data(self.unread.note(bytes)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, mut hint) = (self.rest.len() as u64, self.body.size_hint());
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, StreamExt};

    use super::*;

    #[tokio::test]
    async fn unread_response_bytes_are_counted_until_the_connection_drops_them() {
        let (unread, bytes) = (Unread::default(), vec![7; 100_000]);
        let body = unread.watch(Body::from(bytes.clone()));
        assert_eq!(body.size_hint().exact(), Some(100_000));
        let mut frames = body.into_data_stream();
        let (mut came, mut lengths) = (Vec::new(), Vec::new());
        while let Some(frame) = frames.next().await {
            let frame = frame.unwrap();
            assert!(unread.stalls(Duration::from_secs(60)).now_or_never().is_none(), "it waits for a moment");
            unread.stalls(Duration::ZERO).now_or_never().expect("it waits");
            came.extend_from_slice(&frame);
            lengths.push(frame.len());
            let part = frame.slice(1..2);
            drop(frame);
            unread.stalls(Duration::ZERO).now_or_never().expect("a part of it waits");
            drop(part);
            assert!(unread.stalls(Duration::ZERO).now_or_never().is_none(), "nothing waits");
        }
        assert!(came == bytes && lengths == [32 << 10, 32 << 10, 32 << 10, 100_000 - (96 << 10)]);
    }
}
