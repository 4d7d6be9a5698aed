//! The bytes of a file, stored or arriving, and the memory they are read into.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, ErrorKind},
    os::unix::fs::FileExt,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use bytes::Bytes;

/// Buffers kept for the next reads: enough for two streams, with blocks of 1 MiB.
const MAX_SPARE: usize = 16;
/// Shorter reads are not worth a buffer of their own kind.
const MIN_BUFFER_BYTES: usize = 64 << 10;
/// Longer buffers are not kept.
const MAX_BUFFER_BYTES: usize = 2 << 20;
/// Files kept open for the next reads.
const MAX_OPEN: usize = 128;

/// Where the bytes of a file are.
#[derive(Clone, Debug)]
pub enum OpenBytes {
    File(Arc<File>),
    Bytes(Bytes),
}

impl OpenBytes {
    /// How many bytes there are.
    pub fn length(&self) -> io::Result<u64> {
        match self {
            Self::File(file) => Ok(file.metadata()?.len()),
            Self::Bytes(bytes) => Ok(bytes.len() as u64),
        }
    }

    /// When the file was written to last; none of bytes in memory.
    pub fn written(&self) -> Option<SystemTime> {
        match self {
            Self::File(file) => file.metadata().ok()?.modified().ok(),
            Self::Bytes(_) => None,
        }
    }
}

/// Memory that was written to before; new pages cost as much as the copying.
#[derive(Clone, Debug, Default)]
pub struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

impl Buffers {
    /// Reads `length` bytes and puts a head and a tail around them.
    pub fn read(
        &self,
        source: &OpenBytes,
        offset: u64,
        length: usize,
        (head, tail): (&[u8], &[u8]),
    ) -> io::Result<Bytes> {
        let file = match source {
            OpenBytes::File(file) => file,
            OpenBytes::Bytes(bytes) => {
                let end = offset.saturating_add(length as u64);
                let part = usize::try_from(offset).ok().zip(usize::try_from(end).ok());
                let part = part.filter(|(_, end)| *end <= bytes.len()).ok_or(ErrorKind::UnexpectedEof)?;
                let part = bytes.slice(part.0..part.1);
                let bare = head.is_empty() && tail.is_empty();
                return Ok(if bare { part } else { [head, &part, tail].concat().into() });
            }
        };
        let mut buffer = self.buffer(head.len() + length + tail.len());
        let bytes = &mut buffer.bytes[..buffer.length];
        bytes[..head.len()].copy_from_slice(head);
        file.read_exact_at(&mut bytes[head.len()..head.len() + length], offset)?;
        bytes[head.len() + length..].copy_from_slice(tail);
        Ok(Bytes::from_owner(buffer))
    }

    fn buffer(&self, length: usize) -> SourceBuffer {
        let spare =
            if length >= MIN_BUFFER_BYTES { self.locked(Vec::pop).unwrap_or_default() } else { Vec::new() };
        let bytes = if spare.len() >= length { spare } else { vec![0; length.next_multiple_of(64)] };
        SourceBuffer { bytes, length, spare: self.clone() }
    }

    fn locked<T>(&self, with: impl FnOnce(&mut Vec<Vec<u8>>) -> T) -> T {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Bytes whose memory is kept for others when the last reader is done.
struct SourceBuffer {
    bytes: Vec<u8>,
    length: usize,
    spare: Buffers,
}

impl AsRef<[u8]> for SourceBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Drop for SourceBuffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        if (MIN_BUFFER_BYTES..=MAX_BUFFER_BYTES).contains(&bytes.len()) {
            self.spare.locked(|spare| {
                if spare.len() < MAX_SPARE {
                    spare.push(bytes);
                }
            });
        }
    }
}

/// The files that were read last, by id. An open file stays readable when it is renamed.
#[derive(Default)]
pub struct Sources(Mutex<Recent>);

#[derive(Default)]
struct Recent {
    clock: u64,
    open: HashMap<u64, (u64, OpenBytes)>,
}

impl Sources {
    pub fn get(&self, id: u64) -> Option<OpenBytes> {
        self.locked(|recent| {
            recent.clock += 1;
            let (used, source) = recent.open.get_mut(&id)?;
            *used = recent.clock;
            Some(source.clone())
        })
    }

    pub fn insert(&self, id: u64, source: OpenBytes) {
        self.locked(|recent| {
            recent.clock += 1;
            recent.open.insert(id, (recent.clock, source));
            if recent.open.len() > MAX_OPEN {
                let oldest = recent.open.iter().min_by_key(|(_, (used, _))| *used).map(|(id, _)| *id);
                oldest.map(|id| recent.open.remove(&id));
            }
        });
    }

    pub fn forget(&self, id: u64) {
        self.locked(|recent| drop(recent.open.remove(&id)));
    }

    fn locked<T>(&self, with: impl FnOnce(&mut Recent) -> T) -> T {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_not_reused_while_it_is_read() {
        let file = Arc::new(tempfile::tempfile().unwrap());
        file.write_all_at(&[1; MIN_BUFFER_BYTES], 0).unwrap();
        file.write_all_at(&[2; MIN_BUFFER_BYTES], MIN_BUFFER_BYTES as u64).unwrap();
        let (source, buffers) = (OpenBytes::File(file), Buffers::default());
        let read = |at: usize| buffers.read(&source, at as u64, MIN_BUFFER_BYTES, (b"<", b">")).unwrap();
        let one = read(0).slice(1..=MIN_BUFFER_BYTES);
        let other = read(MIN_BUFFER_BYTES);
        assert!(one == vec![1; MIN_BUFFER_BYTES] && other[1..=MIN_BUFFER_BYTES] == [2; MIN_BUFFER_BYTES]);
        assert_eq!((other[0], other[MIN_BUFFER_BYTES + 1]), (b'<', b'>'));
        drop((one, other));
        assert_eq!(buffers.locked(|spare| spare.len()), 2);
        drop(read(0));
        assert_eq!(buffers.locked(|spare| spare.len()), 2);
    }

    #[test]
    fn a_read_past_the_end_is_an_error() {
        let file = OpenBytes::File(Arc::new(tempfile::tempfile().unwrap()));
        for source in [file, OpenBytes::Bytes(Bytes::new())] {
            let error = Buffers::default().read(&source, 0, 1, (&[], &[])).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        }
    }

    #[test]
    fn least_recently_read_file_is_closed() {
        let sources = Sources::default();
        for id in 0..MAX_OPEN as u64 {
            sources.insert(id, OpenBytes::Bytes(Bytes::new()));
        }
        assert!(sources.get(0).is_some());
        sources.insert(1000, OpenBytes::Bytes(Bytes::new()));
        assert!(sources.get(0).is_some() && sources.get(1).is_none() && sources.get(2).is_some());
    }
}
