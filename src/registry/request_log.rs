//! One log line, and one event, per push, deletion, token, failed login and denial; with `--access-log` one line per request.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{Method, StatusCode},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{
    Registry,
    auth::{Credentials, TOKEN_PATH},
    denial::Denial,
    endpoint::{self, Endpoint},
    error::ApiError,
    is_read,
};
use crate::{
    http::{
        access_log::RequestLine,
        events::{Action, Event},
    },
    signatures::signed_by_cosign,
};

/// An extension of the answer to a push of a signature.
#[derive(Clone, Copy, Debug)]
pub struct SignaturePushed;

/// Logs a request once it is answered. A write is completed even if its client disconnects, so it is logged even then.
pub async fn log(State(registry): State<Arc<Registry>>, request: Request, next: Next) -> Response {
    if is_read(request.method()) {
        return answer(registry, request, next).await;
    }
    let answered = tokio::spawn(answer(registry, request, next)).await;
    answered.unwrap_or_else(|_| ApiError::stopped().into_response())
}

async fn answer(registry: Arc<Registry>, request: Request, next: Next) -> Response {
    let (user, certificate) = claimed(&registry, &request);
    let line = RequestLine::new(&request, user);
    let shown = Credentials::of_request(&request).login().map(str::to_owned);
    let response = next.run(request).await;
    let with_certificate = |event| Event { certificate, ..event };
    match told(&line, shown.as_deref(), &response) {
        Some(Told::Done(event)) => registry.events.tell(&with_certificate(event)).await,
        Some(Told::FailedLogin(event)) => {
            let shown = shown.as_deref().unwrap_or_default();
            registry.events.tell_failed_login(&line, shown, &with_certificate(event)).await;
        }
        Some(Told::Denied(event)) => {
            let event = with_certificate(event);
            let key = (&event.user, event.wanted, &event.repository);
            registry.events.tell_denial(&line, key, &event).await;
        }
        None => {}
    }
    line.when_sent(response)
}

/// An event, and how often it is told.
enum Told {
    /// What changed the registry, or a token.
    Done(Event),
    /// Wrong credentials.
    FailedLogin(Event),
    /// What no rule allows.
    Denied(Event),
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

/// What there is to tell of an answer; `shown` is the login that the request shows.
fn told(line: &RequestLine, shown: Option<&str>, response: &Response) -> Option<Told> {
    let RequestLine { user, method, path, .. } = line;
    let of = |action| Event::of_request(line, action);
    match (response.extensions().get::<Denial>(), method, response.status()) {
        (Some(Denial::Scope), ..) => None,
        (Some(Denial::Rules { user, wanted, repository }), ..) => Some(Told::Denied(Event {
            user: user.clone(),
            wanted: Some(wanted.as_str()),
            repository: Some(repository.clone()),
            ..of(Action::Denied)
        })),
        (_, _, StatusCode::UNAUTHORIZED) => {
            (user.is_some() || shown.is_some()).then(|| Told::FailedLogin(of(Action::LoginFailed)))
        }
        (_, &Method::GET, StatusCode::OK) => {
            (path == TOKEN_PATH && user.is_some()).then(|| Told::Done(of(Action::Token)))
        }
        (_, &Method::PUT, StatusCode::CREATED) => pushed(path, response, of(Action::Push)).map(Told::Done),
        (_, &Method::DELETE, StatusCode::ACCEPTED) => deleted(path, of(Action::Delete)).map(Told::Done),
        _ => None,
    }
}

/// A push of a manifest; blobs arrive before it, and belong to it.
fn pushed(path: &str, response: &Response, event: Event) -> Option<Event> {
    let path = endpoint::decode(path)?;
    let Endpoint::Manifest { name, reference } = Endpoint::parse(&path)? else { return None };
    let header = |name: &str| response.headers().get(name)?.to_str().ok().map(str::to_owned);
    let signed = signed_by_cosign(reference);
    let is_signature = signed.is_some() || response.extensions().get::<SignaturePushed>().is_some();
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
