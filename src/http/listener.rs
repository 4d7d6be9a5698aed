//! Accepts connections, and closes those that stop: a head of a request that does not come, an answer that is not read.

mod login;
mod sources;
mod stall;
mod unread;

#[cfg(test)]
mod tests;

use std::{convert::Infallible, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{self, HeaderValue, Version, header},
    response::Response,
};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use rustix::process::{Resource, getrlimit};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower_service::Service;

use super::{
    origin::ClientAddress,
    tls::{HandshakeRefused, Secure, Tls},
};
use login::ConnectionLogin;
use sources::{Counted, Sources};
use stall::Stall;
use unread::Unread;

/// Connections at one time, where the process may open enough files.
const MAX_CONNECTIONS: usize = 1_024;
/// How many of the files that the process may open connections may be: a download opens its blob besides, and peers and the
/// database need the rest.
const FILES_SHARE: u64 = 4;
/// How long the head of a request may take, and how long a connection may be idle between requests.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// HTTP/1: see [`Limits::buffered`].
const MAX_BUFFERED: usize = 32 << 10;
/// How long a client may take none of the bytes that wait for it.
const WRITE_STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// HTTP/2: a client without a request is asked whether it is there, and has so long to answer.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// HTTP/2: requests at one time on one connection.
const MAX_STREAMS: u32 = 100;
/// Bytes of answers that one stream of HTTP/2 holds for a client that does not read.
const MAX_SEND_BUFFERED: usize = 64 << 10;
/// After an error that is not of one connection, such as too many open files.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_secs(1);

/// Limits of connections.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub connections: usize,
    pub header_timeout: Duration,
    pub write_stall_timeout: Duration,
    /// HTTP/1: bytes that a connection takes of a body at once, and of an answer before it is sent, beyond one piece, and the longest
    /// head of a request.
    pub buffered: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let connections = usize::try_from(files / FILES_SHARE).unwrap_or(usize::MAX);
        Self {
            connections: connections.clamp(1, MAX_CONNECTIONS),
            header_timeout: HEADER_TIMEOUT,
            write_stall_timeout: WRITE_STALL_TIMEOUT,
            buffered: MAX_BUFFERED,
        }
    }
}

/// Serves until `stop`, then until the last request is answered.
pub async fn serve(listener: TcpListener, app: Router, limits: Limits, stop: CancellationToken) {
    serve_with(listener, app, limits, None, stop).await;
}

