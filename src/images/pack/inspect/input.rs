//! The bytes that reach the unpacking thread, as a reader.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::Receiver;

use bytes::{Buf, Bytes};

/// Reads the chunks of a channel; the end of the layer is the channel's end.
pub(super) struct LayerInput {
    chunks: Receiver<Bytes>,
    current: Bytes,
}

impl LayerInput {
    pub(super) fn new(chunks: Receiver<Bytes>) -> Self {
        Self { chunks, current: Bytes::new() }
    }

    /// The bytes that come next: `wanted` of them or more, fewer only at the end.
    pub(super) fn peek(&mut self, wanted: usize) -> &[u8] {
        while self.current.len() < wanted {
            let Ok(next) = self.chunks.recv() else { break };
            self.current = match self.current.is_empty() {
                true => next,
                false => [&self.current[..], &next[..]].concat().into(),
            };
        }
        &self.current
    }
}

impl BufRead for LayerInput {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        Ok(self.peek(1))
    }

    fn consume(&mut self, length: usize) {
        self.current.advance(length);
    }
}

impl Read for LayerInput {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.peek(1).len().min(buffer.len());
        self.current.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    fn input(chunks: &[&'static str]) -> LayerInput {
        let (sender, receiver) = sync_channel(chunks.len());
        for chunk in chunks {
            sender.send(Bytes::from_static(chunk.as_bytes())).unwrap();
        }
        LayerInput::new(receiver)
    }

    #[test]
    fn peek_joins_chunks_and_consumes_nothing() {
        let mut input = input(&["a", "b", "cd", "e"]);
        assert_eq!(input.peek(3), b"abcd");
        let mut all = String::new();
        input.read_to_string(&mut all).unwrap();
        assert_eq!(all, "abcde");
    }

    #[test]
    fn peek_near_the_end_returns_the_remaining_bytes() {
        let mut input = input(&["ab"]);
        assert_eq!(input.peek(4), b"ab");
        input.consume(2);
        assert_eq!(input.peek(4), b"");
    }
}
