//! Tokens in place of passwords: <https://distribution.github.io/distribution/spec/auth/token/>. Docker sends a password
//! only where the registry asks everybody to log in; a token it fetches for who has no name as well, and that one reads.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, header, uri::Authority},
    response::IntoResponse,
};
use serde_json::json;
use uuid::Uuid;

use super::{
    Registry,
    access::login,
    error::ApiError,
    htpasswd::{Login, LoginError},
    origin::forwarding,
    public_url::PublicUrl,
};

/// Where they are had.
pub const PATH: &str = "/token";
/// Lifetime of a token as clients are told; the registry accepts it for `GRACE` longer.
const LIFETIME: Duration = Duration::from_secs(300);
const GRACE: Duration = Duration::from_secs(60);
/// Tokens that are good at one time; after that the oldest goes.
const MAX_TOKENS: usize = 10_000;
/// Token of anonymous clients.
const ANONYMOUS: &str = "anybody";

/// Tokens of users. Clones share them.
#[derive(Clone, Default)]
pub struct Tokens(Arc<Inner>);

#[derive(Default)]
struct Inner {
    public_url: Option<PublicUrl>,
    granted: Mutex<HashMap<String, Grant>>,
}

/// Login that a token stands for, and when the token expires.
struct Grant {
    login: Login,
    end: Instant,
}

/// Holder of a token.
#[derive(Debug, PartialEq, Eq)]
pub enum Holder {
    /// This user, if the file of users still has the login.
    User(Login),
    Anybody,
}

impl Tokens {
    pub fn new(public_url: Option<PublicUrl>) -> Self {
        Self(Arc::new(Inner { public_url, granted: Mutex::default() }))
    }

    fn issue(&self, login: Login, now: Instant) -> String {
        let token = Uuid::new_v4().simple().to_string();
        let mut tokens = self.0.granted.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= MAX_TOKENS {
            tokens.retain(|_, grant| grant.end > now);
        }
        if tokens.len() >= MAX_TOKENS
            && let Some(oldest) =
                tokens.iter().min_by_key(|(_, grant)| grant.end).map(|(token, _)| token.clone())
        {
            tokens.remove(&oldest);
        }
        tokens.insert(token.clone(), Grant { login, end: now + LIFETIME + GRACE });
        token
    }

    /// Returns the holder of a token; none if it is unknown or expired.
    pub fn holder(&self, token: &str, now: Instant) -> Option<Holder> {
        if token == ANONYMOUS {
            return Some(Holder::Anybody);
        }
        let tokens = self.0.granted.lock().unwrap_or_else(PoisonError::into_inner);
        let grant = tokens.get(token).filter(|grant| grant.end > now)?;
        Some(Holder::User(grant.login.clone()))
    }

    /// The challenge that leads a client to a token for what it wants to do. A password is never
    /// sent over a connection that is not known to be safe: then the client is asked for the password itself.
    pub fn challenge(&self, headers: &HeaderMap, scope: Option<&str>) -> Option<String> {
        let text = |name| headers.get(name)?.to_str().ok();
        let url = match &self.0.public_url {
            Some(url) => url.as_str().to_string(),
            None => {
                let proto = text("x-forwarded-proto").and_then(|all| all.split(',').next()).map(str::trim);
                let scheme = match proto {
                    Some(proto) if proto.eq_ignore_ascii_case("https") => "https",
                    Some(proto) if proto.eq_ignore_ascii_case("http") => "http",
                    None if forwarding(headers).is_none() => "http",
                    _ => return None,
                };
                let host = text("x-forwarded-host").or_else(|| text("host"))?;
                format!("{scheme}://{}", host.parse::<Authority>().ok()?)
            }
        };
        let shown = text("authorization").and_then(|shown| shown.split_once(' '));
        let error = match shown {
            Some((scheme, ANONYMOUS)) if scheme.eq_ignore_ascii_case("bearer") => {
                ",error=\"insufficient_scope\""
            }
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("bearer") => ",error=\"invalid_token\"",
            _ => "",
        };
        let scope = scope.map(|scope| format!(",scope=\"{scope}\"")).unwrap_or_default();
        Some(format!("Bearer realm=\"{url}{PATH}\",service=\"ocipfs\"{scope}{error}"))
    }
}

