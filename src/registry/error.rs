//! Errors as OCI error bodies. No `_` arm: a new error has to choose its answer here.

use axum::{
    Json,
    http::{HeaderName, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use ocipfs_oci::{Unsatisfiable, digest, reference};
use serde_json::json;

use crate::{content, images, names};

/// What was asked for, which decides how its absence is called.
#[derive(Clone, Copy, Debug)]
pub enum Wanted {
    Manifest,
    Blob,
}

impl Wanted {
    fn unknown(self) -> &'static str {
        match self {
            Self::Manifest => "MANIFEST_UNKNOWN",
            Self::Blob => "BLOB_UNKNOWN",
        }
    }
}

/// A status, a code of the specification and a message for people.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
    header: Option<(HeaderName, String)>,
}

impl Refusal {
    fn new(status: StatusCode, code: &'static str, message: impl ToString) -> Self {
        Self { status, code, message: message.to_string(), header: None }
    }

    pub fn no_endpoint() -> Self {
        let known = "manifests/<reference>, blobs/<digest> and tags/list below /v2/<name>/";
        Self::new(StatusCode::NOT_FOUND, "UNSUPPORTED", format!("no such endpoint: {known} are served"))
    }

    /// Refuses all methods that would change something.
    pub fn unless_read(method: &Method) -> Result<(), Self> {
        if matches!(*method, Method::GET | Method::HEAD) {
            return Ok(());
        }
        let message =
            format!("{method} is not taken: this registry serves what is in IPFS, it takes no pushes");
        // RFC 9110, section 15.5.6.
        let header = Some((header::ALLOW, "GET, HEAD".into()));
        Err(Self { header, ..Self::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", message) })
    }

    pub fn names(error: names::Error, wanted: Wanted) -> Self {
        use names::Error::*;
        let (status, code) = match &error {
            Syntax(_) | NoIpnsName { .. } | CidV0 { .. } | UpperCase { .. } | NoCid { .. } | Path { .. } => {
                (StatusCode::BAD_REQUEST, "NAME_INVALID")
            }
            UnknownName(_) | Misplaced { .. } | Unfinished { .. } => (StatusCode::NOT_FOUND, "NAME_UNKNOWN"),
            UnknownReference { .. } => (StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN"),
            UnknownBlob { .. } => (StatusCode::NOT_FOUND, "BLOB_UNKNOWN"),
            Layer { why: images::layer::Error::Kind(_), .. } => (StatusCode::NOT_FOUND, wanted.unknown()),
            Layer { why: images::layer::Error::Malformed(_), .. } => {
                (StatusCode::BAD_GATEWAY, "MANIFEST_INVALID")
            }
            Image { why, .. } => image_answer(why, wanted),
            Ipns { why: names::ipns::Error::Node(error), .. } => node_answer(error, wanted),
            Ipns { .. } => (StatusCode::BAD_GATEWAY, "NAME_INVALID"),
            Content(error) => content_answer(error, wanted),
        };
        Self::new(status, code, error)
    }

    pub fn content(error: content::Error, wanted: Wanted) -> Self {
        let (status, code) = content_answer(&error, wanted);
        Self::new(status, code, error)
    }
}

fn image_answer(error: &images::Error, wanted: Wanted) -> (StatusCode, &'static str) {
    use images::Error::*;
    match error {
        NoLayout { .. } | NoEntry { .. } | NoDescriptor { .. } | Link(_) => {
            (StatusCode::NOT_FOUND, "NAME_UNKNOWN")
        }
        Schema1(_) | Elsewhere { .. } => (StatusCode::NOT_FOUND, wanted.unknown()),
        Malformed { .. } => (StatusCode::BAD_GATEWAY, "MANIFEST_INVALID"),
        Content(error) => content_answer(error, wanted),
    }
}

fn content_answer(error: &content::Error, wanted: Wanted) -> (StatusCode, &'static str) {
    use content::Error::*;
    match error {
        Node(error) => node_answer(error, wanted),
        NotAFile { .. } | NoEntry { .. } | TooLarge { .. } => (StatusCode::NOT_FOUND, wanted.unknown()),
        Corrupt { .. } | Mismatch { .. } => (StatusCode::BAD_GATEWAY, "PEER_DATA_INVALID"),
        Stalled { .. } => (StatusCode::GATEWAY_TIMEOUT, "PEER_TIMEOUT"),
        Full => (StatusCode::INSUFFICIENT_STORAGE, "STORAGE_FULL"),
        Quota { .. } => (StatusCode::INSUFFICIENT_STORAGE, "DENIED"),
        Store(_) => (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL"),
    }
}

fn node_answer(error: &ocipfs_node::Error, wanted: Wanted) -> (StatusCode, &'static str) {
    use ocipfs_node::Error::*;
    match error {
        NotFound { .. } | Offline(_) => (StatusCode::NOT_FOUND, wanted.unknown()),
        NoRecord { .. } | NoDnsLink(_) | PrivateDns(_) => (StatusCode::NOT_FOUND, "NAME_UNKNOWN"),
        Dns { .. } => (StatusCode::GATEWAY_TIMEOUT, "DNS_UNANSWERED"),
        Unanswered { .. } => (StatusCode::GATEWAY_TIMEOUT, "PEER_TIMEOUT"),
        Stopped => (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"),
        Identity { .. }
        | SwarmKey(_)
        | HalfPrivate { .. }
        | Listen { .. }
        | NoPeerId(_)
        | Dial { .. }
        | KeyName(_)
        | NoKey(_)
        | KeyExists(_)
        | NotAKey(_)
        | Names(_)
        | Start(_) => (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL"),
    }
}

impl From<digest::Error> for Refusal {
    fn from(error: digest::Error) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", error)
    }
}

impl From<reference::Error> for Refusal {
    fn from(error: reference::Error) -> Self {
        match error {
            reference::Error::Tag(_) => Self::new(StatusCode::BAD_REQUEST, "TAG_INVALID", error),
            reference::Error::Digest(error) => error.into(),
        }
    }
}

impl From<Unsatisfiable> for Refusal {
    fn from(error: Unsatisfiable) -> Self {
        let header = Some((header::CONTENT_RANGE, error.content_range()));
        Self { header, ..Self::new(StatusCode::RANGE_NOT_SATISFIABLE, "RANGE_INVALID", error) }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        if self.status.is_server_error() {
            tracing::warn!(status = self.status.as_u16(), code = self.code, "{}", self.message);
        }
        let body = json!({ "errors": [{ "code": self.code, "message": self.message, "detail": null }] });
        (self.status, self.header.map(|header| [header]), Json(body)).into_response()
    }
}
