//! Open files in the control socket (`SCM_RIGHTS`): the instance reads a regular file of a command itself, which saves
//! copying all of it through the socket.

use std::{
    collections::VecDeque,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    pin::Pin,
    task::{Context, Poll, ready},
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use tokio::{
    io::{AsyncRead, Interest, ReadBuf},
    net::{UnixStream, unix::OwnedReadHalf},
};

/// Files that were received and not taken yet; further ones are closed.
const MAX_FILES: usize = 4;

/// Sends the first of some bytes with an open file, and returns their number.
pub async fn send(to: &UnixStream, bytes: &[u8], file: BorrowedFd<'_>) -> io::Result<usize> {
    let files = [file];
    let send = || -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&files));
        Ok(sendmsg(to, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
    };
    to.async_io(Interest::WRITABLE, send).await
}

/// The bytes that come from a socket; it keeps the files that come with them.
pub struct PassedReader {
    from: OwnedReadHalf,
    files: VecDeque<OwnedFd>,
}

impl PassedReader {
    /// Reads from a socket.
    pub fn new(from: OwnedReadHalf) -> Self {
        Self { from, files: VecDeque::new() }
    }

    /// Takes the first file. A security module may have withheld it.
    pub fn take_file(&mut self) -> Option<OwnedFd> {
        self.files.pop_front()
    }
}

impl AsyncRead for PassedReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let PassedReader { from, files } = &mut *self;
        let stream: &UnixStream = from.as_ref();
        loop {
            ready!(stream.poll_read_ready(context))?;
            let unfilled = buffer.initialize_unfilled();
            match stream.try_io(Interest::READABLE, || receive(stream.as_fd(), unfilled, files)) {
                Ok(length) => {
                    buffer.advance(length);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

fn receive(from: BorrowedFd<'_>, buffer: &mut [u8], files: &mut VecDeque<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(buffer)];
    let received = recvmsg(from, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            files.extend(received.take(MAX_FILES.saturating_sub(files.len())));
        }
    }
    Ok(received.bytes)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Read, Write},
    };

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn an_open_file_is_received_with_its_bytes() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"content").unwrap();
        let (mut one, other) = UnixStream::pair().unwrap();
        let (reading, _writing) = other.into_split();
        let mut reader = PassedReader::new(reading);
        one.write_all(b"before").await.unwrap();
        for _ in 0..MAX_FILES + 1 {
            std::io::Seek::rewind(&mut file).unwrap();
            assert_eq!(send(&one, b"with", file.as_fd()).await.unwrap(), 4);
        }
        one.write_all(b"after").await.unwrap();
        drop(one);
        let mut all = String::new();
        reader.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, format!("before{}after", "with".repeat(MAX_FILES + 1)));
        let mut content = String::new();
        File::from(reader.take_file().unwrap()).read_to_string(&mut content).unwrap();
        assert_eq!(content, "content");
        assert_eq!(std::iter::from_fn(|| reader.take_file()).count(), MAX_FILES - 1);
    }
}
