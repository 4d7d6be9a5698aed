//! One log line per request, with `--access-log`.

use std::{net::SocketAddr, time::Instant};

use axum::{
    body::{Body, Bytes},
    extract::Request,
    http::{Method, StatusCode},
    response::Response,
};
use http_body::Frame;
use http_body_util::BodyExt;

use super::origin::ClientAddress;

/// The target of the access log, for filters of the log.
const ACCESS: &str = "ocipfs::access";
/// Of a user, and of what a proxy says.
const MAX_NAME_CHARACTERS: usize = 255;

/// A request, as far as log lines tell of it.
pub struct RequestLine {
    pub client: Option<SocketAddr>,
    /// Client address that a proxy reports.
    pub forwarded_for: Option<String>,
    pub user: Option<String>,
    pub method: Method,
    pub path: String,
    begin: Instant,
}

/// Log lines have only the beginning of what a client calls itself.
pub fn shortened(text: &str) -> String {
    text.chars().take(MAX_NAME_CHARACTERS).collect()
}

impl RequestLine {
    /// Reads what a request tells of itself; `user` is whom it says that it is from.
    pub fn new(request: &Request, user: Option<String>) -> Self {
        let forwarded = request.headers().get("x-forwarded-for");
        let forwarded = forwarded.map(|value| shortened(&String::from_utf8_lossy(value.as_bytes())));
        Self {
            client: request.extensions().get().map(|ClientAddress(address)| *address),
            forwarded_for: forwarded,
            user: user.map(|user| shortened(&user)),
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            begin: Instant::now(),
        }
    }

    /// Logs the request once its response is sent, or broken off.
    pub fn when_sent(self, response: Response) -> Response {
        if !tracing::enabled!(target: ACCESS, tracing::Level::INFO) {
            return response;
        }
        let mut sent = Sent { line: self, status: response.status(), bytes: 0 };
        response.map(|body| Body::new(body.inspect_frame(move |frame| sent.count(frame))))
    }
}

/// A response that is logged when this is dropped, with its body: sent, or broken off.
struct Sent {
    line: RequestLine,
    status: StatusCode,
    bytes: u64,
}

impl Sent {
    fn count(&mut self, frame: &Frame<Bytes>) {
        self.bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        let RequestLine { client, forwarded_for, user, method, path, begin } = &self.line;
        tracing::info!(
            target: ACCESS,
            client = client.map(tracing::field::display),
            forwarded_for = forwarded_for.as_deref(),
            user = user.as_deref(),
            %method,
            path,
            status = self.status.as_u16(),
            bytes = self.bytes,
            duration_ms = begin.elapsed().as_millis() as u64,
            "request"
        );
    }
}
