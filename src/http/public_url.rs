//! The URL at which clients reach the registry through a proxy.

use std::str::FromStr;

use axum::http::Uri;
use serde::Deserialize;

/// Where clients reach the registry, if a proxy stands before it: `https://registry.example`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct PublicUrl {
    url: String,
    host: String,
}

/// Why a text is not such a URL.
#[derive(Debug, thiserror::Error)]
#[error("invalid registry URL {0:?}: expected a URL like https://registry.example")]
pub struct NoPublicUrl(String);

impl PublicUrl {
    /// The scheme, the host and the port, without a final slash.
    pub fn as_str(&self) -> &str {
        &self.url
    }

    /// The name or the address in it, without the port.
    pub fn host(&self) -> &str {
        &self.host
    }
}

impl FromStr for PublicUrl {
    type Err = NoPublicUrl;

    fn from_str(text: &str) -> Result<Self, NoPublicUrl> {
        let refused = || NoPublicUrl(text.chars().take(100).collect());
        let uri: Uri = text.parse().map_err(|_| refused())?;
        let (scheme, host) = (uri.scheme_str().unwrap_or_default(), uri.authority().ok_or_else(refused)?);
        let is_bare = uri.path() == "/" && uri.query().is_none() && !host.as_str().contains('@');
        match ["http", "https"].contains(&scheme) && is_bare {
            true => Ok(Self { url: format!("{scheme}://{host}"), host: host.host().into() }),
            false => Err(refused()),
        }
    }
}

impl TryFrom<String> for PublicUrl {
    type Error = NoPublicUrl;

    fn try_from(text: String) -> Result<Self, NoPublicUrl> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_url_has_only_a_scheme_and_a_host() {
        for (text, url, host) in [
            ("https://r.example/", "https://r.example", "r.example"),
            ("http://r.example:8080", "http://r.example:8080", "r.example"),
            ("https://[2001:db8::1]:443", "https://[2001:db8::1]:443", "[2001:db8::1]"),
        ] {
            let parsed: PublicUrl = text.parse().unwrap();
            assert_eq!((parsed.as_str(), parsed.host()), (url, host));
        }
        for wrong in ["", "r.example", "ftp://r.example", "https://r.example/path", "https://me@r.example"] {
            assert!(wrong.parse::<PublicUrl>().is_err(), "{wrong}");
        }
    }
}
