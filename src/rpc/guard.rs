//! Refuses what a page in a browser sends, before anything is done for it, and clients that are neither users nor authorized.
//!
//! A page of any site can make a browser send a `POST` to loopback. The browser says so in `Origin`, or at least in
//! `Referer` or by its `User-Agent`; where the name of the site resolves to loopback by now, `Host` has that name.

use axum::{
    Extension,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, StatusCode, Uri, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{
    Rpc,
    args::Args,
    common::CommonOptions,
    error::{Error, plain},
};
use crate::{
    access::User,
    http::{
        AccessRules, Users,
        access_log::RequestLine,
        basic, drain,
        events::{Action, Event},
        htpasswd::LoginError,
        viewer::{self, Sender},
    },
};

/// An extension of the refusal of credentials that are wrong.
#[derive(Clone, Copy, Debug)]
struct WrongLogin;

/// Logs a request, with `--access-log`, and tells of a login that failed.
pub async fn log(State(rpc): State<Rpc>, request: Request, next: Next) -> Response {
    let sent = sent(request.headers()).map(str::to_owned);
    let user = sent.as_deref().and_then(basic::credentials).map(|(user, _)| user);
    let line = RequestLine::new(&request, user);
    let response = next.run(request).await;
    if let (Some(sent), Some(_)) = (sent, response.extensions().get::<WrongLogin>()) {
        let event = Event::of_request(&line, Action::LoginFailed);
        rpc.options.events.tell_failed_login(&line, &sent, &event).await;
    }
    line.when_sent(response)
}

/// The `Authorization` header.
fn sent(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok())
}

fn wrong_login(refusal: Response) -> Response {
    (Extension(WrongLogin), refusal).into_response()
}

pub async fn check(State(rpc): State<Rpc>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    if rpc.place.check(&parts).is_err() || is_of_page(&parts.headers) {
        return plain(StatusCode::FORBIDDEN, "403 - Forbidden");
    }
    let user = match admit(&rpc, &parts).await {
        Ok(user) => user,
        Err(refusal) => return refusal,
    };
    let rules = rpc.options.rules.as_ref().map(AccessRules::current);
    let policies = rpc.options.resolver.policies().current();
    let args = Args::parse(parts.uri.query().unwrap_or_default());
    let CommonOptions { timeout, offline, cids } = match CommonOptions::parse(parts.uri.path(), &args) {
        Ok(options) => options,
        Err(refusal) => {
            drain(&parts.headers, &mut body.into_data_stream()).await;
            return refusal.into_response();
        }
    };
    let view = Sender { rules, policies, user, ..Sender::default() }.view();
    let view = if offline { view.local() } else { view };
    let answer = cids.scope(view.clone().scope(next.run(Request::from_parts(parts, body))));
    let answer = async { viewer::viewed(&view, answer.await) };
    match timeout {
        None => answer.await,
        Some(timeout) => {
            let late = |_| Error::failed("context deadline exceeded").into_response();
            tokio::time::timeout(timeout, answer).await.unwrap_or_else(late)
        }
    }
}

/// Whether a browser sent a request without saying where from, or from elsewhere.
fn is_of_page(headers: &HeaderMap) -> bool {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    if let Some(referer) = text(header::REFERER) {
        return !is_own(referer, headers);
    }
    text(header::USER_AGENT).is_some_and(|agent| agent.starts_with("Mozilla"))
}

/// Whether a URL is of this listener, as the request names it.
fn is_own(url: &str, headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = url.parse::<Uri>().ok().and_then(|url| url.authority().map(ToString::to_string));
    host.is_some() && authority.as_deref() == host
}

/// Requires a secret that allows the command, or a user's password, where there are some. Returns the user that access rules are
/// about: a secret has its name.
async fn admit(rpc: &Rpc, request: &Parts) -> Result<User, Response> {
    if let Some(authorizations) = &rpc.options.authorizations {
        authorizations.refresh().await;
        let path = request.uri.path();
        if let Some(name) = authorizations.allow(sent(&request.headers).unwrap_or_default(), path) {
            return Ok(User::named(name));
        }
    }
    match (&rpc.options.users, &rpc.options.authorizations) {
        (Some(users), _) => login(users, &request.headers).await,
        (None, Some(authorizations)) => {
            let refusal = plain(
                StatusCode::FORBIDDEN,
                "403 - Forbidden: the authorization of the request does not allow this command",
            );
            let is_known = sent(&request.headers).is_none_or(|sent| authorizations.knows(sent));
            Err(if is_known { refusal } else { wrong_login(refusal) })
        }
        (None, None) => Ok(User::default()),
    }
}

/// Requires a user's password.
async fn login(users: &Users, headers: &HeaderMap) -> Result<User, Response> {
    users.refresh().await;
    let unauthorized = |message: &str| {
        let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"ocipfs\", charset=\"UTF-8\"")];
        let refusal = (challenge, plain(StatusCode::UNAUTHORIZED, message)).into_response();
        if sent(headers).is_some() { wrong_login(refusal) } else { refusal }
    };
    let (user, password) =
        sent(headers).and_then(basic::credentials).ok_or_else(|| unauthorized("401 - Unauthorized"))?;
    match users.login(&user, &password).await {
        Ok(login) => Ok(User::named(login.user())),
        Err(LoginError::Wrong) => Err(unauthorized("401 - Unauthorized")),
        Err(error @ LoginError::TooLong(_)) => Err(unauthorized(&error.to_string())),
        Err(error @ LoginError::Busy) => Err(plain(StatusCode::SERVICE_UNAVAILABLE, &error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_is_refused_by_its_referer_or_its_user_agent() {
        for (headers, refused) in [
            (&[][..], false),
            (&[("user-agent", "Go-http-client/1.1")], false),
            (&[("user-agent", "Mozilla/5.0")], true),
            (&[("referer", "http://evil.example/x")], true),
            (&[("referer", "nonsense")], true),
            (&[("referer", "http://localhost:5001/x"), ("user-agent", "Mozilla/5.0")], false),
            (&[("referer", "http://localhost:5002/x")], true),
        ] {
            let mut all: HeaderMap = headers
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
                .collect();
            all.insert(header::HOST, "localhost:5001".parse().unwrap());
            assert_eq!(is_of_page(&all), refused, "{headers:?}");
        }
    }
}
