//! Who may change something: everybody on loopback, users where there are some, and no page in a browser.

use std::time::Instant;

use axum::http::{HeaderMap, Method, header};
use base64::{Engine, engine::general_purpose::STANDARD};

use super::{
    error::Refusal,
    htpasswd::Users,
    token::{Holder, PublicUrl, Tokens},
};

/// Who may push and delete. What is here may be read by whoever reaches it.
#[derive(Clone)]
pub enum Access {
    /// Everybody: only this machine reaches the registry.
    Everybody,
    /// Nobody: others reach it, and there are no users.
    Nobody,
    /// These users, by their passwords and by what they get in place of them.
    Users(Users, Tokens),
}

impl Access {
    /// Whoever is in such a file; clients reach this at `public_url`, if that is elsewhere than where it listens.
    pub fn users(users: Users, public_url: Option<PublicUrl>) -> Self {
        Self::Users(users, Tokens::new(public_url))
    }

    /// Refuses a request that would change something of a repository and may not.
    pub async fn check(&self, headers: &HeaderMap, name: Option<&str>) -> Result<(), Refusal> {
        if headers.contains_key(header::ORIGIN) {
            let message =
                "a page in a browser may not change anything here (the request has an Origin header)";
            return Err(Refusal::denied(message));
        }
        match self {
            Self::Everybody => Ok(()),
            Self::Nobody => Err(Refusal::denied(
                "pushes are taken on loopback only until there are users: start serve with --htpasswd FILE, \
                 which `htpasswd -B` makes",
            )),
            Self::Users(users, tokens) => match holder(users, tokens, headers).await {
                Some(Holder::User) => Ok(()),
                Some(Holder::Anybody) | None => Err(Refusal::unauthorized(tokens.challenge(headers, name))),
            },
        }
    }

    /// Refuses who shows neither a password nor a token, where there are users: so clients learn that they can.
    pub async fn greet(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Self::Users(users, tokens) = self else { return Ok(()) };
        match holder(users, tokens, headers).await {
            Some(_) => Ok(()),
            None => Err(Refusal::unauthorized(tokens.challenge(headers, None))),
        }
    }
}

pub fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

async fn holder(users: &Users, tokens: &Tokens, headers: &HeaderMap) -> Option<Holder> {
    let shown = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    if let Some((user, password)) = login(shown) {
        return users.know(&user, &password).await.then_some(Holder::User);
    }
    let (scheme, token) = shown.split_once(' ')?;
    let is_token = scheme.eq_ignore_ascii_case("bearer");
    is_token.then(|| tokens.holder(token.trim(), Instant::now())).flatten()
}

/// The name and the password of `Basic` (RFC 7617).
pub fn login(header: &str) -> Option<(String, String)> {
    let (scheme, token) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(token.trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.into(), password.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_read_from_its_header() {
        let pair = |user: &str, password: &str| Some((user.to_string(), password.to_string()));
        for (header, read) in [
            ("Basic bWU6c2VjcmV0", pair("me", "secret")),
            ("basic  bWU6YTpi", pair("me", "a:b")),
            ("Bearer bWU6c2VjcmV0", None),
            ("Basic !", None),
            ("Basic bWU=", None),
            ("", None),
        ] {
            assert_eq!(login(header), read, "{header}");
        }
    }
}
