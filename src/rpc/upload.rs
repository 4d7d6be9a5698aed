//! The files and directories of a multipart body, as Kubo's clients send them: a part for each, a directory before what is in
//! it, with its path as an escaped file name.

mod paced;

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderMap, header},
};
use bytes::Bytes;
use futures::StreamExt;

use super::error::Error;
use crate::http::{DRAIN_TIMEOUT, MAX_DRAIN_BYTES, drain};
use paced::{FieldBytes, Fields};

/// The names of a path, and the bytes of one.
const MAX_DEPTH: usize = 64;
const MAX_NAME_BYTES: usize = 1024;
/// The target of a symbolic link.
const MAX_TARGET_BYTES: usize = 4096;

/// A multipart body.
pub struct UploadedForm {
    parts: Fields,
    stall: Duration,
}

/// A file, a directory or a link.
pub struct UploadPart {
    /// The names of its path.
    pub path: Vec<String>,
    /// What it is.
    pub kind: PartKind,
    /// Its mode in Go's notation, and its time, as the name of the field says them.
    pub stat: PartStat,
    /// Its bytes.
    pub bytes: FieldBytes,
}

/// Mode and time of a part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartStat {
    /// In Go's notation.
    pub mode: Option<u32>,
    /// Seconds since 1970, and nanoseconds.
    pub mtime: Option<(i64, u32)>,
}

impl PartStat {
    /// Reads them from the name of a field, `file?mode=0644&mtime=5`. As in Kubo, the time is 1970 where it is not said.
    fn parse(field: &str) -> Self {
        let Some((_, query)) = field.split_once('?') else { return Self::default() };
        let text = |key: &str| {
            let mut pairs = form_urlencoded::parse(query.as_bytes());
            pairs.find(|(name, _)| name == key).map(|(_, value)| value.into_owned())
        };
        let mode = text("mode").and_then(|mode| u32::from_str_radix(&mode, 8).ok()).filter(|mode| *mode != 0);
        let seconds = text("mtime").map_or(Some(0), |seconds| seconds.parse().ok());
        let nanos =
            text("mtime-nsecs").and_then(|nanos| nanos.parse().ok()).filter(|nanos| *nanos < 1_000_000_000);
        Self { mode, mtime: seconds.map(|seconds| (seconds, nanos.unwrap_or_default())) }
    }
}

/// Kind of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartKind {
    File,
    Directory,
    Link,
}

impl UploadedForm {
    /// Begins to read a body, of which something must come within `stall` at any time. Where `options` were refused, the body is
    /// read to its end all the same: most clients see no answer before.
    pub async fn begin<T>(
        options: Result<T, Error>,
        headers: &HeaderMap,
        body: Body,
        stall: Duration,
    ) -> Result<(T, Self), Error> {
        match options.and_then(|options| Ok((options, boundary(headers)?))) {
            Ok((options, boundary)) => Ok((options, Self { parts: Fields::new(body, boundary), stall })),
            Err(refusal) => {
                drain(headers, &mut body.into_data_stream()).await;
                Err(refusal)
            }
        }
    }

    /// Reads the rest of a body whose parts were refused: most clients see no answer before they have sent all of it.
    pub async fn drain(&mut self) {
        let read = async {
            let mut left = MAX_DRAIN_BYTES;
            while let Ok(Some(mut part)) = self.parts.next().await {
                while let Some(Ok(bytes)) = part.next().await {
                    left = left.saturating_sub(bytes.len());
                    if left == 0 {
                        return;
                    }
                }
            }
        };
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, read).await;
    }

    /// Returns the next part; none at the end.
    pub async fn next(&mut self) -> Result<Option<UploadPart>, Error> {
        let next = tokio::time::timeout(self.stall, self.parts.next()).await;
        let stalled = |_| Error::failed(format!("no bytes received for {} s", self.stall.as_secs()));
        let field = next.map_err(stalled)?.map_err(|error| Error::failed(InvalidBody(error)))?;
        let Some(bytes) = field else { return Ok(None) };
        let head = bytes.head();
        let kind = match head.content_type().map(|media_type| media_type.essence_str()) {
            Some("application/x-directory") => PartKind::Directory,
            Some("application/symlink") => PartKind::Link,
            _ => PartKind::File,
        };
        let path = parse_path(head.file_name().unwrap_or_default())?;
        let stat = PartStat::parse(head.name().unwrap_or_default());
        Ok(Some(UploadPart { path, kind, stat, bytes }))
    }
}

/// The parts of a body cannot be told.
struct InvalidBody(multer::Error);

