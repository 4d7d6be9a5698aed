//! The bytes of a file or of a stream.

use std::{
    fs::File,
    io::{self, Read},
};

/// What is read from its start to its end.
pub enum Input {
    /// A regular file, which another process can read in place of this one.
    File(File),
    /// Anything else.
    Stream(Box<dyn Read + Send>),
}

impl Input {
    /// Takes a stream.
    pub fn stream(stream: impl Read + Send + 'static) -> Self {
        Self::Stream(Box::new(stream))
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read(buffer),
            Self::Stream(stream) => stream.read(buffer),
        }
    }
}
