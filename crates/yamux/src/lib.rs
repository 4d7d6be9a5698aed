//! The [yamux](https://github.com/hashicorp/yamux/blob/master/spec.md) multiplexer for libp2p, with one limit for the
//! unread bytes of all streams of a process.
//!
//! yamux grants each stream a receive window of 256 KiB or more, and a connection up to 512 streams; the bytes stay in
//! memory until the stream is read. A peer that fills streams which are not read, or still in negotiation, uses all of
//! those windows. Here each frame is charged to an [`Account`] before its bytes are read from the socket: `frames` reads
//! the headers, `unread` decides. The protocol itself is implemented by the `yamux` crate.
//!
//! yamux also begins each stream with a window of 256 KiB, which costs a long path two round trips for a block. `grants` gives
//! streams that the peer opens a larger one at once.

mod frames;
mod grants;
mod unread;

use std::{
    collections::VecDeque,
    future::{Ready, ready},
    io, iter,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use futures::{AsyncRead, AsyncWrite};
use libp2p_core::{
    muxing::{StreamMuxer, StreamMuxerEvent},
    upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo},
};
pub use unread::{Account, process};

use crate::{frames::Frames, unread::Streams};

/// Maximum number of inbound streams that wait to be accepted. Remote peers open at most 256 streams without an
/// acknowledgement, which is sent with the first write to a stream.
const MAX_WAITING_STREAMS: usize = 256;

/// The upgrade of a connection to yamux.
#[derive(Clone, Debug)]
pub struct Config {
    yamux: yamux::Config,
    account: Arc<Account>,
}

impl Config {
    /// Charges the streams to `account` instead of that of the process.
    pub fn with_account(account: Arc<Account>) -> Self {
        let mut yamux = yamux::Config::default();
        // A closed connection has no data left to read, as in the other muxers of libp2p.
        yamux.set_read_after_close(false);
        Self { yamux, account }
    }

    fn upgrade<C>(self, socket: C, mode: yamux::Mode) -> Ready<io::Result<Muxer<C>>>
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        let streams = Streams::new(self.account);
        let frames = Frames::new(socket, Arc::clone(&streams));
        ready(Ok(Muxer {
            connection: yamux::Connection::new(frames, self.yamux, mode),
            streams,
            waiting: VecDeque::new(),
            acceptor: None,
        }))
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::with_account(Arc::clone(process()))
    }
}

impl UpgradeInfo for Config {
    type Info = &'static str;
    type InfoIter = iter::Once<&'static str>;

    fn protocol_info(&self) -> Self::InfoIter {
        iter::once("/yamux/1.0.0")
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> InboundConnectionUpgrade<C> for Config {
    type Output = Muxer<C>;
    type Error = io::Error;
    type Future = Ready<io::Result<Muxer<C>>>;

    fn upgrade_inbound(self, socket: C, _: &'static str) -> Self::Future {
        self.upgrade(socket, yamux::Mode::Server)
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> OutboundConnectionUpgrade<C> for Config {
    type Output = Muxer<C>;
    type Error = io::Error;
    type Future = Ready<io::Result<Muxer<C>>>;

    fn upgrade_outbound(self, socket: C, _: &'static str) -> Self::Future {
        self.upgrade(socket, yamux::Mode::Client)
    }
}

/// A connection and its streams.
#[derive(Debug)]
pub struct Muxer<C> {
    connection: yamux::Connection<Frames<C>>,
    streams: Arc<Streams>,
    /// Streams that arrived while the connection was polled for another reason.
    waiting: VecDeque<Stream>,
    /// The task that waits for an inbound stream.
    acceptor: Option<Waker>,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(#[from] yamux::ConnectionError);

impl<C: AsyncRead + AsyncWrite + Unpin> Muxer<C> {
    /// Polls the connection until the peer opens a stream.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Stream, Error>> {
        let stream = ready!(self.connection.poll_next_inbound(cx));
        let stream = stream.unwrap_or(Err(yamux::ConnectionError::Closed))?;
        self.streams.accepted(stream.id().val());
        Poll::Ready(Ok(Stream::new(stream, &self.streams)))
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> StreamMuxer for Muxer<C> {
    type Substream = Stream;
    type Error = Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Stream, Error>> {
        if let Some(stream) = self.waiting.pop_front() {
            return Poll::Ready(Ok(stream));
        }
        let polled = self.poll_next(cx);
        if polled.is_pending() {
            self.acceptor = Some(cx.waker().clone());
        }
        polled
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Stream, Error>> {
        let stream = ready!(self.connection.poll_new_outbound(cx))?;
        self.streams.opened(stream.id().val());
        Poll::Ready(Ok(Stream::new(stream, &self.streams)))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.connection.poll_close(cx).map_err(Error)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, Error>> {
        let stream = ready!(self.poll_next(cx))?;
        if self.waiting.len() < MAX_WAITING_STREAMS {
            self.waiting.push_back(stream);
            if let Some(acceptor) = self.acceptor.take() {
                acceptor.wake();
            }
        } else {
            tracing::debug!("reset a stream: {MAX_WAITING_STREAMS} others are not accepted yet");
        }
        // There may be more, but other tasks run first.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// A stream. Its unread bytes are charged to the account until it is dropped.
#[derive(Debug)]
pub struct Stream {
    stream: yamux::Stream,
    streams: Arc<Streams>,
}

impl Stream {
    fn new(stream: yamux::Stream, streams: &Arc<Streams>) -> Self {
        Self { stream, streams: Arc::clone(streams) }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // yamux keeps the unread bytes of a dropped stream until it can write a reset, which the peer may prevent.
        let (mut cx, mut scratch) = (Context::from_waker(Waker::noop()), [0; 4096]);
        while let Poll::Ready(Ok(1..)) = Pin::new(&mut self.stream).poll_read(&mut cx, &mut scratch) {}
        self.streams.dropped(self.stream.id().val());
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.streams.read(self.stream.id().val(), read);
        Poll::Ready(Ok(read))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

#[cfg(test)]
mod tests;
