//! Answers: one object, a stream of objects as lines, or bytes.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::{
    body::{Body, HttpBody},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http_body::Frame;
use serde::Serialize;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::{cids::CidForm, error::Error};
use crate::content::View;

/// Objects of an answer that wait for the client, and pieces of bytes, which may be whole blocks.
const OBJECTS_QUEUED: usize = 64;
const BYTES_QUEUED: usize = 4;
/// The trailer that tells of an error after the first bytes.
const STREAM_ERROR: HeaderName = HeaderName::from_static("x-stream-error");
const EXPOSED: &str = "X-Stream-Output, X-Chunked-Output, X-Content-Length";

/// The form of a stream.
#[derive(Clone, Copy, Debug)]
pub enum Stream {
    /// JSON objects, one in a line.
    Objects,
    /// Bytes of this media type.
    Bytes(&'static str),
}

/// Takes the pieces of an answer while the command runs.
#[derive(Clone)]
pub struct Output(Sender<Result<Bytes, Error>>);

impl Output {
    /// Sends bytes.
    ///
    /// # Errors
    /// Fails when the client has left.
    pub async fn bytes(&self, bytes: Bytes) -> Result<(), Error> {
        self.0.send(Ok(bytes)).await.map_err(|_| Error::failed("the client closed the connection"))
    }

    /// Sends an object as a line.
    ///
    /// # Errors
    /// Fails when the client has left.
    pub async fn object(&self, object: &impl Serialize) -> Result<(), Error> {
        let mut line = serde_json::to_vec(object).map_err(Error::failed)?;
        line.push(b'\n');
        self.bytes(line.into()).await
    }

    /// Sends an object if there is room for it.
    pub fn try_object(&self, object: &impl Serialize) {
        if let Ok(mut line) = serde_json::to_vec(object) {
            line.push(b'\n');
            let _ = self.0.try_send(Ok(line.into()));
        }
    }

    /// Sends bytes from a thread that may block.
    ///
    /// # Errors
    /// Fails when the client has left.
    pub fn blocking_bytes(&self, bytes: Bytes) -> Result<(), Error> {
        self.0.blocking_send(Ok(bytes)).map_err(|_| Error::failed("the client closed the connection"))
    }
}

/// Runs a command that sends its answer piece by piece, in a task of its own: what a client that goes away has begun is
/// ended in order. An error before the first piece is answered as such. Later ones break the connection off; a client that
/// sends `TE: trailers` is told the reason.
pub async fn stream<F: Future<Output = Result<(), Error>> + Send + 'static>(
    form: Stream,
    headers: &HeaderMap,
    work: impl FnOnce(Output) -> F,
) -> Result<Response, Error> {
    let (pieces, mut waiting) = channel(match form {
        Stream::Objects => OBJECTS_QUEUED,
        Stream::Bytes(_) => BYTES_QUEUED,
    });
    let work = work(Output(pieces.clone()));
    let work = async move {
        if let Err(error) = work.await {
            let _ = pieces.send(Err(error)).await;
        }
    };
    tokio::spawn(CidForm::current().scope(View::current().scope(work)));
    let first = waiting.recv().await.transpose()?;
    let takes_trailers = headers.get(header::TE).is_some_and(|te| te.as_bytes().starts_with(b"trailers"));
    let body = Body::new(Pieces { first, waiting, takes_trailers, has_ended: false });
    let (media_type, name) = match form {
        Stream::Objects => ("application/json", "x-chunked-output"),
        Stream::Bytes(media_type) => (media_type, "x-stream-output"),
    };
    let headers = [
        (header::CONTENT_TYPE, media_type),
        (header::TRAILER, "X-Stream-Error"),
        (HeaderName::from_static(name), "1"),
    ];
    Ok((headers, body).into_response())
}

/// Answers with an empty stream of objects.
pub fn no_objects() -> Response {
    let headers = [(header::CONTENT_TYPE.as_str(), "application/json"), ("x-chunked-output", "1")];
    (headers, Body::empty()).into_response()
}

/// Headers of all answers.
pub async fn common_headers(mut response: Response) -> Response {
    const SERVER: &str = concat!("ocipfs/", env!("CARGO_PKG_VERSION"));
    let headers = response.headers_mut();
    for (name, value) in [
        (header::SERVER, SERVER),
        (header::VARY, "Origin"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, EXPOSED),
        (header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// The body of a stream.
struct Pieces {
    first: Option<Bytes>,
    waiting: Receiver<Result<Bytes, Error>>,
    takes_trailers: bool,
    has_ended: bool,
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        if self.has_ended {
            return Poll::Ready(None);
        }
        let next = ready!(self.waiting.poll_recv(cx));
        Poll::Ready(match next {
            Some(Ok(piece)) => Some(Ok(Frame::data(piece))),
            None => None,
            Some(Err(error)) => {
                tracing::warn!("an answer of the RPC broke off: {error}");
                self.has_ended = true;
                match self.takes_trailers {
                    true => Some(Ok(Frame::trailers(trailers(&error)))),
                    false => Some(Err(error)),
                }
            }
        })
    }
}

fn trailers(error: &Error) -> HeaderMap {
    let text: String =
        error.message().chars().map(|c| if c.is_control() || !c.is_ascii() { '?' } else { c }).collect();
    let value = HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("error"));
    HeaderMap::from_iter([(STREAM_ERROR, value)])
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    async fn frames(te: Option<&'static str>) -> Vec<Result<Frame<Bytes>, axum::Error>> {
        let headers = te.map(|te| (header::TE, HeaderValue::from_static(te)));
        let headers = HeaderMap::from_iter(headers);
        let answer = stream(Stream::Objects, &headers, |output| async move {
            output.object(&1).await?;
            Err(Error::failed("later\n"))
        });
        let answer = answer.await.unwrap();
        assert_eq!(
            (&answer.headers()["trailer"], &answer.headers()["x-chunked-output"]),
            (&"X-Stream-Error".parse().unwrap(), &"1".parse().unwrap())
        );
        let (mut body, mut frames) = (answer.into_body(), Vec::new());
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            let is_last = frame.is_err();
            frames.push(frame);
            if is_last {
                break;
            }
        }
        frames
    }

    #[tokio::test]
    async fn a_late_error_breaks_the_stream_off_or_is_a_trailer_for_a_client_that_takes_them() {
        let plain = frames(None).await;
        assert_eq!(plain[0].as_ref().unwrap().data_ref().unwrap(), "1\n");
        assert!(plain.len() == 2 && plain[1].is_err(), "{plain:?}");
        let with_trailers = frames(Some("trailers")).await;
        let trailers = with_trailers[1].as_ref().unwrap().trailers_ref().unwrap();
        assert_eq!((with_trailers.len(), &trailers["x-stream-error"]), (2, &"later?".parse().unwrap()));
    }

    #[tokio::test]
    async fn an_error_before_the_first_piece_is_the_answer() {
        let failed = async |_: Output| Err(Error::failed("at once"));
        let answer = stream(Stream::Bytes("text/plain"), &HeaderMap::new(), failed).await;
        assert_eq!(answer.unwrap_err(), Error::failed("at once"));
        let empty = async |_: Output| Ok(());
        assert!(stream(Stream::Objects, &HeaderMap::new(), empty).await.is_ok());
    }
}
