//! Where an HTTP provider is: a URL that the user gave, or the address in a provider record.

use std::{
    fmt::{self, Display, Formatter},
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use multihash_codetable::{Code, MultihashDigest};
use reqwest::Url;
use serde::Deserialize;

use crate::{Cid, address::is_private};

/// The address of an HTTP server that provides blocks: the trustless gateway below this URL.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct HttpEndpoint {
    /// It ends in a slash.
    url: Url,
    /// The address to connect to, if the URL has a name that need not be looked up.
    at: Option<SocketAddr>,
}

/// Why a text is not the URL of an HTTP provider.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid URL of an HTTP provider {text:?}: {why}")]
pub struct InvalidEndpoint {
    text: String,
    why: String,
}

/// The parts of a multiaddr that matter for HTTP.
#[derive(Default)]
struct Parts {
    host: Option<String>,
    ip: Option<IpAddr>,
    port: Option<u16>,
    name: Option<String>,
    has_tls: bool,
    scheme: Option<&'static str>,
}

impl HttpEndpoint {
    /// Returns the endpoint that an address in a provider record stands for: `/tls/http`, `/https` or `/http` after a host.
    pub(crate) fn of_address(address: &Multiaddr) -> Option<Self> {
        let mut parts = Parts::default();
        for part in address {
            parts.add(part)?;
        }
        let Parts { host, ip, port, name, scheme, .. } = parts;
        let (host, scheme) = (host?, scheme?);
        let port = port.unwrap_or(if scheme == "https" { 443 } else { 80 });
        let shown = name.as_ref().unwrap_or(&host);
        let url = Url::parse(&format!("{scheme}://{shown}:{port}/")).ok()?;
        // A host may contain characters that end it.
        if url.path() != "/" || has_extras(&url) {
            return None;
        }
        let at = name.and(ip).map(|ip| SocketAddr::new(ip, port));
        Some(Self { url, at })
    }

    /// Returns the id under which Bitswap sessions know it; no peer has a key with this id.
    pub(crate) fn id(&self) -> PeerId {
        let hash = Code::Sha2_256.digest(format!("HTTP provider {} {:?}", self.url, self.at).as_bytes());
        PeerId::from_multihash(hash).unwrap_or_else(|_| PeerId::random())
    }

    /// Returns the URL of a block.
    pub(crate) fn block(&self, cid: &Cid) -> Url {
        let mut url = self.url.clone();
        url.set_path(&format!("{}ipfs/{cid}", self.url.path()));
        url.set_query(Some("format=raw"));
        url
    }

    /// Returns the IP address that it is at, if it has no name.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        let host = self.url.host_str().unwrap_or_default();
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse().ok();
        self.at.map(|at| at.ip()).or(literal)
    }

    /// Returns the name and the address to connect to in place of looking it up.
    pub(crate) fn pinned(&self) -> Option<(&str, SocketAddr)> {
        Some((self.url.host_str()?, self.at?))
    }

    /// Returns whether it may be asked if a provider record names it. Records of the public network must not direct requests
    /// into private networks; elsewhere only this node's settings may cause DNS lookups.
    pub(crate) fn is_allowed_from_record(&self, public: bool) -> bool {
        match self.ip() {
            Some(ip) => !public || !is_private(ip.to_canonical()),
            None => public,
        }
    }
}

impl Parts {
    /// Adds a part of an address; `None` if it is not one of an HTTP server.
    fn add(&mut self, part: Protocol) -> Option<()> {
        match part {
            Protocol::Ip4(ip) => self.set_host(ip.to_string(), Some(ip.into())),
            Protocol::Ip6(ip) => self.set_host(format!("[{ip}]"), Some(ip.into())),
            Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) => {
                self.set_host(name.into_owned(), None)
            }
            Protocol::Tcp(port) => self.port.replace(port).is_none().then_some(()),
            Protocol::Tls => {
                self.has_tls = true;
                Some(())
            }
            Protocol::Sni(name) => self.name.replace(name.into_owned()).is_none().then_some(()),
            Protocol::Http => {
                let scheme = if self.has_tls { "https" } else { "http" };
                self.scheme.replace(scheme).is_none().then_some(())
            }
            Protocol::Https => self.scheme.replace("https").is_none().then_some(()),
            Protocol::P2p(_) => Some(()),
            _ => None,
        }
    }

    fn set_host(&mut self, host: String, ip: Option<IpAddr>) -> Option<()> {
        self.ip = ip;
        self.host.replace(host).is_none().then_some(())
    }
}

fn has_extras(url: &Url) -> bool {
    url.query().is_some()
        || url.fragment().is_some()
        || !url.username().is_empty()
        || url.password().is_some()
}

/// Returns whether an address is that of an HTTP server, which no transport of libp2p dials.
pub(crate) fn is_http(address: &Multiaddr) -> bool {
    address.iter().any(|part| matches!(part, Protocol::Http | Protocol::Https))
}

