//! Who may change something: everybody on loopback, users where there are some, and no page in a browser.

use axum::http::{HeaderMap, Method, header};
use base64::{Engine, engine::general_purpose::STANDARD};

use super::{error::Refusal, htpasswd::Users};

/// Who may push and delete. What is here may be read by whoever reaches it.
#[derive(Clone)]
pub enum Access {
    /// Everybody: only this machine reaches the registry.
    Everybody,
    /// Nobody: others reach it, and there are no users.
    Nobody,
    /// These users.
    Users(Users),
}

impl Access {
    /// Refuses a request that would change something and may not.
    pub async fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
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
            Self::Users(_) => self.greet(headers).await,
        }
    }

    /// Refuses who is no user, where there are users.
    pub async fn greet(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Self::Users(users) = self else { return Ok(()) };
        let login = headers.get(header::AUTHORIZATION).and_then(|value| login(value.to_str().ok()?));
        match login {
            Some((user, password)) if users.know(&user, &password).await => Ok(()),
            _ => Err(Refusal::unauthorized()),
        }
    }
}

pub fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// The name and the password of `Basic` (RFC 7617).
fn login(header: &str) -> Option<(String, String)> {
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
