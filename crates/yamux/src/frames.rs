//! The socket of a connection as yamux reads it: frame by frame, each charged before it is read.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep};

use crate::unread::{Charge, MAX_PIECE, Streams};

/// A connection that waits for memory this long while none of its streams is read is closed.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a waiting connection checks for memory without being woken.
const RECHECK_INTERVAL: Duration = Duration::from_secs(1);

const HEADER_SIZE: usize = 12;
const DATA: u8 = 0;
const WINDOW_UPDATE: u8 = 1;
const SYN: u16 = 1;
const ACK: u16 = 2;
const FIN: u16 = 4;
const RST: u16 = 8;

/// A socket whose inbound frames are charged to the account and cut into pieces of at most [`MAX_PIECE`]: yamux
/// allocates the buffer of a frame at once, so a long one would hold memory for bytes that have not arrived.
#[derive(Debug)]
pub(crate) struct Frames<C> {
    socket: C,
    streams: Arc<Streams>,
    header: [u8; HEADER_SIZE],
    state: State,
    wait: Option<Wait>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// `read` bytes of a header were received.
    Header { read: usize },
    /// A data frame, of which `left` bytes are still to be charged.
    Frame { flags: u16, left: u32 },
    /// Bytes that no stream reads: they are discarded, and yamux reads a frame without data.
    Discard { flags: u16, left: u32 },
    /// yamux reads the header of a piece, or of a frame without data; `left` bytes of the frame follow.
    Piece { taken: usize, piece: u32, flags: u16, left: u32 },
    /// yamux reads the bytes of a piece.
    Body { piece: u32, flags: u16, left: u32 },
}

/// A wait for memory.
#[derive(Debug)]
struct Wait {
    since: Instant,
    /// The progress of the streams when the wait began.
    progress: u64,
    timer: Pin<Box<Sleep>>,
}

impl<C> Frames<C> {
    pub(crate) fn new(socket: C, streams: Arc<Streams>) -> Self {
        Self { socket, streams, header: [0; HEADER_SIZE], state: State::Header { read: 0 }, wait: None }
    }

    fn stream(&self) -> u32 {
        u32::from_be_bytes([self.header[4], self.header[5], self.header[6], self.header[7]])
    }

    /// Parses a complete header and returns the next state.
    fn parsed(&mut self) -> State {
        let [_, kind, high, low, .., a, b, c, d] = self.header;
        let (flags, length) = (u16::from_be_bytes([high, low]), u32::from_be_bytes([a, b, c, d]));
        self.streams.next_frame();
        if flags & SYN != 0 && matches!(kind, DATA | WINDOW_UPDATE) {
            self.streams.opening(self.stream());
        }
        if kind == DATA && length > 0 {
            State::Frame { flags, left: length }
        } else {
            State::Piece { taken: 0, piece: 0, flags: 0, left: 0 }
        }
    }

    /// Writes the header of the next piece of a data frame. Opening flags go with the first piece, closing flags with
    /// the last.
    fn cut(&mut self, flags: u16, left: u32) -> State {
        let piece = left.min(MAX_PIECE as u32);
        let left = left - piece;
        self.rewrite(if left == 0 { flags } else { flags & !(FIN | RST) }, piece);
        State::Piece { taken: 0, piece, flags: flags & !(SYN | ACK), left }
    }

    fn rewrite(&mut self, flags: u16, length: u32) {
        self.header[2..4].copy_from_slice(&flags.to_be_bytes());
        self.header[8..].copy_from_slice(&length.to_be_bytes());
    }

    /// Waits until the next piece of a data frame is charged, and returns the next state.
    fn poll_charged(&mut self, flags: u16, left: u32, cx: &mut Context<'_>) -> Poll<io::Result<State>> {
        let piece = left.min(MAX_PIECE as u32);
        loop {
            let next = match self.streams.charge(self.stream(), piece, cx.waker()) {
                Charge::Done => Some(self.cut(flags, left)),
                Charge::NoStream => Some(State::Discard { flags, left }),
                Charge::NoMemory => None,
            };
            if let Some(next) = next {
                self.wait = None;
                return Poll::Ready(Ok(next));
            }
            let progress = self.streams.progress();
            let wait = self.wait.get_or_insert_with(|| Wait {
                since: Instant::now(),
                progress,
                timer: Box::pin(sleep(RECHECK_INTERVAL)),
            });
            ready!(wait.timer.as_mut().poll(cx));
            if wait.progress != progress {
                (wait.since, wait.progress) = (Instant::now(), progress);
            } else if wait.since.elapsed() >= STALL_TIMEOUT {
                return Poll::Ready(Err(io::Error::other(format!(
                    "streams hold {} unread bytes, and memory is exhausted",
                    self.streams.held()
                ))));
            }
            wait.timer.as_mut().reset(Instant::now() + RECHECK_INTERVAL);
        }
    }
}

impl<C> Drop for Frames<C> {
    fn drop(&mut self) {
        self.streams.closed();
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for Frames<C> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        loop {
            match this.state {
                State::Header { read } => {
                    let socket = Pin::new(&mut this.socket);
                    let n = ready!(socket.poll_read(cx, &mut this.header[read..]))?;
                    if n == 0 {
                        return Poll::Ready(end(read));
                    }
                    this.state = match read + n {
                        HEADER_SIZE => this.parsed(),
                        read => State::Header { read },
                    };
                }
                State::Frame { flags, left } if flags & RST != 0 => {
                    this.state = State::Discard { flags, left };
                }
                State::Discard { flags, left: 0 } => {
                    this.rewrite(flags, 0);
                    this.state = State::Piece { taken: 0, piece: 0, flags: 0, left: 0 };
                }
                State::Discard { flags, left } => {
                    let mut scratch = [0; 4096];
                    let most = scratch.len().min(left as usize);
                    let n = ready!(Pin::new(&mut this.socket).poll_read(cx, &mut scratch[..most]))?;
                    if n == 0 {
                        return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                    }
                    this.state = State::Discard { flags, left: left - n as u32 };
                }
                State::Frame { flags, left } => {
                    this.state = ready!(this.poll_charged(flags, left, cx))?;
                }
                State::Piece { taken: HEADER_SIZE, piece, flags, left } => {
                    this.state = State::Body { piece, flags, left };
                }
                State::Piece { taken, piece, flags, left } => {
                    let n = buffer.len().min(HEADER_SIZE - taken);
                    buffer[..n].copy_from_slice(&this.header[taken..taken + n]);
                    this.state = State::Piece { taken: taken + n, piece, flags, left };
                    return Poll::Ready(Ok(n));
                }
                State::Body { piece: 0, left: 0, .. } => this.state = State::Header { read: 0 },
                State::Body { piece: 0, flags, left } => this.state = State::Frame { flags, left },
                State::Body { piece, flags, left } => {
                    let most = buffer.len().min(piece as usize);
                    let socket = Pin::new(&mut this.socket);
                    let n = ready!(socket.poll_read(cx, &mut buffer[..most]))?;
                    this.state = State::Body { piece: piece - n as u32, flags, left };
                    return Poll::Ready(Ok(n));
                }
            }
        }
    }
}

/// Handles the end of the socket after `read` bytes of a header.
fn end(read: usize) -> io::Result<usize> {
    if read == 0 { Ok(0) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Frames<C> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(cx)
    }
}