impl FromStr for HttpEndpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        let invalid = |why: String| InvalidEndpoint { text: text.into(), why };
        let mut url = Url::parse(text).map_err(|error| invalid(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
            return Err(invalid("expected http://HOST[:PORT] or https://HOST[:PORT]".into()));
        }
        if has_extras(&url) {
            return Err(invalid("it has a user, a query or a fragment".into()));
        }
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        Ok(Self { url, at: None })
    }
}

impl TryFrom<String> for HttpEndpoint {
    type Error = InvalidEndpoint;

    fn try_from(text: String) -> Result<Self, InvalidEndpoint> {
        text.parse()
    }
}

impl Display for HttpEndpoint {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.url.as_str().trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<HttpEndpoint> {
        HttpEndpoint::of_address(&text.parse().unwrap())
    }

    #[test]
    fn addresses_of_http_providers_become_urls() {
        let id = PeerId::random();
        for (address, url) in [
            ("/dns4/example.org/tcp/443/tls/http".to_owned(), "https://example.org"),
            ("/dns/example.org/tcp/8443/https".into(), "https://example.org:8443"),
            ("/dns6/example.org/https".into(), "https://example.org"),
            ("/ip4/192.0.2.1/tcp/8080/http".into(), "http://192.0.2.1:8080"),
            (format!("/ip4/192.0.2.1/tcp/80/http/p2p/{id}"), "http://192.0.2.1"),
            ("/ip6/2001:db8::1/tcp/443/tls/http".into(), "https://[2001:db8::1]"),
            ("/ip4/192.0.2.1/tcp/443/tls/sni/example.org/http".into(), "https://example.org"),
        ] {
            let endpoint = of(&address).unwrap_or_else(|| panic!("{address}"));
            assert_eq!(endpoint.to_string(), url, "{address}");
            assert!(is_http(&address.parse().unwrap()));
        }
        let (name, at) = ("example.org", "192.0.2.1:443".parse().unwrap());
        assert_eq!(of("/ip4/192.0.2.1/tcp/443/tls/sni/example.org/http").unwrap().pinned(), Some((name, at)));
        for address in [
            "/ip4/192.0.2.1/tcp/4001",
            "/ip4/192.0.2.1/udp/4001/quic-v1",
            "/dns4/example.org/tcp/443/tls/ws",
            "/tcp/80/http",
            "/dnsaddr/example.org/http",
            "/ip4/192.0.2.1/tcp/80/http/p2p-circuit",
            "/ip4/192.0.2.1/ip4/127.0.0.1/tcp/80/http",
            "/dns4/user@host/tcp/80/http",
            "/dns4/host?x/tcp/80/http",
        ] {
            assert_eq!(of(address), None, "{address}");
        }
    }

    #[test]
    fn a_url_of_an_http_provider_has_a_host_and_perhaps_a_path() {
        let cid = "bafkqaaa".parse().unwrap();
        for (text, block) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/ipfs/bafkqaaa?format=raw"),
            ("https://example.org/", "https://example.org/ipfs/bafkqaaa?format=raw"),
            ("https://example.org/a/b", "https://example.org/a/b/ipfs/bafkqaaa?format=raw"),
        ] {
            let endpoint: HttpEndpoint = text.parse().unwrap();
            assert_eq!(endpoint.block(&cid).as_str(), block);
        }
        for text in [
            "example.org",
            "ftp://example.org",
            "http://",
            "http://user:secret@example.org",
            "http://example.org/?a=b",
            "http://example.org/#a",
        ] {
            let error = text.parse::<HttpEndpoint>().unwrap_err().to_string();
            assert!(error.starts_with("invalid URL of an HTTP provider"), "{error}");
        }
    }

    #[test]
    fn records_do_not_lead_into_private_networks_or_to_names_outside_the_public_network() {
        for (address, public, own) in [
            ("/ip4/127.0.0.1/tcp/80/http", false, true),
            ("/ip4/10.0.0.1/tcp/443/https", false, true),
            ("/ip4/169.254.169.254/tcp/80/http", false, true),
            ("/ip6/::1/tcp/80/http", false, true),
            ("/ip6/::ffff:10.0.0.1/tcp/80/http", false, true),
            ("/ip4/10.0.0.1/tcp/443/tls/sni/example.org/http", false, true),
            ("/ip4/192.0.2.1/tcp/443/https", true, true),
            ("/dns4/example.org/tcp/443/https", true, false),
        ] {
            let endpoint = of(address).unwrap();
            assert_eq!(endpoint.is_allowed_from_record(true), public, "{address}");
            assert_eq!(endpoint.is_allowed_from_record(false), own, "{address}");
        }
    }

    #[test]
    fn endpoints_have_stable_and_different_ids() {
        let endpoint = |text: &str| text.parse::<HttpEndpoint>().unwrap();
        assert_eq!(endpoint("http://a:1").id(), endpoint("http://a:1/").id());
        assert_ne!(endpoint("http://a:1").id(), endpoint("https://a:1").id());
    }
}
