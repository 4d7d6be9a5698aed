//! What a request asks for: a path, a form, and conditions.

use axum::http::{HeaderMap, Uri, header};
use percent_encoding::percent_decode_str;

use super::{
    PREFIX,
    accept::{self, AcceptedForms},
    entity_bytes,
    error::Error,
};
use crate::content::{
    CidPath,
    car::{ByteSpan, CarOptions, CarScope},
};

/// Media type of a block.
pub const RAW_TYPE: &str = "application/vnd.ipld.raw";
/// Media type of a CAR.
pub const CAR_TYPE: &str = "application/vnd.ipld.car";
const LIBP2P_KEY: u64 = 0x72;
const EXPECTED: &str = "expected ?format=raw or ?format=car, or the header Accept with application/vnd.ipld.raw or application/vnd.ipld.car";

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseFormat {
    /// One block.
    Raw,
    /// A CAR.
    Car(CarOptions),
}

/// A request to the gateway.
#[derive(Clone, Debug)]
pub struct GatewayRequest {
    /// The content.
    pub at: CidPath,
    /// Its form.
    pub format: ResponseFormat,
    /// Whether the form is that of `?format=`, so that caches can tell answers apart by their URLs.
    pub is_in_url: bool,
    /// The path as it was sent.
    pub path: String,
    /// The pairs of the query, but for the form.
    pub query: Vec<(String, String)>,
    /// Whether the client prefers a 412 to a 404.
    pub only_if_cached: bool,
    if_none_match: Option<String>,
}

impl GatewayRequest {
    /// Reads a request.
    pub fn parse(uri: &Uri, headers: &HeaderMap) -> Result<Self, Error> {
        let text = |name| headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
        if text(header::HeaderName::from_static("service-worker")).is_some() {
            return Err(Error::Invalid("a service worker cannot be registered here".into()));
        }
        let at = parse_path(uri.path())?;
        let query = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned();
        let (formats, query): (Vec<_>, Vec<_>) = query.partition(|(name, _)| name == "format");
        let in_url = formats.first().map(|(_, format)| format.as_str());
        let format = choose(in_url, text(header::ACCEPT), &query)?;
        if format == ResponseFormat::Raw && !at.names().is_empty() {
            let message = format!("a block is requested by its CID alone: expected {PREFIX}<cid>?format=raw");
            return Err(Error::Invalid(message));
        }
        let cache_control = text(header::CACHE_CONTROL).unwrap_or_default();
        Ok(Self {
            at,
            format,
            is_in_url: in_url.is_some(),
            path: uri.path().into(),
            query,
            only_if_cached: cache_control.split(',').any(|part| part.trim() == "only-if-cached"),
            if_none_match: text(header::IF_NONE_MATCH).map(Into::into),
        })
    }

    /// Whether the client has the answer with this tag (RFC 9110, section 13.1.2).
    pub fn knows(&self, etag: &str) -> bool {
        let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
        let Some(known) = &self.if_none_match else { return false };
        known.trim() == "*" || known.split(',').any(|tag| opaque(tag) == opaque(etag))
    }
}

fn parse_path(path: &str) -> Result<CidPath, Error> {
    let below = path.strip_prefix(PREFIX).unwrap_or(path);
    let below = below.strip_suffix('/').unwrap_or(below);
    let mut names = Vec::new();
    for name in below.split('/') {
        let name = percent_decode_str(name).decode_utf8();
        let name = name.map_err(|_| Error::Invalid("invalid path: expected UTF-8".into()))?;
        if name.contains('/') {
            return Err(Error::Invalid("invalid path: a name cannot contain a slash".into()));
        }
        names.push(name);
    }
    let at: CidPath = names.join("/").parse().map_err(|error| Error::Invalid(format!("{error}")))?;
    if at.root().codec() == LIBP2P_KEY {
        return Err(Error::Invalid(format!(
            "{} is an IPNS name, which this gateway does not resolve",
            at.root()
        )));
    }
    Ok(at)
}

/// Chooses the form: `?format=` before the header, of which the first entry that can be served.
fn choose(
    in_url: Option<&str>,
    accept: Option<&str>,
    query: &[(String, String)],
) -> Result<ResponseFormat, Error> {
    let accepted = accept.map(accept::parse).unwrap_or_default();
    let cars = || accepted.iter().filter(|accepted| accepted.media_type == CAR_TYPE);
    match in_url {
        Some("raw") => return Ok(ResponseFormat::Raw),
        // Parameters of a header that prefers another form count, too.
        Some("car") => return Ok(ResponseFormat::Car(car_of(cars().collect(), query)?)),
        Some(other) => {
            let other: String = other.chars().take(60).collect();
            return Err(Error::NotAcceptable(format!("format {other:?} is not served: {EXPECTED}")));
        }
        None => {}
    }
    for entry in &accepted {
        match entry.media_type.as_str() {
            RAW_TYPE => return Ok(ResponseFormat::Raw),
            CAR_TYPE if car(Some(entry), query).is_ok() => {
                return Ok(ResponseFormat::Car(car(Some(entry), query)?));
            }
            _ => {}
        }
    }
    if let Some(entry) = cars().next() {
        return car(Some(entry), query).map(ResponseFormat::Car);
    }
    match accepted.iter().all(|entry| entry.media_type == "*/*") {
        true => Err(Error::Invalid(format!("no format is requested: {EXPECTED}"))),
        false => Err(Error::NotAcceptable(format!("none of the accepted media types is served: {EXPECTED}"))),
    }
}

/// Returns the options of the first entry that can be served, or else the error of the first one.
fn car_of(entries: Vec<&AcceptedForms>, query: &[(String, String)]) -> Result<CarOptions, Error> {
    let served = entries.iter().find_map(|entry| car(Some(entry), query).ok());
    match (served, entries.first()) {
        (Some(options), _) => Ok(options),
        (None, first) => car(first.copied(), query),
    }
}

/// Reads the options of a CAR: parameters of the query win over those of the media type.
fn car(accepted: Option<&AcceptedForms>, query: &[(String, String)]) -> Result<CarOptions, Error> {
    let in_query =
        |name: &str| query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let parameter = |name: &str| {
        let of_type = || accepted.and_then(|accepted| accepted.parameter(name));
        in_query(&format!("car-{name}")).or_else(of_type)
    };
    let unserved = |name: &str, value: &str, expected: &str| {
        let value: String = value.chars().take(60).collect();
        Err(Error::NotAcceptable(format!("a CAR with {name} {value:?} is not served: expected {expected}")))
    };
    match parameter("version") {
        None | Some("1") => {}
        Some(other) => return unserved("version", other, "1"),
    }
    match parameter("order") {
        None | Some("dfs" | "unk" | "") => {}
        Some(other) => return unserved("order", other, "dfs or unk"),
    }
    let duplicates = match parameter("dups") {
        None | Some("n" | "") => false,
        Some("y") => true,
        Some(other) => return unserved("dups", other, "y or n"),
    };
    let span = in_query("entity-bytes").map(entity_bytes::parse).transpose()?;
    let scope = match (span, in_query("dag-scope")) {
        (Some(span), _) => CarScope::Entity(span),
        (None, None | Some("all" | "")) => CarScope::All,
        (None, Some("block")) => CarScope::Block,
        (None, Some("entity")) => CarScope::Entity(ByteSpan::WHOLE),
        (None, Some(other)) => {
            let other: String = other.chars().take(60).collect();
            let message = format!("invalid dag-scope {other:?}: expected block, entity or all");
            return Err(Error::Invalid(message));
        }
    };
    Ok(CarOptions { scope, duplicates })
}
