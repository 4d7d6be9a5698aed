use axum::routing::get;
use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const SOON: Duration = Duration::from_secs(20);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn limits() -> Limits {
    let header_timeout = Duration::from_millis(500);
    Limits {
        connections: 1_000,
        header_timeout,
        write_stall_timeout: Duration::from_millis(500),
        ..Limits::default()
    }
}

struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
}

impl Server {
    async fn start(app: Router, limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let serving = tokio::spawn(serve(listener, app, limits, stop.clone()));
        Self { address, stop, serving }
    }

    async fn connect(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream
    }
}

/// Holds that an answer comes.
async fn answers(stream: &mut TcpStream) {
    let mut start = [0; 12];
    tokio::time::timeout(SOON, stream.read_exact(&mut start)).await.expect("an answer").unwrap();
    assert_eq!(&start, b"HTTP/1.1 200");
}

/// Waits until the server closes a connection.
async fn closes(mut stream: TcpStream) {
    let mut rest = Vec::new();
    let read = tokio::time::timeout(SOON, stream.read_to_end(&mut rest)).await;
    let _ = read.expect("the connection is closed");
}

fn hello() -> Router {
    Router::new().route("/", get(async || "hello"))
}

#[tokio::test]
async fn connections_with_an_incomplete_header_are_closed_after_the_header_timeout() {
    let server = Server::start(hello(), limits()).await;
    let mut silent = Vec::new();
    for n in 0..200 {
        let half: &[u8] = [&b""[..], b"GET /v2/ HTTP/1.1\r\nX:", b"PRI * HTTP/2.0\r\n", REQUEST][n % 4];
        silent.push(server.connect(half).await);
    }
    answers(&mut server.connect(REQUEST).await).await;
    futures::future::join_all(silent.into_iter().map(closes)).await;
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_until_one_is_closed() {
    let limits = Limits { connections: 2, header_timeout: SOON, ..limits() };
    let server = Server::start(hello(), limits).await;
    let mut held = vec![server.connect(REQUEST).await, server.connect(REQUEST).await];
    for stream in &mut held {
        answers(stream).await;
    }
    let mut third = server.connect(REQUEST).await;
    let mut byte = [0];
    let early = tokio::time::timeout(Duration::from_millis(100), third.peek(&mut byte)).await;
    assert!(early.is_err(), "two are served at one time");
    held.pop();
    answers(&mut third).await;
}

/// Tells when it is dropped.
struct Dropped(Arc<Notify>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[tokio::test]
async fn a_client_that_stops_reading_is_dropped_after_the_write_stall_timeout() {
    let dropped = Arc::new(Notify::new());
    let tells = dropped.clone();
    let endless = async move || {
        let guard = Dropped(tells);
        let pieces = futures::stream::repeat(bytes::Bytes::from_static(&[7; 1 << 16]));
        Body::from_stream(pieces.map(move |piece| {
            let _ = &guard;
            Ok::<_, Infallible>(piece)
        }))
    };
    let server = Server::start(Router::new().route("/", get(endless)), limits()).await;
    let mut deaf = server.connect(REQUEST).await;
    answers(&mut deaf).await;
    tokio::time::timeout(SOON, dropped.notified()).await.expect("the client is dropped");
}

/// Frames of HTTP/2: a preface, settings with a window of one byte for each answer, and `GET /`.
fn narrow_http2_request() -> Vec<u8> {
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream], payload].concat()
    };
    let settings = frame(4, 0, 0, &[0, 4, 0, 0, 0, 1]);
    // `:method: GET`, `:scheme: http` and `:path: /` of the static table, and `:authority`.
    let headers = frame(1, 0b101, 1, &[&[0x82, 0x86, 0x84, 0x01, 9][..], b"localhost"].concat());
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), settings, headers].concat()
}

#[tokio::test]
async fn an_http2_client_with_a_closed_window_is_dropped_after_the_write_stall_timeout() {
    let server = Server::start(hello(), limits()).await;
    let stream = server.connect(&narrow_http2_request()).await;
    closes(stream).await;
}

#[tokio::test]
async fn graceful_shutdown_finishes_requests_and_closes_idle_connections() {
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tells, waits) = (begun.clone(), go_on.clone());
    let slow = async move || {
        tells.notify_one();
        waits.notified().await;
        "hello"
    };
    let app = hello().route("/slow", get(slow));
    let server = Server::start(app, Limits { header_timeout: SOON * 10, ..limits() }).await;
    let mut idle = server.connect(REQUEST).await;
    answers(&mut idle).await;
    let mut asked = server.connect(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    begun.notified().await;
    server.stop.cancel();
    closes(idle).await;
    assert!(!server.serving.is_finished());
    go_on.notify_one();
    answers(&mut asked).await;
    tokio::time::timeout(SOON, server.serving).await.expect("it ends").unwrap();
}

#[test]
fn the_connection_limit_leaves_file_descriptors_for_peers_and_the_database() {
    let limits = Limits::default();
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    assert!(
        limits.connections as u64 <= files.div_ceil(FILES_SHARE) && limits.connections <= MAX_CONNECTIONS
    );
}
