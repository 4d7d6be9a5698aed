//! Errors as OCI error bodies. No `_` arm: a new error has to choose its answer here.

use std::fmt::Display;

use axum::{
    Json,
    http::{HeaderMap, HeaderName, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use ocipfs_node::{FetchError, RecordError, ResolveError};
use ocipfs_oci::{TooManyRanges, Unsatisfiable, digest, reference};
use serde_json::json;

use super::denial::Denial;
use crate::{
    content::{self, UploadError},
    http::origin::RefusedOrigin,
    images,
    names::{self, push},
};

/// When a client that was refused as one too many may try again.
const RETRY_AFTER_SECONDS: u64 = 5;
/// Characters of a foreign host in a message.
const MAX_SHOWN_HOST: usize = 100;

/// The kind of the requested resource; selects the error code of its absence.
#[derive(Clone, Copy, Debug)]
pub enum ResourceKind {
    Manifest,
    Blob,
}

impl ResourceKind {
    fn unknown(self) -> &'static str {
        match self {
            Self::Manifest => "MANIFEST_UNKNOWN",
            Self::Blob => "BLOB_UNKNOWN",
        }
    }
}

/// A status, a code of the specification and a message for people.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    headers: Vec<(HeaderName, String)>,
    denial: Option<Denial>,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: impl ToString) -> Self {
        Self { status, code, message: message.to_string(), headers: Vec::new(), denial: None }
    }

    pub fn no_endpoint() -> Self {
        let known = "manifests/<reference>, blobs/<digest>, blobs/uploads/, tags/list and referrers/<digest> below \
                     /v2/<name>/, and /v2/_catalog";
        Self::new(StatusCode::NOT_FOUND, "UNSUPPORTED", format!("unknown endpoint: expected {known}"))
    }

    /// RFC 9110, section 15.5.6.
    pub fn method(method: &Method, allowed: &str) -> Self {
        let message = format!("method {method} not allowed: expected {allowed}");
        let error = Self::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", message);
        error.with(header::ALLOW, allowed)
    }

    pub fn denied(message: impl ToString) -> Self {
        Self::new(StatusCode::FORBIDDEN, "DENIED", message)
    }

    /// A request that a page in a browser sent, which this header says.
    fn page(header: &str) -> Self {
        let message = format!(
            "requests from web pages are not allowed (the request has the header {header:?}): use a registry client, or open the address directly"
        );
        Self::denied(message)
    }

    /// A change by a client that is not known to be on this machine, where there are no users.
    pub fn needs_users(why: impl Display) -> Self {
        let message = format!(
            "pushes and deletions require a login ({why}), and there are no users: start serve with --htpasswd FILE, created with `htpasswd -B`"
        );
        Self::denied(message)
    }

    /// A request to another host (RFC 9110, section 15.5.20), as DNS rebinding sends it.
    fn misdirected(host: &str) -> Self {
        let host: String =
            host.chars().take(MAX_SHOWN_HOST).map(|c| if c.is_ascii() { c } else { '?' }).collect();
        let message = format!(
            "host {host:?} is not a name of this registry, which listens on loopback: use localhost, or start serve with --public-url URL if clients reach it by that name"
        );
        Self::new(StatusCode::MISDIRECTED_REQUEST, "DENIED", message)
    }

    /// A change, or a private pull, by a client without a certificate, where only certificates make users.
    pub fn needs_certificate() -> Self {
        Self::denied("a client certificate is required, and this connection has none that names a user")
    }

    /// The process ends before the request does.
    pub fn stopped() -> Self {
        Self::content(FetchError::Stopped.into(), ResourceKind::Blob)
    }

    /// A limit that passes: clients try again after some seconds (RFC 9110, section 10.2.3). Docker tries again after 503,
    /// and gives up at 429.
    pub fn busy(message: impl ToString) -> Self {
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", message);
        error.with(header::RETRY_AFTER, RETRY_AFTER_SECONDS)
    }

    /// More requests than a rate limit allows (RFC 6585, section 4).
    pub fn too_many(seconds: u64, message: impl ToString) -> Self {
        let error = Self::new(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", message);
        error.with(header::RETRY_AFTER, seconds)
    }

    /// With the challenge to fetch a token (RFC 6750), or to send a name and a password (RFC 7617).
    pub fn unauthorized(challenge: Option<String>) -> Self {
        let message = "authentication required: log in with `docker login`";
        let error = Self::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message);
        let basic = || "Basic realm=\"ocipfs\", charset=\"UTF-8\"".into();
        error.with(header::WWW_AUTHENTICATE, challenge.unwrap_or_else(basic))
    }

    pub fn no_digest() -> Self {
        let message = "missing digest: expected ?digest=sha256:<hex>";
        Self::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", message)
    }

    pub fn content_range(text: &str) -> Self {
        let message = format!("invalid Content-Range {text:?}: expected <first>-<last>");
        Self::new(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID", message)
    }

    pub fn size(message: impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "SIZE_INVALID", message)
    }

    pub fn too_large(limit: u64) -> Self {
        let message = format!("manifest is too large: the limit is {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID", message)
    }

    pub fn too_many_tags(limit: usize) -> Self {
        let message = format!("too many tags: a push sets at most {limit}");
        Self::new(StatusCode::URI_TOO_LONG, "TAG_INVALID", message)
    }

    pub fn body(error: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "SIZE_INVALID", format!("request body was truncated: {error}"))
    }

    /// Replaces a 404 by 504 `UNAVAILABLE`, the code of distribution for an upstream that does not answer: for endpoints
    /// whose 404 has another meaning.
    pub fn unavailable_if_not_found(self) -> Self {
        match self.status {
            StatusCode::NOT_FOUND => {
                Self { status: StatusCode::GATEWAY_TIMEOUT, code: "UNAVAILABLE", ..self }
            }
            _ => self,
        }
    }

    /// Replaces the 507 of a full store by 403 `DENIED`, as Harbor answers a quota: docker shows the message of a denial at
    /// once, and repeats a push that any other code refused for a minute. Nothing frees the room meanwhile.
    pub fn of_push(self) -> Self {
        match self.status {
            StatusCode::INSUFFICIENT_STORAGE => {
                tracing::warn!(code = self.code, "push refused: {}", self.message);
                Self { status: StatusCode::FORBIDDEN, code: "DENIED", ..self }
            }
            _ => self,
        }
    }

    /// Replaces the 400 of an invalid name by 404: a `HEAD` has no body to say why, and clients that get 404 go on to the
    /// request whose refusal they show.
    pub fn without_body(self) -> Self {
        match (self.status, self.code) {
            (StatusCode::BAD_REQUEST, "NAME_INVALID") => {
                Self { status: StatusCode::NOT_FOUND, code: "NAME_UNKNOWN", ..self }
            }
            _ => self,
        }
    }

    /// Replaces the message.
    pub fn with_message(self, message: impl ToString) -> Self {
        Self { message: message.to_string(), ..self }
    }

    /// Adds a header.
    pub fn with(self, name: HeaderName, value: impl ToString) -> Self {
        Self { headers: [self.headers, vec![(name, value.to_string())]].concat(), ..self }
    }

    /// Says why the access rules refuse it.
    pub fn with_denial(self, denial: Denial) -> Self {
        Self { denial: Some(denial), ..self }
    }

    pub fn names(error: names::Error, kind: ResourceKind) -> Self {
        use names::Error::*;
        let (status, code) = match &error {
            Syntax(_)
            | Reserved { .. }
            | NoIpnsName { .. }
            | CidV0 { .. }
            | UpperCase { .. }
            | NoCid { .. }
            | Path { .. } => (StatusCode::BAD_REQUEST, "NAME_INVALID"),
            UnknownName(_) | Misplaced { .. } | Unfinished { .. } => (StatusCode::NOT_FOUND, "NAME_UNKNOWN"),
            UnknownReference { .. } => (StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN"),
            UnknownBlob { .. } => (StatusCode::NOT_FOUND, "BLOB_UNKNOWN"),
            Layer { why: images::layer::Error::Kind(_), .. } => (StatusCode::NOT_FOUND, kind.unknown()),
            Layer { why: images::layer::Error::Malformed(_), .. } => {
                (StatusCode::BAD_GATEWAY, "MANIFEST_INVALID")
            }
            Image { why, .. } => image_answer(why, kind),
            Ipns { why: names::ipns::Error::Node(error), .. } => resolve_answer(error),
            Ipns { .. } => (StatusCode::BAD_GATEWAY, "NAME_INVALID"),
            Content(error) => content_answer(error, kind),
        };
        Self::new(status, code, error)
    }

    pub fn content(error: content::Error, kind: ResourceKind) -> Self {
        let (status, code) = content_answer(&error, kind);
        Self::new(status, code, format!("{error}{}", advice(&error)))
    }
}

