//! The `Basic` authentication scheme (RFC 7617).

use base64::{Engine, engine::general_purpose::STANDARD};

/// Reads the user name and the password from an `Authorization` header; none where it has another scheme or is invalid.
pub fn credentials(header: &str) -> Option<(String, String)> {
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
    fn basic_auth_credentials_are_parsed_from_the_authorization_header() {
        let pair = |user: &str, password: &str| Some((user.to_string(), password.to_string()));
        for (header, read) in [
            ("Basic bWU6c2VjcmV0", pair("me", "secret")),
            ("basic  bWU6YTpi", pair("me", "a:b")),
            ("Bearer bWU6c2VjcmV0", None),
            ("Basic !", None),
            ("Basic bWU=", None),
            ("", None),
        ] {
            assert_eq!(credentials(header), read, "{header}");
        }
    }
}
