//! The HTTP client of this node, for servers that its user named.

pub mod routers;

use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const READ_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_REDIRECTS: usize = 5;

/// Whether a URL is one that a client of this module reaches.
pub fn is_http(url: &reqwest::Url) -> bool {
    matches!(url.scheme(), "http" | "https") && url.has_host()
}

/// Creates a client that trusts the certificates of the system.
pub fn new() -> reqwest::Result<reqwest::Client> {
    builder().build()
}

/// What a client of documents that are trusted may speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// HTTP over TLS only, also where a redirect leads.
    Tls,
    /// HTTP with or without TLS.
    Any,
}

/// Creates a client that speaks only this.
pub fn for_transport(transport: Transport) -> reqwest::Result<reqwest::Client> {
    builder().https_only(transport == Transport::Tls).build()
}

/// The settings of such a client, for a caller that has more of them.
pub fn builder() -> reqwest::ClientBuilder {
    ocipfs_node::install_cryptography();
    reqwest::Client::builder()
        .user_agent(concat!("ocipfs/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .redirect(reqwest::redirect::Policy::limited(MAX_REDIRECTS))
}

/// An error with what led to it: the outer one alone says little of a failed connection.
pub fn with_sources(error: &dyn std::error::Error) -> String {
    let (mut text, mut source) = (error.to_string(), error.source());
    while let Some(inner) = source {
        let why = inner.to_string();
        if !text.contains(&why) {
            text = format!("{text}: {why}");
        }
        source = inner.source();
    }
    text
}
