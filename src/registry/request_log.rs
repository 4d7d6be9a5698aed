//! One log line, and one event, per push, deletion, token and failed login; with `--access-log` one line per request.

use axum::{
    extract::{Request, State},
    http::{Method, StatusCode},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{
    Registry,
    auth::{Credentials, TOKEN_PATH},
    endpoint::{self, Endpoint},
    error::ApiError,
    is_read,
    signed::{Signature, signed_by_tag},
};
use crate::http::{
    access_log::RequestLine,
    events::{Action, Event},
};

/// Logs a request once it is answered. A write is completed even if its client disconnects, so it is logged even then.
pub async fn log(State(registry): State<Registry>, request: Request, next: Next) -> Response {
    if is_read(request.method()) {
        return answer(registry, request, next).await;
    }
    let answered = tokio::spawn(answer(registry, request, next)).await;
    answered.unwrap_or_else(|_| ApiError::stopped().into_response())
}

async fn answer(registry: Registry, request: Request, next: Next) -> Response {
    let (user, certificate) = claimed(&registry, &request);
    let line = RequestLine::new(&request, user);
    let response = next.run(request).await;
    if let Some(event) = event(&line, &response) {
        let event = Event { certificate, ..event };
        log_event(&line, &event);
        registry.events.record(&event).await;
    }
    line.when_sent(response)
}

/// The user of a request, and that of its connection if it is another one: at the token endpoint the certificate counts for nothing,
/// and a password is tried there, perhaps of another user.
fn claimed(registry: &Registry, request: &Request) -> (Option<String>, Option<String>) {
    let shown = Credentials::of_request(request);
    let at_endpoint = (request.uri().path() == TOKEN_PATH).then(|| registry.access.claimed_by_header(shown));
    let user = at_endpoint.flatten().or_else(|| registry.access.claimed_user(shown));
    let is_other = |own: &&str| user.as_deref().is_some_and(|user| user != *own);
    let certificate = shown.certificate_user().filter(is_other).map(str::to_owned);
    (user, certificate)
}

/// What changed the registry, a token, or a failed login.
fn event(line: &RequestLine, response: &Response) -> Option<Event> {
    let RequestLine { client, forwarded_for, user, method, path, .. } = line;
    let of = |action| Event {
        user: user.clone(),
        client: client.map(|address| address.to_string()),
        forwarded_for: forwarded_for.clone(),
        ..Event::now(action)
    };
    match (method, response.status()) {
        (_, StatusCode::UNAUTHORIZED) => user.is_some().then(|| of(Action::LoginFailed)),
        (&Method::GET, StatusCode::OK) => (path == TOKEN_PATH && user.is_some()).then(|| of(Action::Token)),
        (&Method::PUT, StatusCode::CREATED) => pushed(path, response, of(Action::Push)),
        (&Method::DELETE, StatusCode::ACCEPTED) => deleted(path, of(Action::Delete)),
        _ => None,
    }
}

/// A push of a manifest; blobs arrive before it, and belong to it.
fn pushed(path: &str, response: &Response, event: Event) -> Option<Event> {
    let path = endpoint::decode(path)?;
    let Endpoint::Manifest { name, reference } = Endpoint::parse(&path)? else { return None };
    let header = |name: &str| response.headers().get(name)?.to_str().ok().map(str::to_owned);
    let signed = signed_by_tag(reference);
    let is_signature = signed.is_some() || response.extensions().get::<Signature>().is_some();
    Some(Event {
        action: if is_signature { Action::Sign } else { Action::Push },
        repository: Some(name.into()),
        reference: Some(reference.into()),
        digest: header("docker-content-digest"),
        subject: header("oci-subject").or(signed),
        ..event
    })
}

fn deleted(path: &str, event: Event) -> Option<Event> {
    let path = endpoint::decode(path)?;
    let (name, what) = match Endpoint::parse(&path)? {
        Endpoint::Manifest { name, reference } => (name, reference),
        Endpoint::Blob { name, digest } => (name, digest),
        _ => return None,
    };
    let digest = what.contains(':').then(|| what.to_owned());
    Some(Event { repository: Some(name.into()), reference: Some(what.into()), digest, ..event })
}

/// Events in the log of the process, which has no line for tokens.
fn log_event(line: &RequestLine, event: &Event) {
    let Event { user, forwarded_for, repository, reference, digest, .. } = event;
    let client = line.client.map(tracing::field::display);
    let (forwarded_for, user) = (forwarded_for.as_deref(), user.as_deref());
    let (repository, reference) = (repository.as_deref(), reference.as_deref());
    match event.action {
        Action::LoginFailed => tracing::warn!(client, forwarded_for, user, "login failed"),
        Action::Push | Action::Sign => {
            let digest = digest.as_deref();
            tracing::info!(client, forwarded_for, user, repository, reference, digest, "pushed");
        }
        Action::Delete => {
            tracing::info!(client, forwarded_for, user, repository, reference, "deleted");
        }
        Action::Token => {}
    }
}
