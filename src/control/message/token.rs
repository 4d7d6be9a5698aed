//! Requests about the tokens of this node, and the replies to them.

use serde::{Deserialize, Serialize};

use crate::http::IssuedToken;

/// Request about tokens.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "about", rename_all = "kebab-case")]
pub enum TokenRequest {
    /// Make a token.
    Create {
        /// Its name.
        name: String,
        /// Patterns of the repositories that it is for.
        repositories: Vec<String>,
        /// What may be done to them.
        actions: Vec<String>,
        /// How long it is valid, in seconds; without it, until it is revoked.
        seconds: Option<u64>,
    },
    /// List the tokens.
    Ls,
    /// Refuse a token from now on.
    Revoke {
        /// Its name.
        name: String,
    },
}

/// Reply to a [`TokenRequest`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "about", rename_all = "kebab-case")]
pub enum TokenReply {
    /// To `Create`.
    Created(CreatedToken),
    /// To `Ls`.
    Listed {
        /// The tokens, by their names.
        tokens: Vec<IssuedToken>,
    },
    /// To `Revoke`.
    Revoked {
        /// The token that is refused.
        name: String,
    },
}

/// A new token. It is told only here.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CreatedToken {
    /// The secret.
    pub token: String,
    /// What it is for.
    #[serde(flatten)]
    pub of: IssuedToken,
}
