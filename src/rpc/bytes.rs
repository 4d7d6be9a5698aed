//! `cat`: the bytes of files.

use std::{collections::VecDeque, ops::Range};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderName, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::{Stream, stream};

use super::{Rpc, args::Args, error::Error, path};
use crate::content::{self, CidPath, Content, Reader};

/// Returns the bytes of files one after the other, of which `offset` are left out, and `length` returned at most.
pub async fn cat(State(rpc): State<Rpc>, args: Args) -> Result<Response, Error> {
    let (offset, length) = (args.option::<i64>("offset")?, args.option::<i64>("length")?);
    let mut skipped = not_negative(offset, "offset")?.unwrap_or(0);
    let mut left = not_negative(length, "length")?.unwrap_or(u64::MAX);
    let texts = args.required("ipfs-path")?;
    if let [text] = texts {
        let (at, end) = (path::resolve(&rpc, text).await?, skipped.saturating_add(left));
        let reader = rpc.content().open_range_at(&at, skipped..end).await?;
        let length = reader.size();
        let parts = Parts { content: rpc.content().clone(), parts: VecDeque::new(), reader: Some(reader) };
        return Ok(answer(length, parts));
    }
    let mut parts = VecDeque::new();
    for text in texts {
        let at = path::resolve(&rpc, text).await?;
        let size = rpc.content().stat(&at).await?.size;
        let start = skipped.min(size);
        let end = start.saturating_add(left).min(size);
        (skipped, left) = (skipped - start, left - (end - start));
        if start < end {
            parts.push_back((at, start..end));
        }
    }
    let length: u64 = parts.iter().map(|(_, range)| range.end - range.start).sum();
    let mut parts = Parts { content: rpc.content().clone(), parts, reader: None };
    // What fails before the first bytes can be told.
    parts.open_next().await?;
    Ok(answer(length, parts))
}

fn answer(length: u64, parts: Parts) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/plain".to_string()),
        (header::CONTENT_LENGTH, length.to_string()),
        (HeaderName::from_static("x-content-length"), length.to_string()),
        (HeaderName::from_static("x-stream-output"), "1".to_string()),
    ];
    (headers, Body::from_stream(parts.into_stream())).into_response()
}

/// Ranges of files one after the other, of which one is open.
struct Parts {
    content: Content,
    parts: VecDeque<(CidPath, Range<u64>)>,
    reader: Option<Reader>,
}

impl Parts {
    async fn open_next(&mut self) -> Result<(), content::Error> {
        self.reader = None;
        if let Some((at, range)) = self.parts.pop_front() {
            self.reader = Some(self.content.open_range_at(&at, range).await?);
        }
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Bytes>, content::Error> {
        while let Some(reader) = &mut self.reader {
            match reader.next().await.transpose()? {
                Some(bytes) => return Ok(Some(bytes)),
                None => self.open_next().await?,
            }
        }
        Ok(None)
    }

    /// An error ends the stream, which is aborted then.
    fn into_stream(self) -> impl Stream<Item = Result<Bytes, content::Error>> {
        stream::unfold(Some(self), |parts| async {
            let mut parts = parts?;
            match parts.next().await.transpose()? {
                Ok(bytes) => Some((Ok(bytes), Some(parts))),
                Err(error) => {
                    tracing::warn!("an answer of the RPC broke off: {error}");
                    Some((Err(error), None))
                }
            }
        })
    }
}

fn not_negative(number: Option<i64>, name: &str) -> Result<Option<u64>, Error> {
    let refused = |_| Error::failed(format!("cannot specify negative {name}"));
    number.map(u64::try_from).transpose().map_err(refused)
}

/// An answer of bytes that are in memory.
pub fn whole(media_type: &'static str, bytes: Bytes) -> Response {
    let headers = [(header::CONTENT_TYPE.as_str(), media_type), ("x-stream-output", "1")];
    let length = [("x-content-length", bytes.len().to_string())];
    (headers, length, Body::from(bytes)).into_response()
}
