//! The `Bearer` challenge of a 401 (RFC 6750), which leads a client to the token endpoint.

use axum::http::{HeaderMap, uri::Authority};

use super::{TOKEN_PATH, credentials::Credentials, tokens::ANONYMOUS};
use crate::http::{PublicUrl, origin::forwarding};

/// Makes the challenge to fetch a token with this scope.
///
/// None where the connection may be insecure: a password is never requested over one by a token challenge, so the client
/// gets the challenge of `Basic` instead.
pub fn bearer(public_url: Option<&PublicUrl>, shown: Credentials<'_>, scope: Option<&str>) -> Option<String> {
    let (headers, scheme) = (shown.headers(), if shown.is_secure() { "https" } else { "http" });
    challenge(public_url, headers, scheme, scope)
}

fn challenge(
    public_url: Option<&PublicUrl>,
    headers: &HeaderMap,
    own_scheme: &'static str,
    scope: Option<&str>,
) -> Option<String> {
    let url = match public_url {
        Some(url) => url.as_str().to_string(),
        None => requested_url(headers, own_scheme)?,
    };
    let scope = scope.map(|scope| format!(",scope=\"{scope}\"")).unwrap_or_default();
    Some(format!("Bearer realm=\"{url}{TOKEN_PATH}\",service=\"ocipfs\"{scope}{}", error(headers)))
}

/// The URL of the registry as the client sees it; none where a proxy does not tell its scheme.
fn requested_url(headers: &HeaderMap, own_scheme: &'static str) -> Option<String> {
    let proto = text(headers, "x-forwarded-proto").and_then(|all| all.split(',').next()).map(str::trim);
    let scheme = match proto {
        Some(proto) if proto.eq_ignore_ascii_case("https") => "https",
        Some(proto) if proto.eq_ignore_ascii_case("http") => "http",
        None if forwarding(headers).is_none() => own_scheme,
        _ => return None,
    };
    let host = text(headers, "x-forwarded-host").or_else(|| text(headers, "host"))?;
    Some(format!("{scheme}://{}", host.parse::<Authority>().ok()?))
}

/// The `error` parameter: what is wrong with the token that the client sent (RFC 6750, section 3.1).
fn error(headers: &HeaderMap) -> &'static str {
    match text(headers, "authorization").and_then(|sent| sent.split_once(' ')) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => match token {
            ANONYMOUS => ",error=\"insufficient_scope\"",
            _ => ",error=\"invalid_token\"",
        },
        _ => "",
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_realm_of_a_challenge_has_the_requested_host() {
        let of_scheme = |scheme, url: Option<&str>, pairs: &[(&'static str, &str)], scope| {
            let mut headers = HeaderMap::new();
            pairs.iter().for_each(|(name, value)| drop(headers.insert(*name, value.parse().unwrap())));
            let url: Option<PublicUrl> = url.map(|url| url.parse().unwrap());
            challenge(url.as_ref(), &headers, scheme, scope)
        };
        let of = |url, pairs: &[_], scope| of_scheme("http", url, pairs, scope);
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
        let direct = of_scheme("https", None, &[("host", "r.example")], None);
        assert_eq!(direct, bearer(example, ""), "over TLS, without a proxy");
        let shown = [("host", "localhost:5050"), ("authorization", "Bearer anybody")];
        assert_eq!(of(None, &shown, None), bearer(own, ",error=\"insufficient_scope\""));
        let shown = [("host", "localhost:5050"), ("authorization", "Bearer x")];
        assert_eq!(of(None, &shown, None), bearer(own, ",error=\"invalid_token\""));
    }
}
