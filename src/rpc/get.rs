//! `get`: files and directories as a tar archive, or a file compressed.

use std::{
    io::{self, Write},
    time::SystemTime,
};

use axum::{
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue},
    response::Response,
};
use flate2::{Compression, write::GzEncoder};
use futures::future::BoxFuture;
use tar::{Builder, EntryType, Header};
use tokio::runtime::Handle;

use super::{
    Rpc,
    args::Args,
    error::Error,
    path,
    reply::{self, Output, Stream},
};
use crate::content::{BlockingReader, CidPath, Content, EntryKind, Metadata, View};

/// Directories below each other.
const MAX_DEPTH: usize = 64;
/// Bytes that are sent together.
const PIECE_BYTES: usize = 64 << 10;
const DEFAULT_LEVEL: u32 = 6;

/// Returns what a path leads to.
pub async fn get(State(rpc): State<Rpc>, args: Args, headers: HeaderMap) -> Result<Response, Error> {
    let text = args.one(0, "ipfs-path")?;
    let at = path::resolve(&rpc, text).await?;
    let entry = rpc.content().entry(&at).await?;
    // An error in the middle of the archive would say less.
    rpc.content().check_stored(entry.root.cid).await?;
    let is_file = entry.kind == EntryKind::File;
    let compresses = args.is_set("compress")?;
    let level = args.option::<u32>("compression-level")?.unwrap_or(DEFAULT_LEVEL);
    if compresses && !(1..=9).contains(&level) {
        return Err(Error::failed("compression level must be between 1 and 9"));
    }
    let is_bare = is_file && compresses && !args.is_set("archive")?;
    let name = text.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
    let media_type = if compresses { "application/gzip" } else { "application/x-tar" };
    let length = if is_file { entry.root.size } else { entry.root.dag_size };
    let answer = reply::stream(Stream::Bytes(media_type), &headers, |output| async move {
        let _turn = rpc.turn().await?;
        let content = rpc.content().clone();
        let _guard = content.gc_guard().await;
        let write = move || {
            let pieces = PieceWriter { output, piece: Vec::with_capacity(PIECE_BYTES) };
            let level = Compression::new(level);
            match (compresses, is_bare) {
                (true, true) => bare(&content, &at, GzEncoder::new(pieces, level))?.finish()?.finish(),
                (true, false) => {
                    archive(&content, &at, &name, GzEncoder::new(pieces, level))?.finish()?.finish()
                }
                (false, _) => archive(&content, &at, &name, pieces)?.finish(),
            }
        };
        let view = View::current();
        let written = tokio::task::spawn_blocking(move || view.enter(write)).await.map_err(Error::failed)?;
        written.map_err(Error::failed)
    });
    let mut answer = answer.await?;
    let name = HeaderName::from_static("x-content-length");
    answer.headers_mut().insert(name, HeaderValue::from(length));
    Ok(answer)
}

/// Writes the bytes of a file.
fn bare<W: Write>(content: &Content, at: &CidPath, mut to: W) -> io::Result<W> {
    io::copy(&mut open(content, at)?, &mut to)?;
    Ok(to)
}

fn archive<W: Write>(content: &Content, at: &CidPath, name: &str, to: W) -> io::Result<W> {
    let mut tar = Builder::new(to);
    append(content, &mut tar, at, name, 0)?;
    tar.into_inner()
}

fn append<W: Write>(
    content: &Content,
    tar: &mut Builder<W>,
    at: &CidPath,
    name: &str,
    depth: usize,
) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(io::Error::other(format!("directories deeper than {MAX_DEPTH} levels")));
    }
    let entry = wait(Box::pin(content.entry(at)))?;
    if let Some(time) = entry.metadata.mtime.and_then(exact_time) {
        tar.append_pax_extensions([("mtime", time.as_bytes())])?;
    }
    let mut header = header(entry.kind, entry.metadata);
    match entry.kind {
        EntryKind::File => {
            header.set_size(entry.root.size);
            header.set_entry_type(EntryType::Regular);
            tar.append_data(&mut header, name, open(content, at)?)
        }
        EntryKind::Link => {
            header.set_entry_type(EntryType::Symlink);
            let target = wait(Box::pin(content.link_target(at)))?;
            tar.append_link(&mut header, name, target)
        }
        EntryKind::Directory => {
            header.set_entry_type(EntryType::Directory);
            tar.append_data(&mut header, name, io::empty())?;
            for (entry, cid) in wait(Box::pin(content.directory_entries(at)))? {
                let is_safe = !matches!(entry.as_str(), "" | "." | "..") && !entry.contains(['/', '\0']);
                if !is_safe {
                    return Err(io::Error::other(format!("{at}: invalid name {entry:?} in the directory")));
                }
                let below = CidPath::from(cid).with_search_root(at.search_root());
                append(content, tar, &below, &format!("{name}/{entry}"), depth + 1)?;
            }
            Ok(())
        }
    }
}

/// Returns the header of an entry. The time is now where none is stored, and the mode that of Kubo.
fn header(kind: EntryKind, metadata: Metadata) -> Header {
    let mut header = Header::new_gnu();
    let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let seconds = metadata.mtime.map(|(seconds, _)| u64::try_from(seconds).unwrap_or_default());
    header.set_mtime(seconds.unwrap_or_else(now));
    // As Kubo: nothing but permissions, and none are none.
    let mode = metadata.mode.map(|mode| mode & 0o7777).filter(|mode| *mode != 0);
    header.set_mode(mode.unwrap_or(match kind {
        EntryKind::File => 0o644,
        EntryKind::Directory => 0o755,
        EntryKind::Link => 0o777,
    }));
    header.set_size(0);
    header
}

/// Returns a time that a header has no room for as a PAX record: with nanoseconds, or before 1970.
fn exact_time((seconds, nanos): (i64, u32)) -> Option<String> {
    match (seconds, nanos) {
        (0.., 0) => None,
        (_, 0) => Some(seconds.to_string()),
        (0.., _) => Some(format!("{seconds}.{nanos:09}")),
        _ => Some(format!("-{}.{:09}", (seconds + 1).unsigned_abs(), 1_000_000_000 - nanos.min(999_999_999))),
    }
}

/// Waits for content, on a thread that may block.
fn wait<T>(work: BoxFuture<'_, Result<T, crate::content::Error>>) -> io::Result<T> {
    Handle::current().block_on(work).map_err(io::Error::other)
}

fn open(content: &Content, at: &CidPath) -> io::Result<BlockingReader> {
    Ok(wait(Box::pin(content.open_at(at)))?.into())
}

/// Sends what is written, in pieces.
struct PieceWriter {
    output: Output,
    piece: Vec<u8>,
}

impl PieceWriter {
    fn finish(mut self) -> io::Result<()> {
        self.flush()
    }
}

impl Write for PieceWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = std::mem::take(&mut self.piece);
        match piece.is_empty() {
            true => Ok(()),
            false => self.output.blocking_bytes(piece.into()).map_err(io::Error::other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_with_nanoseconds_or_before_1970_is_a_pax_record() {
        for (time, text) in [
            ((0, 0), None),
            ((5, 0), None),
            ((5, 7), Some("5.000000007")),
            ((-5, 0), Some("-5")),
            ((-5, 7), Some("-4.999999993")),
            ((-1, 500_000_000), Some("-0.500000000")),
        ] {
            assert_eq!(exact_time(time).as_deref(), text, "{time:?}");
        }
    }
}
