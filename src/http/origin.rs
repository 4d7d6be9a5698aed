//! Where a request comes from: a program on this machine, a page in a browser, or another machine.
//!
//! A page can send requests to loopback in two ways. Its own origin is another than the registry's, which the browser says in
//! `Origin` and in the Fetch Metadata headers; or its name resolves to loopback by now (DNS rebinding), and the `Host` header
//! has that name.

use std::net::SocketAddr;

use axum::http::{HeaderMap, Method, header, request::Parts, uri::Authority};

use super::{hosts, public_url::PublicUrl};

/// Headers by which proxies say for which client they ask, beside those that begin with [`FORWARDED`].
const PROXIED: [&str; 8] = [
    "cf-connecting-ip",
    "fastly-client-ip",
    "forwarded",
    "true-client-ip",
    "via",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-real-ip",
];
const FORWARDED: &str = "x-forwarded-";
/// Files and data of the page for browsers.
const PAGE: &str = "/page/";

/// The other end of a request's connection.
#[derive(Clone, Copy, Debug)]
pub struct ClientAddress(pub SocketAddr);

/// How clients reach a listener.
#[derive(Clone, Debug)]
pub struct RegistryPlace {
    listens_on_loopback: bool,
    public_url: Option<PublicUrl>,
    own_names: Vec<String>,
}

/// Relation of a request's host to this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// This machine, by a loopback address or a name of one.
    Loopback,
    /// The host of the public URL.
    Public,
    /// None is named, as HTTP/1.0 allows.
    Absent,
    /// Any other.
    Foreign(String),
}

/// Why a request may come from another machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotLocal {
    /// A proxy passes requests on.
    #[error("--public-url is set")]
    PublicUrl,
    /// Other machines connect to it.
    #[error("the registry listens on other addresses than loopback")]
    Listener,
    /// Another machine connected.
    #[error("the client connects from an address other than loopback")]
    Client,
    /// A proxy says so.
    #[error("the header {0:?} says that a proxy forwarded the request")]
    Forwarded(String),
    /// It was sent to another name.
    #[error("the Host header is not a loopback address")]
    Host,
}

/// Why a request is refused before any work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefusedOrigin {
    /// A page in a browser sent it, which this header says.
    Page(&'static str),
    /// It was sent to another host, as DNS rebinding does it.
    Host(String),
}

impl RegistryPlace {
    /// A listener at an address.
    pub fn new(listener: SocketAddr, public_url: Option<PublicUrl>) -> Self {
        let listens_on_loopback = is_loopback(&listener);
        Self { listens_on_loopback, public_url, own_names: hosts::own_names() }
    }

    /// Why no request at all counts as local; none where some may.
    pub fn never_local(&self) -> Option<NotLocal> {
        if self.public_url.is_some() {
            return Some(NotLocal::PublicUrl);
        }
        (!self.listens_on_loopback).then_some(NotLocal::Listener)
    }

    /// Holds that a program on this machine sent the request.
    pub fn local(&self, request: &Parts) -> Result<(), NotLocal> {
        if let Some(remote) = self.never_local() {
            return Err(remote);
        }
        let is_near = request.extensions.get().is_some_and(|ClientAddress(address)| is_loopback(address));
        if !is_near {
            return Err(NotLocal::Client);
        }
        if let Some(name) = forwarding(&request.headers) {
            return Err(NotLocal::Forwarded(name.into()));
        }
        match self.host(request) {
            Host::Loopback => Ok(()),
            Host::Public | Host::Absent | Host::Foreign(_) => Err(NotLocal::Host),
        }
    }

    /// Refuses what a page in a browser sends, and where only this machine connects, what is sent to another host.
    pub fn check(&self, request: &Parts) -> Result<(), RefusedOrigin> {
        refuse_pages(request)?;
        match self.host(request) {
            Host::Foreign(host) if self.listens_on_loopback => Err(RefusedOrigin::Host(host)),
            _ => Ok(()),
        }
    }