/// Gives a token: a user's for a name and a password, else one that reads.
pub async fn get(
    State(registry): State<Registry>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, ApiError> {
    let Some((users, tokens)) = registry.access.users() else { return Err(ApiError::no_endpoint()) };
    let token = match headers.get(header::AUTHORIZATION) {
        None => ANONYMOUS.to_string(),
        Some(value) => {
            users.refresh().await;
            let (user, password) = value.to_str().ok().and_then(login).ok_or(LoginError::Wrong)?;
            tokens.issue(users.login(&user, &password).await?, Instant::now())
        }
    };
    let lifetime = LIFETIME.as_secs();
    let answer = Json(json!({ "token": token, "access_token": token, "expires_in": lifetime }));
    Ok(([(header::CACHE_CONTROL, "no-store")], answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_expires_after_its_lifetime_and_the_oldest_is_evicted_first() {
        let (tokens, now) = (Tokens::default(), Instant::now());
        let me = || Login::default();
        let first = tokens.issue(me(), now);
        assert_eq!(tokens.holder(&first, now), Some(Holder::User(me())));
        assert_eq!(tokens.holder(&first, now + LIFETIME + GRACE), None);
        assert_eq!(tokens.holder(ANONYMOUS, now), Some(Holder::Anybody));
        assert_eq!(tokens.holder("", now), None);
        for n in 0..MAX_TOKENS as u64 {
            tokens.issue(me(), now + Duration::from_millis(n + 1));
        }
        assert_eq!(tokens.holder(&first, now), None);
        let last = tokens.issue(me(), now + Duration::from_secs(3600));
        assert_eq!(tokens.0.granted.lock().unwrap().len(), 1);
        assert_eq!(tokens.holder(&last, now), Some(Holder::User(me())));
    }

    #[test]
    fn the_token_realm_of_a_challenge_has_the_requested_host() {
        let of = |url: Option<&str>, pairs: &[(&'static str, &str)], scope| {
            let mut headers = HeaderMap::new();
            pairs.iter().for_each(|(name, value)| drop(headers.insert(*name, value.parse().unwrap())));
            Tokens::new(url.map(|url| url.parse().unwrap())).challenge(&headers, scope)
        };
        let bearer =
            |url: &str, more: &str| Some(format!("Bearer realm=\"{url}/token\",service=\"ocipfs\"{more}"));
        let (own, example) = ("http://localhost:5050", "https://r.example");
        let (wanted, scope) = ("repository:a/b:pull,push", ",scope=\"repository:a/b:pull,push\"");
        for (pairs, found) in [
            (&[("host", "localhost:5050")][..], bearer(own, scope)),
            (&[("host", "r.example"), ("x-forwarded-proto", "HTTPS, http")], bearer(example, scope)),
            (
                &[("host", "x"), ("x-forwarded-host", "r.example"), ("x-forwarded-proto", "https")],
                bearer(example, scope),
            ),
            // A proxy forwarded the request, and does not say how the client connected.
            (&[("host", "r.example"), ("x-forwarded-for", "192.0.2.1")], None),
            (&[], None),
            (&[("host", "x\",y=\"z")], None),
        ] {
            assert_eq!(of(None, pairs, Some(wanted)), found, "{pairs:?}");
        }
        assert_eq!(of(Some("https://r.example/"), &[("via", "x")], None), bearer(example, ""));
        let shown = [("host", "localhost:5050"), ("authorization", "Bearer anybody")];
        assert_eq!(of(None, &shown, None), bearer(own, ",error=\"insufficient_scope\""));
        let shown = [("host", "localhost:5050"), ("authorization", "Bearer x")];
        assert_eq!(of(None, &shown, None), bearer(own, ",error=\"invalid_token\""));
    }
}
