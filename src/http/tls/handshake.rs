//! The beginning of a connection.

use std::{io, time::Duration};

use rustls::server::{Acceptor, ClientHello};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{LazyConfigAcceptor, StartHandshake, server::TlsStream};

use super::{Secure, Tls, challenges::PROTOCOL};
use crate::http::source::Source;

/// How long the first message of a client may take, and the rest of its handshake from its turn on.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client waits for its turn: others of its address, who may share a proxy with it, hold one for [`HANDSHAKE_TIMEOUT`] at
/// most.
const TURN_TIMEOUT: Duration = Duration::from_secs(30);
/// Encrypted bytes that a connection holds before they are sent: four records, which go out by one call of the system.
const MAX_ENCRYPTED: usize = 64 << 10;
/// Bytes of a request without TLS that are read before it is answered.
const MAX_PLAIN: usize = 8 << 10;

/// What a client that speaks HTTP without TLS is told.
const NOT_PLAIN: &str = "this registry speaks HTTPS, and the request came without TLS\n";

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeRefused {
    /// No byte came, or the connection broke.
    #[error("the connection was closed: {0}")]
    Closed(#[from] io::Error),
    /// The client took too long.
    #[error("no TLS handshake within {} s", HANDSHAKE_TIMEOUT.as_secs())]
    Slow,
    /// Too many others are in their handshake.
    #[error("no turn for a TLS handshake within {} s", TURN_TIMEOUT.as_secs())]
    Crowded,
    /// The client speaks HTTP without TLS.
    #[error("the client speaks HTTP without TLS")]
    Plain,
    /// An ACME server looked who answers for a name.
    #[error("an ACME server asked for a proof of {0:?}")]
    Challenge(String),
    /// The client and this listener did not agree.
    #[error("the TLS handshake failed: {0}")]
    Handshake(#[source] rustls::Error),
}

impl HandshakeRefused {
    fn of(error: io::Error) -> Self {
        let of_tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).cloned();
        of_tls.map_or(Self::Closed(error), Self::Handshake)
    }

    /// Whether a client showed a certificate that is not accepted; one that shows none may not know that it is asked for one.
    pub fn is_failed_login(&self) -> bool {
        matches!(self, Self::Handshake(rustls::Error::InvalidCertificate(_)))
    }
}

impl Tls {
    /// Makes the handshake of a connection; `wrap` watches the bytes that pass.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: TcpStream,
        wrap: impl FnOnce(TcpStream) -> S,
    ) -> Result<(TlsStream<S>, Secure), HandshakeRefused> {
        let source = Source::of(stream.peer_addr()?.ip());
        self.accept_of(source, stream, wrap).await
    }

    /// Makes the handshake of a connection that counts for a source.
    pub(super) async fn accept_of<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        source: Source,
        stream: TcpStream,
        wrap: impl FnOnce(TcpStream) -> S,
    ) -> Result<(TlsStream<S>, Secure), HandshakeRefused> {
        // Until its turn a client costs the length of its first message; from then on, cryptography.
        let begun =
            timeout(HANDSHAKE_TIMEOUT, begin(stream, wrap)).await.map_err(|_| HandshakeRefused::Slow)??;
        self.in_turn(source, self.finish(begun)).await
    }

    /// Makes the rest of a handshake once its source has a turn; its time begins then.
    pub(super) async fn in_turn<T>(
        &self,
        source: Source,
        handshake: impl Future<Output = Result<T, HandshakeRefused>>,
    ) -> Result<T, HandshakeRefused> {
        let turn = timeout(TURN_TIMEOUT, self.0.turns.next(source)).await;
        let _turn = turn.map_err(|_| HandshakeRefused::Crowded)?;
        timeout(HANDSHAKE_TIMEOUT, handshake).await.map_err(|_| HandshakeRefused::Slow)?
    }

    async fn finish<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        begun: StartHandshake<S>,
    ) -> Result<(TlsStream<S>, Secure), HandshakeRefused> {
        let challenged = challenge(&begun.client_hello());
        if let Some(name) = challenged
            && let Some(config) = self.challenges().config(&name)
        {
            let mut stream = begun.into_stream(config).await.map_err(HandshakeRefused::of)?;
            stream.shutdown().await?;
            return Err(HandshakeRefused::Challenge(name));
        }
        self.refresh().await;
        let limit = |connection: &mut rustls::ServerConnection| {
            connection.set_buffer_limit(Some(MAX_ENCRYPTED));
        };
        let configs = self.configs();
        let config = configs.choose(&begun.client_hello());
        let stream = begun.into_stream_with(config, limit).await.map_err(HandshakeRefused::of)?;
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let secure = Secure::new(chain, configs.verification.generation);
        Ok((stream, secure))
    }
}

/// Reads the first message of a client, if it is one of TLS.
async fn begin<S: AsyncRead + AsyncWrite + Unpin>(
    stream: TcpStream,
    wrap: impl FnOnce(TcpStream) -> S,
) -> Result<StartHandshake<S>, HandshakeRefused> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    if first[0].is_ascii_uppercase() {
        answer_plain(stream).await?;
        return Err(HandshakeRefused::Plain);
    }
    LazyConfigAcceptor::new(Acceptor::default(), wrap(stream)).await.map_err(HandshakeRefused::of)
}

/// The name that an ACME server wants to be proven.
fn challenge(hello: &ClientHello<'_>) -> Option<String> {
    let is_challenge = hello.alpn()?.any(|protocol| protocol == PROTOCOL);
    is_challenge.then(|| hello.server_name().unwrap_or_default().to_owned())
}

/// Answers a request without TLS. What came of it is read first: otherwise the system resets the connection, and the answer is lost.
/// The header tells a command of ocipfs that a registry answers here.
async fn answer_plain(mut stream: TcpStream) -> io::Result<()> {
    let mut request = vec![0; MAX_PLAIN];
    let _ = stream.read(&mut request).await?;
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\ndocker-distribution-api-version: registry/2.0\r\ncontent-type: text/plain\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{NOT_PLAIN}",
        NOT_PLAIN.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}
