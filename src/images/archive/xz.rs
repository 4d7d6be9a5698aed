//! Decompression of xz.

use std::io::{self, BufRead, Read};

use lzma_rust2::{Action, Status, XzStream};

/// Memory of the decoder: what the highest level of `xz` needs, whose dictionary has 64 MiB.
const MAX_KIB: u32 = 66 << 10;

/// Decompresses one stream, or several in a row.
///
/// The reader of the library can loop forever on a damaged stream. This one ends it when a step makes no progress.
pub struct XzDecoder<R> {
    input: R,
    stream: XzStream,
    is_finished: bool,
}

impl<R> XzDecoder<R> {
    pub fn new(input: R) -> Self {
        Self { input, stream: XzStream::new_mem_limit(true, MAX_KIB), is_finished: false }
    }
}

impl<R: BufRead> Read for XzDecoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !self.is_finished && !buffer.is_empty() {
            let input = self.input.fill_buf()?;
            let is_last = input.is_empty();
            let action = if is_last { Action::Finish } else { Action::Run };
            let step = self.stream.process(input, buffer, action)?;
            self.input.consume(step.bytes_consumed);
            self.is_finished = step.status == Status::StreamEnd;
            if step.bytes_produced > 0 {
                return Ok(step.bytes_produced);
            }
            if step.bytes_consumed == 0 && !self.is_finished {
                return Err(match is_last {
                    true => io::ErrorKind::UnexpectedEof.into(),
                    false => io::Error::new(io::ErrorKind::InvalidData, "the stream is damaged"),
                });
            }
        }
        Ok(0)
    }
}
