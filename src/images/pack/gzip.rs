//! The gzip encoder `ocipfs-gzip-2`: many cores, one member, the same bytes everywhere.
//!
//! The input is cut into blocks of 1 MiB. Each block is compressed alone at level 5, without a
//! dictionary, and ends on a byte boundary by a sync flush (RFC 1951, 3.2.4), the last one by a
//! final block; so the blocks follow each other in one deflate stream, which every client reads.
//! Where the blocks are cut and how each one is compressed depends on the input alone.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::thread::{self, JoinHandle};

use flate2::{Compress, Compression, FlushCompress, Status};

#[cfg(test)]
mod tests;

/// Names the encoder: whatever changes its bytes changes this name.
pub const ENCODER: &str = "ocipfs-gzip-2";

const BLOCK: usize = 1 << 20;
/// Blocks beyond one a core: no core has nothing to do while the oldest is written and the next is read.
const EXTRA_BLOCKS: usize = 2;
/// At which zlib-rs is as quick as the encoder of skopeo and docker at their level 6, and its output smaller.
pub(super) const LEVEL: u32 = 5;

/// RFC 1952, 2.3: deflate, no flags, no time, no extra flags, unknown operating system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// Compresses what is written to it, on all cores, in bounded memory.
///
/// Only [`finish`](Self::finish) completes the member: one that is dropped before leaves a
/// truncated file, which no reader takes for a whole layer.
pub struct GzipWriter<W: Write> {
    inner: W,
    block: Vec<u8>,
    /// The blocks being compressed, oldest first; never more than `limit`.
    running: VecDeque<JoinHandle<io::Result<Deflated>>>,
    limit: usize,
    block_size: usize,
    checksum: crc32fast::Hasher,
    /// Modulo 2^32, as the trailer keeps it (RFC 1952, 2.3.1).
    length: u32,
    started: bool,
}

impl<W: Write> GzipWriter<W> {
    /// Writes to `inner`, which gets nothing before the first block is compressed.
    pub fn new(inner: W) -> Self {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        Self::with_shape(inner, threads + EXTRA_BLOCKS, BLOCK)
    }

    fn with_shape(inner: W, threads: usize, block_size: usize) -> Self {
        Self {
            inner,
            block: Vec::new(),
            running: VecDeque::new(),
            limit: threads,
            block_size,
            checksum: crc32fast::Hasher::new(),
            length: 0,
            started: false,
        }
    }

    /// Ends the member and gives the inner writer back, flushed.
    pub fn finish(mut self) -> io::Result<W> {
        self.submit(FlushCompress::Finish)?;
        while let Some(oldest) = self.running.pop_front() {
            self.emit(oldest)?;
        }
        let checksum = self.checksum.finalize();
        self.inner.write_all(&checksum.to_le_bytes())?;
        self.inner.write_all(&self.length.to_le_bytes())?;
        self.inner.flush()?;
        Ok(self.inner)
    }

    fn submit(&mut self, end: FlushCompress) -> io::Result<()> {
        if self.running.len() >= self.limit
            && let Some(oldest) = self.running.pop_front()
        {
            self.emit(oldest)?;
        }
        let block = std::mem::take(&mut self.block);
        // A thread costs microseconds and a block milliseconds: no pool is needed.
        let thread = thread::Builder::new().name("gzip".into());
        self.running.push_back(thread.spawn(move || deflate(&block, end))?);
        Ok(())
    }

    fn emit(&mut self, oldest: JoinHandle<io::Result<Deflated>>) -> io::Result<()> {
        let deflated = oldest.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        if !std::mem::replace(&mut self.started, true) {
            self.inner.write_all(&HEADER)?;
        }
        self.checksum.combine(&deflated.checksum);
        self.inner.write_all(&deflated.bytes)
    }
}

impl<W: Write> Write for GzipWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        // A full block waits for the byte after it: only then is it known not to be the last.
        if self.block.len() == self.block_size {
            self.submit(FlushCompress::Sync)?;
        }
        if self.block.capacity() == 0 {
            self.block.reserve_exact(self.block_size);
        }
        let taken = bytes.len().min(self.block_size - self.block.len());
        self.block.extend_from_slice(&bytes[..taken]);
        self.length = self.length.wrapping_add(taken as u32);
        Ok(taken)
    }

    /// Flushes the inner writer only: a flush that cut a block would change the bytes.
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Compresses `bytes` as a member of their own.
pub(super) fn member(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let Deflated { bytes: deflated, checksum } = deflate(bytes, FlushCompress::Finish)?;
    let mut member = Vec::with_capacity(HEADER.len() + deflated.len() + 8);
    member.extend_from_slice(&HEADER);
    member.extend_from_slice(&deflated);
    member.extend_from_slice(&checksum.finalize().to_le_bytes());
    member.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    Ok(member)
}

struct Deflated {
    bytes: Vec<u8>,
    checksum: crc32fast::Hasher,
}

fn deflate(block: &[u8], end: FlushCompress) -> io::Result<Deflated> {
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(block);
    let mut encoder = Compress::new(Compression::new(LEVEL), false);
    let mut bytes = Vec::with_capacity(block.len() / 2 + 1024);
    loop {
        let read = encoder.total_in() as usize;
        let status = encoder.compress_vec(&block[read..], &mut bytes, end)?;
        let room = bytes.len() < bytes.capacity();
        if status == Status::StreamEnd || (room && !matches!(end, FlushCompress::Finish)) {
            return Ok(Deflated { bytes, checksum });
        }
        bytes.reserve(block.len() / 4 + 1024);
    }
}
