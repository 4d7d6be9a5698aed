//! One event: what was done, by whom, from where.

use std::time::SystemTime;

use serde::Serialize;

use crate::http::access_log::RequestLine;

/// What a client or a command did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It pushed a manifest.
    Push,
    /// It pushed a signature of a manifest.
    Sign,
    /// It deleted a repository, a tag, a manifest or a blob.
    Delete,
    /// It got a token of the token endpoint.
    Token,
    /// It made a token of this node.
    TokenCreate,
    /// It revoked a token of this node.
    TokenRevoke,
    /// Its password, token or certificate was refused.
    LoginFailed,
    /// No rule allows it what it wanted.
    Denied,
}

/// A line of the audit log. What does not apply is left out.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    /// When it was answered (RFC 3339, UTC).
    pub time: String,
    pub action: Action,
    /// Who it says that it is; who it is, unless its login failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// User whom the certificate of the connection names, if it is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// Address and port of the connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Client address that a proxy reports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forwarded_for: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// The tag or the digest in the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Digest of the manifest that a pushed one refers to, or signs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Name of the token that was made or revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// What was denied: `pull`, `push`, `delete` or `sign`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wanted: Option<&'static str>,
}

impl Event {
    /// An event of this moment.
    pub fn now(action: Action) -> Self {
        let time = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        Self {
            time,
            action,
            user: None,
            certificate: None,
            client: None,
            forwarded_for: None,
            repository: None,
            reference: None,
            digest: None,
            subject: None,
            token: None,
            wanted: None,
        }
    }

    /// An event of this moment that a request brought about.
    pub fn of_request(line: &RequestLine, action: Action) -> Self {
        Self {
            user: line.user.clone(),
            client: line.client.map(|address| address.to_string()),
            forwarded_for: line.forwarded_for.clone(),
            ..Self::now(action)
        }
    }

    /// Tells it in the log of the process, which has no line for tokens of the token endpoint.
    pub(super) fn log(&self) {
        let client = self.client.as_deref().map(tracing::field::display);
        let (forwarded_for, user) = (self.forwarded_for.as_deref(), self.user.as_deref());
        let (repository, reference) = (self.repository.as_deref(), self.reference.as_deref());
        let (token, wanted) = (self.token.as_deref(), self.wanted);
        match self.action {
            Action::LoginFailed => {
                tracing::warn!(client, forwarded_for, user, "login failed");
            }
            Action::Denied => {
                tracing::info!(client, forwarded_for, user, repository, wanted, "denied");
            }
            Action::Push | Action::Sign => {
                let digest = self.digest.as_deref();
                tracing::info!(client, forwarded_for, user, repository, reference, digest, "pushed");
            }
            Action::Delete => {
                tracing::info!(client, forwarded_for, user, repository, reference, "deleted");
            }
            Action::TokenCreate => {
                tracing::info!(client, user, token, "token created");
            }
            Action::TokenRevoke => {
                tracing::info!(client, user, token, "token revoked");
            }
            Action::Token => {}
        }
    }
}