/// Serves like [`serve`], over TLS if there is any.
pub async fn serve_with(
    listener: TcpListener,
    app: Router,
    limits: Limits,
    tls: Option<Tls>,
    stop: CancellationToken,
) {
    let (builder, connections) = (builder(&limits), TaskTracker::new());
    let places = Arc::new(Semaphore::new(limits.connections));
    let sources = Sources::new(limits.connections);
    while let Some(accepted) = stop.run_until_cancelled(accept(&listener, &places, &sources)).await {
        let (app, tls, stop) = (app.clone(), tls.clone(), stop.clone());
        connections.spawn(Connection { accepted, app, limits, tls, stop }.run(builder.clone()));
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

fn builder(limits: &Limits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    let mut http1 = builder.http1();
    http1.timer(TokioTimer::new()).header_read_timeout(limits.header_timeout).max_buf_size(limits.buffered);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_concurrent_streams(MAX_STREAMS)
        .max_send_buf_size(MAX_SEND_BUFFERED);
    builder
}

struct Accepted {
    stream: TcpStream,
    peer: SocketAddr,
    /// Held until the connection is closed.
    place: (OwnedSemaphorePermit, Counted),
}

/// Accepts the next connection once there is a place for it. One of a source that has its share already is closed while few
/// places are left.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>, sources: &Sources) -> Accepted {
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { std::future::pending().await };
        match listener.accept().await {
            Ok((stream, peer)) => match sources.admit(peer.ip(), places.available_permits()) {
                Some(counted) => return Accepted { stream, peer, place: (place, counted) },
                None => sources.log_refused(peer),
            },
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!("cannot accept connections: {error}");
                tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

struct Connection {
    accepted: Accepted,
    app: Router,
    limits: Limits,
    tls: Option<Tls>,
    stop: CancellationToken,
}

impl Connection {
    async fn run(self, builder: Builder<TokioExecutor>) {
        let Self { accepted: Accepted { stream, peer, place }, app, limits, tls, stop } = self;
        let watched = |stream: TcpStream| Stall::new(stream, limits.write_stall_timeout);
        let talk = Talk { peer, app, limits, stop: stop.clone() };
        match tls {
            None => talk.run(builder, watched(stream), ConnectionLogin::default()).await,
            Some(tls) => match stop.run_until_cancelled(tls.accept(stream, watched)).await {
                Some(Ok((stream, secure))) => {
                    talk.run(builder, stream, ConnectionLogin::new(tls, secure)).await
                }
                Some(Err(refused)) => log_refused(peer, &refused),
                None => {}
            },
        }
        drop(place);
    }
}

/// Requests of one connection, and their answers.
struct Talk {
    peer: SocketAddr,
    app: Router,
    limits: Limits,
    stop: CancellationToken,
}

impl Talk {
    async fn run<S>(self, builder: Builder<TokioExecutor>, stream: S, login: ConnectionLogin)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Self { peer, app, limits, stop } = self;
        let begun = Arc::new(Notify::new());
        let unread = Unread::default();
        let (has_begun, watch, checked) = (begun.clone(), unread.clone(), login.clone());
        let service = service_fn(move |request: http::Request<Incoming>| {
            has_begun.notify_one();
            let request = described(request.map(Body::new), peer, checked.secure());
            answer(app.clone(), request, watch.clone(), checked.clone())
        });
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let mut silence = pin!(silence(&begun, limits.header_timeout));
        let mut stall = pin!(unread.stalls(limits.write_stall_timeout));
        let mut stopping = pin!(async {
            tokio::select! { () = stop.cancelled() => {}, () = login.ends() => {} }
        });
        let mut is_stopping = false;
        loop {
            tokio::select! {
                ended = connection.as_mut() => break log(peer, ended.err()),
                () = silence.as_mut() => break log(peer, Some("no request received".into())),
                () = stall.as_mut() => break log(peer, Some("the client stopped reading the response".into())),
                () = stopping.as_mut(), if !is_stopping => {
                    is_stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

fn log_refused(peer: SocketAddr, refused: &HandshakeRefused) {
    match refused.is_failed_login() {
        true => tracing::warn!(client = %peer, "client certificate refused: {refused}"),
        false => tracing::debug!(%peer, "connection closed: {refused}"),
    }
}

fn log(peer: SocketAddr, error: Option<Box<dyn std::error::Error + Send + Sync>>) {
    if let Some(error) = error {
        tracing::debug!(%peer, "connection closed: {error}");
    }
}

/// Waits for a time in which no request begins, and does not end where one does. The library waits without a limit for the bytes that
/// tell HTTP/2 from HTTP/1.
async fn silence(begun: &Notify, limit: Duration) {
    if tokio::time::timeout(limit, begun.notified()).await.is_ok() {
        std::future::pending().await
    }
}

/// Adds what the connection tells of a request. HTTP/2 names the host in `:authority`; for what reads headers it is in `Host`, too
/// (RFC 9113, section 8.3.1).
fn described(mut request: Request, peer: SocketAddr, secure: Option<Secure>) -> Request {
    request.extensions_mut().insert(ClientAddress(peer));
    if let Some(secure) = secure {
        request.extensions_mut().insert(secure);
    }
    let authority = request.uri().authority().map(|authority| HeaderValue::from_str(authority.as_str()));
    if let (Version::HTTP_2, Some(Ok(host))) = (request.version(), authority) {
        request.headers_mut().entry(header::HOST).or_insert(host);
    }
    request
}

async fn answer(
    mut app: Router,
    request: Request,
    unread: Unread,
    login: ConnectionLogin,
) -> Result<Response, Infallible> {
    if !login.is_accepted().await {
        return Ok(login::refusal(&request));
    }
    let has_windows = request.version() == Version::HTTP_2;
    let answer = app.call(request).await?;
    Ok(if has_windows { answer.map(|body| unread.watch(body)) } else { answer })
}
