//! An encrypted connection, whose key is chosen by what happens first.

use std::{
    io::{self, ErrorKind},
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::{AsyncRead, AsyncWrite};
use salsa20::{
    XSalsa20,
    cipher::{KeyIvInit, StreamCipher},
};

use crate::{KEY_BYTES, Keys, NONCE_BYTES};

/// What a peer that dials writes first.
const HEADER: &[u8] = b"\x13/multistream/1.0.0\n";
/// Bytes that are encrypted at a time, and so the most that the connection holds for a slow peer.
const MAX_WRITE: usize = 64 << 10;

/// A connection of a private network.
pub struct PnetOutput<S> {
    socket: S,
    ciphers: Ciphers,
    /// Encrypted bytes to write, from `written`.
    outgoing: Vec<u8>,
    written: usize,
    /// Decrypted bytes that were read to find the key, in reverse.
    ahead: Vec<u8>,
}

/// The key of a connection.
enum Ciphers {
    /// It is chosen by the first bytes: those that this side writes, or those that it reads.
    Undecided {
        keys: Keys,
        local: [u8; NONCE_BYTES],
        remote: [u8; NONCE_BYTES],
        first: Vec<u8>,
    },
    Decided {
        read: XSalsa20,
        write: XSalsa20,
    },
}

impl<S> PnetOutput<S> {
    pub(crate) fn new(socket: S, keys: Keys, local: [u8; NONCE_BYTES], remote: [u8; NONCE_BYTES]) -> Self {
        let ciphers = Ciphers::Undecided { keys, local, remote, first: Vec::new() };
        Self { socket, ciphers, outgoing: Vec::new(), written: 0, ahead: Vec::new() }
    }

    /// Takes a key, unless that is done. What was read before is decrypted with it.
    fn decide(&mut self, choose: impl FnOnce(&Keys, &[u8; NONCE_BYTES], &[u8]) -> [u8; KEY_BYTES]) {
        let Ciphers::Undecided { keys, local, remote, first } = &mut self.ciphers else { return };
        let key = choose(keys, remote, first);
        let (mut read, write) = (cipher(&key, remote), cipher(&key, local));
        let mut ahead = std::mem::take(first);
        read.apply_keystream(&mut ahead);
        ahead.reverse();
        self.ahead = ahead;
        self.ciphers = Ciphers::Decided { read, write };
    }
}

fn cipher(key: &[u8; KEY_BYTES], nonce: &[u8; NONCE_BYTES]) -> XSalsa20 {
    XSalsa20::new(key.into(), nonce.into())
}

/// Returns whether a key turns these bytes into the beginning of a header.
fn fits(key: &[u8; KEY_BYTES], nonce: &[u8; NONCE_BYTES], first: &[u8]) -> bool {
    let mut bytes = first.to_vec();
    cipher(key, nonce).apply_keystream(&mut bytes);
    HEADER.starts_with(&bytes)
}

/// Returns the accepted key that the first bytes are encrypted with. Without one, the key that this node dials with: then the
/// handshake fails as with any wrong key.
fn fitting(keys: &Keys, nonce: &[u8; NONCE_BYTES], first: &[u8]) -> [u8; KEY_BYTES] {
    *keys.all().find(|key| fits(key, nonce, first)).unwrap_or(&keys.dial)
}

impl<S: AsyncRead + Unpin> PnetOutput<S> {
    /// Reads until the key is known.
    fn poll_decide(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Ciphers::Undecided { keys, remote, first, .. } = &mut self.ciphers {
            let is_decided = keys.accepted.is_empty()
                || first.len() >= HEADER.len()
                || !keys.all().any(|key| fits(key, remote, first));
            if is_decided {
                self.decide(fitting);
                break;
            }
            let mut bytes = [0; HEADER.len()];
            let room = HEADER.len() - first.len();
            match ready!(Pin::new(&mut self.socket).poll_read(cx, &mut bytes[..room]))? {
                0 => self.decide(fitting),
                read => first.extend_from_slice(&bytes[..read]),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> PnetOutput<S> {
    /// Writes the encrypted bytes.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.outgoing.len() {
            match ready!(Pin::new(&mut self.socket).poll_write(cx, &self.outgoing[self.written..])) {
                Ok(0) => return Poll::Ready(Err(ErrorKind::WriteZero.into())),
                Ok(written) => self.written += written,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        self.outgoing.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PnetOutput<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_decide(cx))?;
        let this = &mut *self;
        if !this.ahead.is_empty() {
            let count = buffer.len().min(this.ahead.len());
            for byte in &mut buffer[..count] {
                *byte = this.ahead.pop().unwrap_or_default();
            }
            return Poll::Ready(Ok(count));
        }
        let count = ready!(Pin::new(&mut this.socket).poll_read(cx, buffer))?;
        if let Ciphers::Decided { read, .. } = &mut this.ciphers {
            read.apply_keystream(&mut buffer[..count]);
        }
        Poll::Ready(Ok(count))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PnetOutput<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        // The side that writes first has dialled.
        self.decide(|keys, _, _| keys.dial);
        ready!(self.poll_drain(cx))?;
        let this = &mut *self;
        let count = buffer.len().min(MAX_WRITE);
        this.outgoing.extend_from_slice(&buffer[..count]);
        if let Ciphers::Decided { write, .. } = &mut this.ciphers {
            write.apply_keystream(&mut this.outgoing);
        }
        // What the socket does not take now is written by the next call.
        match this.poll_drain(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(count)),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.socket).poll_close(cx)
    }
}
