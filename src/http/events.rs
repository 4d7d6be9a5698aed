//! What clients did: a line of the audit log for each, and webhooks.

pub mod audit;
pub mod webhook;

use std::time::SystemTime;

use serde::Serialize;

use super::reloaded::Reload;
pub use audit::Audit;
pub use webhook::{WebhookOptions, WebhookUrl, Webhooks};

/// What a client did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It pushed a manifest.
    Push,
    /// It pushed a signature of a manifest.
    Sign,
    /// It deleted a tag, a manifest or a blob.
    Delete,
    /// It got a token.
    Token,
    /// Its password, token or certificate was refused.
    LoginFailed,
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
        }
    }
}

/// Where events go. Clones share it.
#[derive(Clone, Default)]
pub struct Events {
    audit: Option<Audit>,
    webhooks: Option<Webhooks>,
}

impl Events {
    /// Events for these.
    pub fn new(audit: Option<Audit>, webhooks: Option<Webhooks>) -> Self {
        Self { audit, webhooks }
    }

    /// Whether events go anywhere.
    pub fn are_wanted(&self) -> bool {
        self.audit.is_some() || self.webhooks.is_some()
    }

    /// Queues an event for the webhooks, and writes it; waits for none of them, and for a slow disk some seconds at most.
    pub async fn record(&self, event: &Event) {
        if let Some(webhooks) = &self.webhooks {
            webhooks.queue(event);
        }
        if let Some(audit) = &self.audit {
            audit.write(event).await;
        }
    }

    /// The audit log, if there is one.
    pub fn audit(&self) -> Option<&Audit> {
        self.audit.as_ref()
    }

    /// Returns what SIGHUP has opened or read again.
    pub fn files(&self) -> Vec<Box<dyn Reload>> {
        let audit = self.audit.iter().map(|audit| Box::new(audit.clone()) as Box<dyn Reload>);
        audit.chain(self.webhooks.iter().filter_map(Webhooks::file)).collect()
    }
}