impl std::fmt::Display for InvalidBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "invalid body: {}", self.0)?;
        match self.0 {
            // Kubo's command line sends the path of a file in a header, without an escape to servers that are not Kubo.
            multer::Error::ReadHeaderFailed(_) => f.write_str(
                ": a header of a part is invalid; a file whose path has a line break is sent like this by Kubo's command line",
            ),
            _ => Ok(()),
        }
    }
}

impl UploadPart {
    /// Returns the next bytes, which come within `stall`; none at the end.
    pub async fn next(&mut self, stall: Duration) -> Result<Option<Bytes>, Error> {
        let next = tokio::time::timeout(stall, self.bytes.next()).await;
        let next = next.map_err(|_| Error::failed(format!("no bytes received for {} s", stall.as_secs())))?;
        next.transpose().map_err(|error| Error::failed(format!("invalid body: {error}")))
    }

    /// Reads all bytes of a part that may have at most `limit`.
    pub async fn read(mut self, limit: usize, stall: Duration) -> Result<Bytes, Error> {
        let mut all = Vec::new();
        while let Some(next) = self.next(stall).await? {
            if all.len() + next.len() > limit {
                return Err(Error::failed(format!(
                    "a part of the body is too large: the limit is {limit} bytes"
                )));
            }
            all.extend_from_slice(&next);
        }
        Ok(all.into())
    }

    /// Reads the target of a link.
    pub async fn target(self, stall: Duration) -> Result<String, Error> {
        let bytes = self.read(MAX_TARGET_BYTES, stall).await?;
        String::from_utf8(bytes.into())
            .map_err(|_| Error::failed("the target of a symbolic link is not UTF-8"))
    }
}

fn boundary(headers: &HeaderMap) -> Result<String, Error> {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let boundary = media_type.and_then(|text| multer::parse_boundary(text).ok());
    boundary.ok_or_else(|| Error::request("file argument \"path\" is required"))
}

/// Splits a file name, which is escaped as in a query.
fn parse_path(file_name: &str) -> Result<Vec<String>, Error> {
    let name = String::from_utf8(unescape(file_name)).map_err(|error| {
        let name = String::from_utf8_lossy(error.as_bytes()).chars().take(100).collect::<String>();
        Error::failed(format!("invalid file name {name:?}: expected UTF-8"))
    })?;
    let names = name.split('/').filter(|name| !matches!(*name, "" | "."));
    let names: Vec<String> = names.map(Into::into).collect();
    let is_valid = |name: &String| name != ".." && name.len() <= MAX_NAME_BYTES && !name.contains('\0');
    match names.len() <= MAX_DEPTH && names.iter().all(is_valid) {
        true => Ok(names),
        false => Err(Error::failed(format!(
            "invalid path {:?}: at most {MAX_DEPTH} names of {MAX_NAME_BYTES} bytes, none of them \"..\"",
            name.chars().take(100).collect::<String>()
        ))),
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        let (next, byte) = match (first, escaped) {
            (b'%', Some(byte)) => (&after[2..], byte),
            (b'+', _) => (after, b' '),
            (byte, _) => (after, *byte),
        };
        out.push(byte);
        rest = next;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mode_and_time_of_a_part_are_in_the_name_of_its_field() {
        for (field, mode, mtime) in [
            ("file", None, None),
            ("file?mode=0644&mtime=5&mtime-nsecs=7", Some(0o644), Some((5, 7))),
            ("file?mtime=-5", None, Some((-5, 0))),
            ("file?mode=020000000755", Some(1 << 31 | 0o755), Some((0, 0))),
            ("file?mode=9&mtime=x", None, None),
        ] {
            assert_eq!(PartStat::parse(field), PartStat { mode, mtime }, "{field}");
        }
    }

    #[test]
    fn the_path_of_a_part_is_unescaped_and_never_leads_upwards() {
        for (file_name, path) in [
            ("", &[][..]),
            ("file", &["file"]),
            ("d%2Fsub%2Fa+b%20c", &["d", "sub", "a b c"]),
            ("/abs/./x//y/", &["abs", "x", "y"]),
            ("100%", &["100%"]),
            ("%zz%C3%A4", &["%zzä"]),
        ] {
            assert_eq!(parse_path(file_name).unwrap(), path, "{file_name}");
        }
        assert_eq!(parse_path("new%0Aline").unwrap(), ["new\nline"]);
        assert_eq!(
            parse_path("a%FFb").unwrap_err().message(),
            "invalid file name \"a\u{fffd}b\": expected UTF-8"
        );
        for file_name in ["..", "a%2F..%2Fb", "a%00", &"x".repeat(1025), &"a/".repeat(65)] {
            assert!(parse_path(file_name).is_err(), "{file_name}");
        }
    }
}