/// Returns advice for a full store.
fn advice(error: &content::Error) -> &'static str {
    match error {
        content::Error::Quota { .. } | content::Error::Full => {
            "; on the node, `ocipfs repo rm` and `ocipfs repo gc --untagged` remove pushed images"
        }
        _ => "",
    }
}

fn image_answer(error: &images::Error, kind: ResourceKind) -> (StatusCode, &'static str) {
    use images::Error::*;
    match error {
        NoLayout { .. } | NoEntry { .. } | NoDescriptor { .. } | Link(_) => {
            (StatusCode::NOT_FOUND, "NAME_UNKNOWN")
        }
        Schema1(_) | NotAManifest { .. } | Elsewhere { .. } => (StatusCode::NOT_FOUND, kind.unknown()),
        Malformed { .. } => (StatusCode::BAD_GATEWAY, "MANIFEST_INVALID"),
        Content(error) => content_answer(error, kind),
    }
}

fn content_answer(error: &content::Error, kind: ResourceKind) -> (StatusCode, &'static str) {
    use content::Error::*;
    match error {
        Node(error) | Damaged { why: error, .. } => fetch_answer(error, kind),
        NotAFile { .. } | NotADirectory { .. } | NoEntry { .. } | TooLarge { .. } => {
            (StatusCode::NOT_FOUND, kind.unknown())
        }
        Corrupt { .. } | Mismatch { .. } => (StatusCode::BAD_GATEWAY, "PEER_DATA_INVALID"),
        Stalled { .. } => (StatusCode::GATEWAY_TIMEOUT, "PEER_TIMEOUT"),
        Full => (StatusCode::INSUFFICIENT_STORAGE, "STORAGE_FULL"),
        Quota { .. } | NoRoom { .. } => (StatusCode::INSUFFICIENT_STORAGE, "DENIED"),
        InUse { .. } => (StatusCode::CONFLICT, "DENIED"),
        Store(_) => (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL"),
    }
}

fn fetch_answer(error: &FetchError, kind: ResourceKind) -> (StatusCode, &'static str) {
    use FetchError::*;
    match error {
        NotFound { .. } | Offline(_) => (StatusCode::NOT_FOUND, kind.unknown()),
        Unanswered { .. } => (StatusCode::GATEWAY_TIMEOUT, "PEER_TIMEOUT"),
        OnlyRelayed { .. } => (StatusCode::GATEWAY_TIMEOUT, "PEER_UNREACHABLE"),
        Stopped => (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"),
    }
}

fn resolve_answer(error: &ResolveError) -> (StatusCode, &'static str) {
    use ResolveError::*;
    match error {
        NoRecord { .. } | NoDnsLink(_) | PrivateDns(_) => (StatusCode::NOT_FOUND, "NAME_UNKNOWN"),
        Dns { .. } => (StatusCode::GATEWAY_TIMEOUT, "DNS_UNANSWERED"),
        Records(RecordError::Stopped(_)) => (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"),
        Records(_) => (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL"),
    }
}

impl From<push::Error> for ApiError {
    fn from(error: push::Error) -> Self {
        use push::Error::*;
        let (status, code) = match error {
            Upload(error) => return error.into(),
            Names(error) => return Self::names(error, ResourceKind::Blob),
            Content(error) => return Self::content(error, ResourceKind::Blob),
            ReadOnly(_)
            | Reserved(_)
            | Followed { .. }
            | Immutable { .. }
            | NotAttached
            | RemovesSignatures { .. } => (StatusCode::FORBIDDEN, "DENIED"),
            Moved { .. } => (StatusCode::CONFLICT, "DENIED"),
            InvalidManifest(_) => (StatusCode::BAD_REQUEST, "MANIFEST_INVALID"),
            MissingBlobs { .. } => (StatusCode::NOT_FOUND, "MANIFEST_BLOB_UNKNOWN"),
            UnknownUpload(_) => (StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN"),
            UnknownManifest { .. } => (StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN"),
            UnknownBlob { .. } => (StatusCode::NOT_FOUND, "BLOB_UNKNOWN"),
        };
        Self::new(status, code, error)
    }
}

impl From<UploadError> for ApiError {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::TooMany | UploadError::Busy => Self::busy(error),
            UploadError::BrokenOff(why) => Self::body(why),
            UploadError::Mismatch { .. } => Self::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", error),
            UploadError::Offset { .. } => {
                Self::new(StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID", error)
            }
            UploadError::Store(error) => Self::content(error.into(), ResourceKind::Blob),
        }
    }
}

impl From<digest::Error> for ApiError {
    fn from(error: digest::Error) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", error)
    }
}

impl From<reference::Error> for ApiError {
    fn from(error: reference::Error) -> Self {
        match error {
            reference::Error::Tag(_) => Self::new(StatusCode::BAD_REQUEST, "TAG_INVALID", error),
            reference::Error::Digest(error) => error.into(),
        }
    }
}

impl From<TooManyRanges> for ApiError {
    fn from(error: TooManyRanges) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "RANGE_INVALID", error)
    }
}

impl From<Unsatisfiable> for ApiError {
    fn from(error: Unsatisfiable) -> Self {
        let answer = Self::new(StatusCode::RANGE_NOT_SATISFIABLE, "RANGE_INVALID", error);
        answer.with(header::CONTENT_RANGE, error.content_range())
    }
}

impl From<RefusedOrigin> for ApiError {
    fn from(refused: RefusedOrigin) -> Self {
        match refused {
            RefusedOrigin::Page(header) => Self::page(header),
            RefusedOrigin::Host(host) => Self::misdirected(&host),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        match self.status {
            // As many as clients like to send.
            StatusCode::SERVICE_UNAVAILABLE => tracing::debug!(code = self.code, "{}", self.message),
            status if status.is_server_error() => {
                tracing::warn!(status = status.as_u16(), code = self.code, "{}", self.message);
            }
            _ => {}
        }
        let body = json!({ "errors": [{ "code": self.code, "message": self.message, "detail": null }] });
        let mut headers = HeaderMap::new();
        for (name, value) in self.headers {
            // What names and numbers are made of can be sent.
            if let Ok(value) = value.parse() {
                headers.insert(name, value);
            }
        }
        let mut response = (self.status, headers, Json(body)).into_response();
        if let Some(denial) = self.denial {
            response.extensions_mut().insert(denial);
        }
        response
    }
}
