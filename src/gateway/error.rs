//! Errors as answers. No `_` arm: a new error has to choose its status here.

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

use crate::content::{
    self, CidPath,
    car::{Busy, OutsideOfFile},
};

/// When a client that was refused as one too many may try again.
const RETRY_AFTER_SECONDS: &str = "5";

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request cannot be understood.
    #[error("{0}")]
    Invalid(String),
    /// A form of content that is not served here.
    #[error("{0}")]
    NotAcceptable(String),
    /// A block is not here, or peers may not get it: clients are not told which.
    #[error("{0} not found: this gateway serves what is stored here and shared, and does not fetch content")]
    Absent(CidPath),
    /// None of the requested bytes are in the file.
    #[error("invalid entity-bytes: {0}")]
    Outside(#[from] OutsideOfFile),
    /// Slow clients leave no memory for another one.
    #[error("too many responses are waiting for slow clients: try again later")]
    Busy,
    /// Reading failed.
    #[error(transparent)]
    Content(#[from] content::Error),
}

impl From<Busy> for Error {
    fn from(Busy: Busy) -> Self {
        Self::Busy
    }
}

impl Error {
    fn status(&self) -> StatusCode {
        use content::Error::*;
        match self {
            Self::Invalid(_) | Self::Outside(_) => StatusCode::BAD_REQUEST,
            Self::NotAcceptable(_) => StatusCode::NOT_ACCEPTABLE,
            Self::Absent(_) => StatusCode::NOT_FOUND,
            Self::Busy => StatusCode::TOO_MANY_REQUESTS,
            Self::Content(error) => match error {
                NoEntry { .. } | NotAFile { .. } | NotADirectory { .. } | Node(_) | Damaged { .. } => {
                    StatusCode::NOT_FOUND
                }
                Corrupt { .. }
                | Mismatch { .. }
                | TooLarge { .. }
                | Stalled { .. }
                | Full
                | Quota { .. }
                | NoRoom { .. }
                | InUse { .. }
                | Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
            },
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = self.status();
        if status.is_server_error() {
            tracing::warn!(status = status.as_u16(), "{self}");
        }
        let mut answer =
            (status, [(header::X_CONTENT_TYPE_OPTIONS, "nosniff")], format!("{self}\n")).into_response();
        if status == StatusCode::TOO_MANY_REQUESTS {
            let seconds = header::HeaderValue::from_static(RETRY_AFTER_SECONDS);
            answer.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        answer
    }
}