    /// The host that a request names; a foreign one wins where there are several.
    fn host(&self, request: &Parts) -> Host {
        let headers = request.headers.get_all(header::HOST).iter();
        let headers = headers.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let named = request.uri.authority().map(ToString::to_string).into_iter().chain(headers);
        let named: Vec<Host> = named.map(|host| self.meaning(&host)).collect();
        let is_foreign = |host: &&Host| matches!(host, Host::Foreign(_));
        named.iter().find(is_foreign).or(named.first()).cloned().unwrap_or(Host::Absent)
    }

    fn meaning(&self, text: &str) -> Host {
        let is_public = |host: &str| {
            self.public_url
                .as_ref()
                .is_some_and(|url| url.host().eq_ignore_ascii_case(host.trim_end_matches('.')))
        };
        match text.parse::<Authority>() {
            Ok(authority) if authority.as_str().contains('@') => Host::Foreign(text.into()),
            Ok(authority) if hosts::is_loopback(authority.host(), &self.own_names) => Host::Loopback,
            Ok(authority) if is_public(authority.host()) => Host::Public,
            _ => Host::Foreign(text.into()),
        }
    }
}

fn is_loopback(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// The first header that says that a proxy stands between the client and this.
pub fn forwarding(headers: &HeaderMap) -> Option<&str> {
    let mut names = headers.keys().map(header::HeaderName::as_str);
    names.find(|name| PROXIED.contains(name) || name.starts_with(FORWARDED))
}

/// Refuses what another site's page makes a browser send. <https://www.w3.org/TR/fetch-metadata/>
fn refuse_pages(request: &Parts) -> Result<(), RefusedOrigin> {
    let text = |name: &str| request.headers.get(name).map(|value| value.to_str().unwrap_or_default());
    // Browsers send it with the modules of a page, too. That the page is this node's own, only they can say.
    let is_module = request.method == Method::GET
        && request.uri.path().starts_with(PAGE)
        && text("sec-fetch-site") == Some("same-origin");
    if text("origin").is_some() && !is_module {
        return Err(RefusedOrigin::Page("Origin"));
    }
    // A link in another page may lead to the front page, which changes nothing and asks no peer.
    let navigates = request.method == Method::GET
        && request.uri.path() == "/"
        && text("sec-fetch-mode") == Some("navigate")
        && text("sec-fetch-dest").is_none_or(|dest| dest == "document");
    match text("sec-fetch-site") {
        None | Some("same-origin" | "none") => Ok(()),
        Some(_) if navigates => Ok(()),
        Some(_) => Err(RefusedOrigin::Page("Sec-Fetch-Site")),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn place(listener: &str, public_url: Option<&str>) -> RegistryPlace {
        let public_url = public_url.map(|url| url.parse().unwrap());
        let place = RegistryPlace::new(listener.parse().unwrap(), public_url);
        RegistryPlace { own_names: vec!["box".into()], ..place }
    }

    fn request(peer: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::get(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut parts = request.body(()).unwrap().into_parts().0;
        parts.extensions.insert(ClientAddress(peer.parse().unwrap()));
        parts
    }

    #[test]
    fn host_header_is_loopback_public_absent_or_foreign() {
        let place = place("127.0.0.1:5050", Some("https://R.example"));
        for (hosts, meaning) in [
            (&["localhost"][..], Host::Loopback),
            (&["LOCALHOST.:80"], Host::Loopback),
            (&["registry.localhost:5050"], Host::Loopback),
            (&["127.0.0.1:5050"], Host::Loopback),
            (&["127.1.2.3"], Host::Loopback),
            (&["[::1]:5050"], Host::Loopback),
            (&["[::ffff:127.0.0.1]"], Host::Loopback),
            (&["Box:5050"], Host::Loopback),
            (&["r.example"], Host::Public),
            (&["R.EXAMPLE.:443"], Host::Public),
            (&[], Host::Absent),
            (&["evil.example"], Host::Foreign("evil.example".into())),
            (&["192.0.2.1:5050"], Host::Foreign("192.0.2.1:5050".into())),
            (&["0.0.0.0:5050"], Host::Foreign("0.0.0.0:5050".into())),
            (&["[::]"], Host::Foreign("[::]".into())),
            (&["localhost.evil.example"], Host::Foreign("localhost.evil.example".into())),
            (&["127.0.0.1.evil.example"], Host::Foreign("127.0.0.1.evil.example".into())),
            (&["notlocalhost"], Host::Foreign("notlocalhost".into())),
            (&["localhost@evil.example"], Host::Foreign("localhost@evil.example".into())),
            (&[""], Host::Foreign("".into())),
            (&["localhost", "evil.example"], Host::Foreign("evil.example".into())),
        ] {
            let headers: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
            assert_eq!(place.host(&request("127.0.0.1:9", "/v2/", &headers)), meaning, "{hosts:?}");
        }
        // HTTP/2 has no Host header, and a proxy's form of a request has both.
        let h2 = request("127.0.0.1:9", "http://localhost:5050/v2/", &[]);
        assert_eq!(place.host(&h2), Host::Loopback);
        let both = request("127.0.0.1:9", "http://evil.example/v2/", &[("host", "localhost")]);
        assert_eq!(place.host(&both), Host::Foreign("evil.example".into()));
    }

    #[test]
    fn a_request_is_local_only_if_listener_peer_host_and_proxy_headers_are() {
        let local = ("host", "localhost:5050");
        let of = |place: &RegistryPlace, peer: &str, headers: &[(&str, &str)]| {
            place.local(&request(peer, "/v2/", headers)).err()
        };
        let here = place("[::1]:5050", None);
        assert_eq!(of(&here, "[::1]:9", &[local]), None);
        assert_eq!(of(&here, "[::ffff:127.0.0.1]:9", &[local]), None);
        assert_eq!(of(&here, "192.0.2.1:9", &[local]), Some(NotLocal::Client));
        assert_eq!(of(&here, "[::1]:9", &[("host", "192.0.2.1:5050")]), Some(NotLocal::Host));
        assert_eq!(of(&here, "[::1]:9", &[]), Some(NotLocal::Host));
        for name in PROXIED.into_iter().chain(["x-forwarded-for", "x-forwarded-host", "x-forwarded-port"]) {
            assert_eq!(of(&here, "[::1]:9", &[local, (name, "x")]), Some(NotLocal::Forwarded(name.into())));
        }
        let open = place("0.0.0.0:5050", None);
        assert_eq!(of(&open, "127.0.0.1:9", &[local]), Some(NotLocal::Listener));
        let proxied = place("127.0.0.1:5050", Some("https://r.example"));
        assert_eq!(of(&proxied, "127.0.0.1:9", &[local]), Some(NotLocal::PublicUrl));
        let nameless = Request::get("/v2/").header("host", "localhost").body(()).unwrap().into_parts().0;
        assert_eq!(here.local(&nameless), Err(NotLocal::Client), "a request without an address");
    }

    #[test]
    fn cross_site_requests_are_rejected_except_navigation_to_the_front_page() {
        let page = [("sec-fetch-site", "cross-site")];
        let navigate = [page[0], ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
        let frame = [page[0], ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")];
        let module = [("origin", "http://localhost:5050"), ("sec-fetch-site", "same-origin")];
        for (path, headers, passes) in [
            ("/v2/", &[][..], true),
            ("/v2/", &[("sec-fetch-site", "none")], true),
            ("/v2/", &[("sec-fetch-site", "same-origin")], true),
            ("/v2/", &[("sec-fetch-site", "same-site")], false),
            ("/v2/", &page, false),
            ("/v2/", &navigate, false),
            ("/", &navigate, true),
            ("/", &frame, false),
            ("/", &page, false),
            ("/", &[navigate[0], navigate[1], ("origin", "null")], false),
            ("/v2/", &[("origin", "http://localhost:5050")], false),
            ("/v2/", &module, false),
            ("/page/main.js", &module, true),
            ("/page/main.js", &[module[0], page[0]], false),
            ("/page/main.js", &module[..1], false),
        ] {
            let refused = refuse_pages(&request("127.0.0.1:9", path, headers));
            assert_eq!(refused.is_ok(), passes, "{path} {headers:?}");
        }
    }
}
