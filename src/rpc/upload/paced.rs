//! A body that is read a piece at a time. The parser of multipart bodies takes all that there is before it passes anything on, so
//! the body rests after each piece; what waits for the parser polls it again then, instead of having the task woken for it, which
//! would move the task from core to core with every piece.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use futures::{Stream, future::poll_fn};
use multer::{Field, Multipart};

/// Whether a body has only rested since the parser was polled.
#[derive(Clone, Default)]
struct Rest(Arc<AtomicBool>);

impl Rest {
    fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Polls the parser until it has something, or the body waits for bytes.
    fn poll<T>(&self, mut parser: impl FnMut() -> Poll<T>) -> Poll<T> {
        loop {
            let polled = parser();
            if polled.is_ready() || !self.0.swap(false, Ordering::Relaxed) {
                return polled;
            }
        }
    }
}

/// Gives one piece of a body for each time that it is polled to its end.
struct PacedBody {
    body: BodyDataStream,
    has_given: bool,
    rest: Rest,
}

impl Stream for PacedBody {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if std::mem::take(&mut self.has_given) {
            self.rest.begin();
            return Poll::Pending;
        }
        let next = Pin::new(&mut self.body).poll_next(cx);
        self.has_given = next.is_ready();
        next
    }
}

/// The parts of a body.
pub struct Fields {
    parser: Multipart<'static>,
    rest: Rest,
}

impl Fields {
    /// Begins to read a body.
    pub fn new(body: Body, boundary: String) -> Self {
        let rest = Rest::default();
        let paced = PacedBody { body: body.into_data_stream(), has_given: false, rest: rest.clone() };
        Self { parser: Multipart::new(paced, boundary), rest }
    }

    /// Returns the next part, and its bytes; none at the end.
    pub async fn next(&mut self) -> Result<Option<FieldBytes>, multer::Error> {
        let Self { parser, rest } = self;
        let field = poll_fn(|cx| rest.poll(|| parser.poll_next_field(cx))).await?;
        Ok(field.map(|field| FieldBytes { field, rest: rest.clone() }))
    }
}

/// The bytes of a part.
pub struct FieldBytes {
    field: Field<'static>,
    rest: Rest,
}

impl FieldBytes {
    /// The head of the part.
    pub fn head(&self) -> &Field<'static> {
        &self.field
    }
}

impl Stream for FieldBytes {
    type Item = Result<Bytes, multer::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { field, rest } = &mut *self;
        rest.poll(|| Pin::new(&mut *field).poll_next(cx))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::{StreamExt, stream};

    use super::*;

    const HEAD: &str = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n";

    /// A body in pieces of so many bytes, with a wait before each.
    fn body(bytes: &[u8], piece: usize) -> Body {
        let pieces: Vec<_> = bytes.chunks(piece).map(Bytes::copy_from_slice).collect();
        Body::from_stream(stream::iter(pieces).then(|piece| async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok::<_, std::io::Error>(piece)
        }))
    }

    #[tokio::test(start_paused = true)]
    async fn multipart_pieces_of_any_length_arrive_whole() {
        let content = (0..5000).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect::<Vec<_>>();
        let mut bytes = Vec::new();
        for part in [&content[..], b"", &content[..10]] {
            bytes.extend_from_slice(HEAD.as_bytes());
            bytes.extend_from_slice(part);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"--b--\r\n");
        for piece in [1, 7, 100, 4096, bytes.len()] {
            let mut fields = Fields::new(body(&bytes, piece), "b".into());
            let mut lengths = Vec::new();
            while let Some(mut field) = fields.next().await.unwrap() {
                let mut part = Vec::new();
                while let Some(next) = field.next().await {
                    part.extend_from_slice(&next.unwrap());
                }
                assert!(part == content[..part.len()], "pieces of {piece} bytes");
                lengths.push(part.len());
            }
            assert_eq!(lengths, [5000, 0, 10], "pieces of {piece} bytes");
        }
    }
}
