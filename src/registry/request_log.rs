//! One log line per push, deletion and failed login; with `--access-log` one per request.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode},
    middleware::Next,
    response::Response,
};

use super::{
    Registry,
    endpoint::{self, Endpoint},
};
use crate::http::access_log::RequestLine;

/// Logs a request once it is answered.
pub async fn log(State(registry): State<Registry>, request: Request, next: Next) -> Response {
    let line = RequestLine::new(&request, registry.access.claimed_user(request.headers()));
    let response = next.run(request).await;
    event(&line, response.status(), response.headers());
    line.when_sent(response)
}

/// Logs what changed the registry, and failed logins.
fn event(line: &RequestLine, status: StatusCode, headers: &HeaderMap) {
    let RequestLine { client, forwarded_for, user, .. } = line;
    let client = client.map(tracing::field::display);
    let (forwarded_for, user) = (forwarded_for.as_deref(), user.as_deref());
    if status == StatusCode::UNAUTHORIZED && user.is_some() {
        tracing::warn!(client, forwarded_for, user, "login failed");
    }
    let path = endpoint::decode(&line.path).unwrap_or_default();
    let Some(endpoint) = Endpoint::parse(&path) else { return };
    let (name, what) = match endpoint {
        Endpoint::Manifest { name, reference } => (name, reference),
        Endpoint::Blob { name, digest } => (name, digest),
        _ => return,
    };
    match (&line.method, status) {
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
