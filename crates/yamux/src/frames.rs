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

use crate::{
    grants::{DATA, Grants, HEADER_SIZE, Outgoing, WINDOW_UPDATE},
    unread::{Change, Charge, MAX_PIECE, Streams},
};

/// A connection that waits for memory this long while none of its streams is read is closed.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a waiting connection checks for memory without being woken.
const RECHECK_INTERVAL: Duration = Duration::from_secs(1);

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
    grants: Grants,
    outgoing: Outgoing,
    /// The stream that the last frame opened, and the bytes that came with it.
    opening: (u32, u32),
    /// A frame that is read to be held back.
    holding: Vec<u8>,
    /// A held frame that yamux reads, and how much of it was read.
    replay: (Vec<u8>, usize),
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
    /// A piece is read to be held back, of which `filled` bytes were received.
    Hold { filled: usize, flags: u16, left: u32 },
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
        Self {
            socket,
            streams,
            header: [0; HEADER_SIZE],
            state: State::Header { read: 0 },
            wait: None,
            grants: Grants::default(),
            outgoing: Outgoing::default(),
            opening: (0, 0),
            holding: Vec::new(),
            replay: (Vec::new(), 0),
        }
    }

    /// Takes note of the streams that were accepted or dropped since the last call.
    fn sync(&mut self) {
        for change in self.streams.take_changes() {
            match change {
                Change::Accepted(id) if self.streams.is_roomy() => {
                    let (opened, consumed) = self.opening;
                    self.grants.accepted(id, if opened == id { consumed } else { 0 });
                }
                Change::Accepted(_) => {}
                Change::Dropped(id) => self.grants.removed(id),
            }
        }
    }

    fn stream(&self) -> u32 {
        u32::from_be_bytes([self.header[4], self.header[5], self.header[6], self.header[7]])
    }

    /// Parses a complete header and returns the next state.
    fn parsed(&mut self) -> State {
        let [_, kind, high, low, .., a, b, c, d] = self.header;
        let (flags, length) = (u16::from_be_bytes([high, low]), u32::from_be_bytes([a, b, c, d]));
        let stream = self.stream();
        self.streams.next_frame();
        if flags & SYN != 0 && matches!(kind, DATA | WINDOW_UPDATE) {
            self.streams.opening(stream);
            self.opening = (stream, 0);
        }
        if flags & RST != 0 && matches!(kind, DATA | WINDOW_UPDATE) {
            self.grants.removed(stream);
        }
        if kind == DATA && length > 0 {
            State::Frame { flags, left: length }
        } else if self.grants.holds(stream) && (kind == DATA || kind == WINDOW_UPDATE && flags & FIN != 0) {
            // The end of a stream comes after its data.
            self.holding = self.header.to_vec();
            State::Hold { filled: HEADER_SIZE, flags: 0, left: 0 }
        } else {
            State::Piece { taken: 0, piece: 0, flags: 0, left: 0 }
        }
    }

    /// Writes the header of the next piece of a data frame. Opening flags go with the first piece, closing flags with
    /// the last. yamux reads the piece if its window has room for it, otherwise it is held back.
    fn cut(&mut self, flags: u16, left: u32) -> State {
        let piece = left.min(MAX_PIECE as u32);
        let left = left - piece;
        self.rewrite(if left == 0 { flags } else { flags & !(FIN | RST) }, piece);
        let stream = self.stream();
        if flags & SYN != 0 {
            self.opening = (stream, piece);
        }
        let flags = flags & !(SYN | ACK);
        if self.grants.admits(stream, piece) {
            return State::Piece { taken: 0, piece, flags, left };
        }
        self.holding = self.header.to_vec();
        self.holding.resize(HEADER_SIZE + piece as usize, 0);
        State::Hold { filled: HEADER_SIZE, flags, left }
    }

    /// Passes on a frame that was held back, if yamux accepts one now and is between two frames. Returns the bytes read.
    fn replay(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let (frame, read) = &mut self.replay;
        if *read == frame.len() {
            if matches!(self.state, State::Piece { .. } | State::Body { .. }) {
                return None;
            }
            (*frame, *read) = (self.grants.next_ready()?, 0);
        }
        let n = buffer.len().min(frame.len() - *read);
        buffer[..n].copy_from_slice(&frame[*read..*read + n]);
        *read += n;
        Some(n)
    }

    /// Holds the frame back that was read, and returns the next state.
    fn held(&mut self, flags: u16, left: u32) -> io::Result<State> {
        let frame = std::mem::take(&mut self.holding);
        let exceeded = |_| io::Error::other("the peer exceeds the window of a stream");
        self.grants.hold(self.stream(), frame).map_err(exceeded)?;
        Ok(if left == 0 { State::Header { read: 0 } } else { State::Frame { flags, left } })
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

impl<C: AsyncRead + Unpin> Frames<C> {
    /// Reads more of the piece that is held back, and returns the next state.
    fn poll_hold(
        &mut self,
        filled: usize,
        flags: u16,
        left: u32,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<State>> {
        if filled == self.holding.len() {
            return Poll::Ready(self.held(flags, left));
        }
        let n = ready!(Pin::new(&mut self.socket).poll_read(cx, &mut self.holding[filled..]))?;
        let filled = filled + within_frame(n)?;
        Poll::Ready(Ok(State::Hold { filled, flags, left }))
    }

    /// Reads at most `left` bytes that no stream reads.
    fn poll_discard(&mut self, left: u32, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut scratch = [0; 4096];
        let most = scratch.len().min(left as usize);
        let n = ready!(Pin::new(&mut self.socket).poll_read(cx, &mut scratch[..most]))?;
        Poll::Ready(within_frame(n))
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for Frames<C> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.sync();
        loop {
            if let Some(n) = this.replay(buffer) {
                return Poll::Ready(Ok(n));
            }
            match this.state {
                State::Hold { filled, flags, left } => {
                    this.state = ready!(this.poll_hold(filled, flags, left, cx))?;
                }
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
                    let n = ready!(this.poll_discard(left, cx))?;
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

/// Returns the bytes that were read within a frame, where the socket must not end.
fn within_frame(read: usize) -> io::Result<usize> {
    if read == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(read) }
}

/// Handles the end of the socket after `read` bytes of a header.
fn end(read: usize) -> io::Result<usize> {
    if read == 0 { Ok(0) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

impl<C: AsyncWrite + Unpin> Frames<C> {
    /// Writes the window updates of [`Grants`], if yamux is between two frames.
    fn poll_own(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.sync();
        let Self { socket, grants, outgoing, .. } = self;
        while let Some(own) = outgoing.own(grants) {
            let n = ready!(Pin::new(&mut *socket).poll_write(cx, own))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            outgoing.wrote_own(n);
        }
        Poll::Ready(Ok(()))
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Frames<C> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_own(cx))?;
        let most = this.outgoing.most(bytes.len());
        let n = ready!(Pin::new(&mut this.socket).poll_write(cx, &bytes[..most]))?;
        if let Some((stream, granted)) = this.outgoing.wrote(&bytes[..n]) {
            this.grants.granted(stream, granted);
        }
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_own(cx))?;
        Pin::new(&mut this.socket).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(cx)
    }
}
