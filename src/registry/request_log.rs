//! One log line per push, deletion and failed login; with `--access-log` one per request.

use std::{
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode},
    middleware::Next,
    response::Response,
};
use http_body::{Frame, SizeHint};

use super::{
    Registry,
    endpoint::{self, Endpoint},
    origin::Peer,
};

/// The target of the access log, for filters of the log.
const ACCESS: &str = "ocipfs::access";

/// A request, as far as log lines tell of it.
struct Line {
    client: Option<SocketAddr>,
    /// Client address that a proxy reports.
    forwarded_for: Option<String>,
    user: Option<String>,
    method: Method,
    path: String,
    begin: Instant,
}

/// Logs a request once it is answered.
pub async fn log(State(registry): State<Registry>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let forwarded = headers.get("x-forwarded-for").map(|value| String::from_utf8_lossy(value.as_bytes()));
    let line = Line {
        client: request.extensions().get().map(|Peer(address)| *address),
        forwarded_for: forwarded.map(|forwarded| forwarded.into_owned()),
        user: registry.access.claimed_user(headers),
        method: request.method().clone(),
        path: request.uri().path().to_owned(),
        begin: Instant::now(),
    };
    let response = next.run(request).await;
    line.event(response.status(), response.headers());
    if !tracing::enabled!(target: ACCESS, tracing::Level::INFO) {
        return response;
    }
    let status = response.status();
    response.map(|body| Body::new(Sent { body, line, status, bytes: 0 }))
}

impl Line {
    /// Logs what changed the registry, and failed logins.
    fn event(&self, status: StatusCode, headers: &HeaderMap) {
        let Self { client, forwarded_for, user, .. } = self;
        let client = client.map(tracing::field::display);
        let (forwarded_for, user) = (forwarded_for.as_deref(), user.as_deref());
        if status == StatusCode::UNAUTHORIZED && user.is_some() {
            tracing::warn!(client, forwarded_for, user, "login failed");
        }
        let path = endpoint::decode(&self.path).unwrap_or_default();
        let Some(endpoint) = Endpoint::parse(&path) else { return };
        let (name, what) = match endpoint {
            Endpoint::Manifest { name, reference } => (name, reference),
            Endpoint::Blob { name, digest } => (name, digest),
            _ => return,
        };
        match (&self.method, status) {
            (&Method::PUT, StatusCode::CREATED) => {
                let digest = headers.get("docker-content-digest").and_then(|digest| digest.to_str().ok());
                tracing::info!(
                    client,
                    forwarded_for,
                    user,
                    repository = name,
                    reference = what,
                    digest,
                    "pushed"
                );
            }
            (&Method::DELETE, StatusCode::ACCEPTED) => {
                tracing::info!(client, forwarded_for, user, repository = name, reference = what, "deleted");
            }
            _ => {}
        }
    }
}

/// A body that logs its request when it is dropped: sent, or broken off.
struct Sent {
    body: Body,
    line: Line,
    status: StatusCode,
    bytes: u64,
}

impl HttpBody for Sent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            self.bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        let Line { client, forwarded_for, user, method, path, begin } = &self.line;
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
