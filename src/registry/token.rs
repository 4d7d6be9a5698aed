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
    http::{HeaderMap, header},
    response::IntoResponse,
};
use ocipfs_oci::Name;
use serde_json::json;
use uuid::Uuid;

use super::{
    Registry,
    access::{Access, login},
    error::Refusal,
};

/// Where they are had.
pub const PATH: &str = "/token";
/// What a client is told of how long a token is good for, and how much longer it is.
const LIFETIME: Duration = Duration::from_secs(300);
const GRACE: Duration = Duration::from_secs(60);
/// Tokens that are good at one time; after that the oldest goes.
const MOST: usize = 10_000;
/// The token of who has no name.
const ANYBODY: &str = "anybody";

/// Tokens of users, with the end of each. Clones share them.
#[derive(Clone, Default)]
pub struct Tokens(Arc<Mutex<HashMap<String, Instant>>>);

/// Whom a token belongs to.
#[derive(Debug, PartialEq, Eq)]
pub enum Holder {
    User,
    Anybody,
}

impl Tokens {
    fn issue(&self, now: Instant) -> String {
        let token = Uuid::new_v4().simple().to_string();
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= MOST {
            tokens.retain(|_, end| *end > now);
        }
        if tokens.len() >= MOST
            && let Some(oldest) = tokens.iter().min_by_key(|(_, end)| **end).map(|(token, _)| token.clone())
        {
            tokens.remove(&oldest);
        }
        tokens.insert(token.clone(), now + LIFETIME + GRACE);
        token
    }

    /// Who shows a token, if it is one that is good.
    pub fn holder(&self, token: &str, now: Instant) -> Option<Holder> {
        if token == ANYBODY {
            return Some(Holder::Anybody);
        }
        let tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.get(token).is_some_and(|end| *end > now).then_some(Holder::User)
    }
}

/// Gives a token: a user's for a name and a password, else one that reads.
pub async fn get(State(registry): State<Registry>, headers: HeaderMap) -> Result<impl IntoResponse, Refusal> {
    let Access::Users(users, tokens) = &registry.access else { return Err(Refusal::no_endpoint()) };
    let token = match headers.get(header::AUTHORIZATION) {
        None => ANYBODY.to_string(),
        Some(value) => match value.to_str().ok().and_then(login) {
            Some((user, password)) if users.know(&user, &password).await => tokens.issue(Instant::now()),
            _ => return Err(Refusal::unauthorized(None)),
        },
    };
    let lifetime = LIFETIME.as_secs();
    let answer = Json(json!({ "token": token, "access_token": token, "expires_in": lifetime }));
    Ok(([(header::CACHE_CONTROL, "no-store")], answer))
}

/// The challenge that leads a client to a token, for the repository that it wants to change.
pub fn challenge(headers: &HeaderMap, scope: Option<&str>) -> Option<String> {
    let host = headers.get(header::HOST)?.to_str().ok().filter(|host| !host.contains(['"', '\\', '/']))?;
    // Behind a proxy that ends TLS.
    let is_https = headers.get("x-forwarded-proto").is_some_and(|proto| proto == "https");
    let scheme = if is_https { "https" } else { "http" };
    let scope = scope.filter(|name| name.parse::<Name>().is_ok());
    let scope = scope.map(|name| format!(",scope=\"repository:{name}:pull,push\"")).unwrap_or_default();
    Some(format!("Bearer realm=\"{scheme}://{host}{PATH}\",service=\"ocipfs\"{scope}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_its_time_and_the_oldest_goes_first() {
        let (tokens, now) = (Tokens::default(), Instant::now());
        let first = tokens.issue(now);
        assert_eq!(tokens.holder(&first, now), Some(Holder::User));
        assert_eq!(tokens.holder(&first, now + LIFETIME + GRACE), None);
        assert_eq!(tokens.holder(ANYBODY, now), Some(Holder::Anybody));
        assert_eq!(tokens.holder("", now), None);
        for n in 0..MOST as u64 {
            tokens.issue(now + Duration::from_millis(n + 1));
        }
        assert_eq!(tokens.holder(&first, now), None);
        let last = tokens.issue(now + Duration::from_secs(3600));
        assert_eq!(tokens.0.lock().unwrap().len(), 1);
        assert_eq!(tokens.holder(&last, now), Some(Holder::User));
    }

    #[test]
    fn a_challenge_names_the_host_that_was_asked() {
        let of = |pairs: &[(&'static str, &str)], scope| {
            let mut headers = HeaderMap::new();
            pairs.iter().for_each(|(name, value)| drop(headers.insert(*name, value.parse().unwrap())));
            challenge(&headers, scope)
        };
        let bare = "Bearer realm=\"http://localhost:5050/token\",service=\"ocipfs\"";
        assert_eq!(of(&[("host", "localhost:5050")], None).unwrap(), bare);
        assert_eq!(
            of(&[("host", "r.example"), ("x-forwarded-proto", "https")], Some("a/b")).unwrap(),
            "Bearer realm=\"https://r.example/token\",service=\"ocipfs\",scope=\"repository:a/b:pull,push\""
        );
        assert_eq!(of(&[], None), None);
        assert_eq!(of(&[("host", "x\",y=\"z")], None), None);
    }
}
