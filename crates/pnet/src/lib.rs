//! Private networks: connections that only holders of a pre-shared key can read.
//!
//! Both sides send a nonce of 24 bytes; all further bytes are encrypted with XSalsa20 under the key and the sender's nonce
//! (<https://github.com/libp2p/specs/blob/master/pnet/Private-Networks-PSK-V1.md>).
//!
//! A [`KeyRing`] replaces the key of a running node. The node dials with one key and accepts several, all on one port: the
//! side that dials writes first, and what it writes is known (the header of multistream-select), so the listener tries its keys on these
//! bytes.

#![warn(missing_docs)]

mod output;
mod ring;

use std::io;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

pub use output::PnetOutput;
pub use ring::{KeyRing, Keys};

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;

/// A pre-shared key, or the [handle](KeyRing::handle) of a key ring.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PreSharedKey([u8; KEY_BYTES]);

impl PreSharedKey {
    /// Creates a key from its bytes.
    pub fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }
}

/// Does not print the secret.
impl std::fmt::Debug for PreSharedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PreSharedKey(..)")
    }
}

/// The connection ended during the handshake.
#[derive(Debug, thiserror::Error)]
#[error("handshake of the private network failed: {0}")]
pub struct PnetError(#[from] io::Error);

/// Encrypts connections with a key, or with those of a key ring.
#[derive(Clone, Copy, Debug)]
pub struct PnetConfig {
    key: PreSharedKey,
}

impl PnetConfig {
    /// Creates a configuration with a key or the handle of a key ring.
    pub fn new(key: PreSharedKey) -> Self {
        Self { key }
    }

    /// Exchanges nonces, and encrypts what follows.
    pub async fn handshake<S>(self, mut socket: S) -> Result<PnetOutput<S>, PnetError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (local, mut remote): ([u8; NONCE_BYTES], _) = (rand::random(), [0; NONCE_BYTES]);
        socket.write_all(&local).await?;
        socket.flush().await?;
        socket.read_exact(&mut remote).await?;
        Ok(PnetOutput::new(socket, ring::keys_of(&self.key.0), local, remote))
    }
}

#[cfg(test)]
mod tests;
