//! Errors as Kubo's clients read them: `{Message, Code, Type}`, with 500 for what a command could not do.

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use ocipfs_node::FetchError;
use serde_json::json;

use super::cids;
use crate::{content, names};

/// Why a command failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: Kind,
    message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It could not be done.
    Failed,
    /// It was asked for in a wrong way, which the command tells.
    Client,
    /// The request was wrong before the command began.
    Request,
}

impl Error {
    /// A command that could not be done.
    pub fn failed(message: impl ToString) -> Self {
        Self { kind: Kind::Failed, message: message.to_string() }
    }

    /// A command that cannot be done as it was asked for.
    pub fn client(message: impl ToString) -> Self {
        Self { kind: Kind::Client, message: message.to_string() }
    }

    /// A request without a command that could begin.
    pub fn request(message: impl ToString) -> Self {
        Self { kind: Kind::Request, message: message.to_string() }
    }

    /// The message alone.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<content::Error> for Error {
    fn from(error: content::Error) -> Self {
        match error {
            content::Error::Node(FetchError::Offline(cid)) => Self::failed(format!(
                "block was not found locally (offline): ipld: could not find {}",
                cids::text(&cid)
            )),
            error => Self::failed(error),
        }
    }
}

impl From<content::AddError> for Error {
    fn from(error: content::AddError) -> Self {
        Self::failed(error)
    }
}

impl From<names::ipns::Error> for Error {
    fn from(error: names::ipns::Error) -> Self {
        Self::failed(error)
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let Self { kind, message } = self;
        let (status, code) = match kind {
            Kind::Failed => (StatusCode::INTERNAL_SERVER_ERROR, 0),
            Kind::Client => (StatusCode::BAD_REQUEST, 1),
            Kind::Request => return plain(StatusCode::BAD_REQUEST, &message),
        };
        (status, Json(json!({ "Message": message, "Code": code, "Type": "error" }))).into_response()
    }
}

/// The command does not exist.
pub struct NotFound;

impl IntoResponse for NotFound {
    fn into_response(self) -> Response {
        plain(StatusCode::NOT_FOUND, "404 page not found")
    }
}

/// Commands are only sent with `POST`.
pub struct MethodNotAllowed;

impl IntoResponse for MethodNotAllowed {
    fn into_response(self) -> Response {
        let allow = [(header::ALLOW, "POST")];
        (allow, plain(StatusCode::METHOD_NOT_ALLOWED, "405 - Method Not Allowed")).into_response()
    }
}

/// An answer that is not a JSON object.
pub fn plain(status: StatusCode, message: &str) -> Response {
    let headers =
        [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (status, headers, format!("{message}\n")).into_response()
}
