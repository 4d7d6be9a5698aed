//! Why the page has no data to show: a status, a sentence and what helps.

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::image::Unread;
use crate::{control::Failure, http::page_visitor::PageVisitor, names};

/// The challenge that has a browser ask for a name and a password (RFC 7617).
const CHALLENGE: &str = "Basic realm=\"ocipfs\", charset=\"UTF-8\"";

/// An answer without data.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    message: String,
    hint: Option<String>,
}

impl Refusal {
    fn new(status: StatusCode, message: impl ToString) -> Self {
        Self { status, message: message.to_string(), hint: None }
    }

    /// The node is not open yet.
    pub fn starting() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "the node is starting")
    }

    /// A login would show more.
    pub fn login() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "log in to see this")
    }

    /// What is asked for is not for this visitor, before or after a login.
    pub fn hidden(visitor: &PageVisitor, what: &str) -> Self {
        match visitor.may_log_in {
            true => Self::login(),
            false => Self::new(StatusCode::FORBIDDEN, format!("{what} is not shown to you")),
        }
    }

    /// The node's own data.
    pub fn of_node(visitor: &PageVisitor) -> Self {
        let hint =
            "open the page on the machine of the node, log in as a user who may push, or use --admin-listen";
        Self { hint: Some(hint.into()), ..Self::hidden(visitor, "data of the node itself") }
    }

    /// A value of the query that makes no sense.
    pub fn query(message: impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }
}

impl From<Failure> for Refusal {
    fn from(Failure { message, hint }: Failure) -> Self {
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, message, hint }
    }
}

impl From<names::Error> for Refusal {
    fn from(error: names::Error) -> Self {
        let status = if error.is_absence() { StatusCode::NOT_FOUND } else { StatusCode::BAD_GATEWAY };
        Self::new(status, error)
    }
}

impl From<Unread> for Refusal {
    fn from(unread: Unread) -> Self {
        const HINT: &str = "users with the action `sign` see it, and add the signature with `cosign sign --key` or `notation sign`";
        match unread {
            Unread::Names(error) => error.into(),
            Unread::Unsigned(_) => {
                Self { hint: Some(HINT.into()), ..Self::new(StatusCode::FORBIDDEN, unread) }
            }
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self { status, message, hint } = self;
        let body = Json(json!({ "error": message, "hint": hint }));
        match status {
            StatusCode::UNAUTHORIZED => {
                (status, [(header::WWW_AUTHENTICATE, CHALLENGE)], body).into_response()
            }
            _ => (status, body).into_response(),
        }
    }
}
