//! The gzip members of a layer: compressed on all cores, written in their order.

use std::{
    collections::VecDeque,
    io::{self, Write},
    thread::{self, JoinHandle},
};

use ocipfs_oci::Digest;

use super::{
    Error,
    toc::{Toc, TocBuilder, TocItem},
};
use crate::images::pack::gzip;

/// Members beyond one a core.
const EXTRA_MEMBERS: usize = 2;
/// A shorter member costs less than a thread.
const SHORT_BYTES: usize = 16 << 10;

/// What takes the members of a layer.
pub struct Members<W> {
    out: W,
    /// Bytes that were written.
    offset: u64,
    /// Those that are being compressed, oldest first.
    running: VecDeque<Member>,
    limit: usize,
    toc: TocBuilder,
}

/// A member, and what begins in it.
struct Member {
    compressed: Work,
    items: Vec<TocItem>,
}

enum Work {
    Done(Compressed),
    Running(JoinHandle<io::Result<Compressed>>),
}

struct Compressed {
    member: Vec<u8>,
    /// The digest of the bytes of a file in it.
    chunk: Option<Digest>,
}

impl<W: Write> Members<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        let limit = thread::available_parallelism().map_or(1, usize::from) + EXTRA_MEMBERS;
        Self { out, offset: 0, running: VecDeque::new(), limit, toc: TocBuilder::default() }
    }

    /// Takes the bytes of a member, of which the first `chunk` are of a file.
    pub fn submit(&mut self, bytes: Vec<u8>, chunk: usize, items: Vec<TocItem>) -> Result<(), Error> {
        if self.running.len() >= self.limit {
            self.write_oldest()?;
        }
        let compressed = match bytes.len() < SHORT_BYTES {
            true => Work::Done(compress(&bytes, chunk)?),
            false => {
                let thread = thread::Builder::new().name("estargz".into());
                Work::Running(thread.spawn(move || compress(&bytes, chunk))?)
            }
        };
        self.running.push_back(Member { compressed, items });
        Ok(())
    }

    fn write_oldest(&mut self) -> Result<(), Error> {
        let Some(Member { compressed, items }) = self.running.pop_front() else { return Ok(()) };
        let Compressed { member, chunk } = match compressed {
            Work::Done(compressed) => compressed,
            Work::Running(thread) => {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?
            }
        };
        for item in items {
            self.toc.add(item, self.offset, chunk.as_ref())?;
        }
        self.out.write_all(&member)?;
        self.offset += member.len() as u64;
        Ok(())
    }

    /// Writes those that are left. Returns the table of contents and where it comes.
    pub fn finish(mut self) -> Result<(Toc, u64, W), Error> {
        while !self.running.is_empty() {
            self.write_oldest()?;
        }
        Ok((self.toc.finish()?, self.offset, self.out))
    }
}

fn compress(bytes: &[u8], chunk: usize) -> io::Result<Compressed> {
    let chunk = (chunk > 0).then(|| Digest::sha256_of(&bytes[..chunk]));
    Ok(Compressed { member: gzip::member(bytes)?, chunk })
}
