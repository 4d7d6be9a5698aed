//! Settings of the audit log and of webhooks.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Deserialize;

use super::{usage, values::list};
use crate::{
    cli::Exit,
    http::events::{WebhookOptions, WebhookUrl},
};

/// Settings as they were given.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct EventSettings {
    /// File for a JSON line of each push, signature, deletion, token and failed login, or `-` for the standard output; opened again on SIGHUP [default: none]
    #[arg(long, value_name = "FILE|-", env = "OCIPFS_AUDIT_LOG")]
    audit_log: Option<PathBuf>,
    /// URLs to send pushes and deletions to, as CloudEvents [default: none]
    #[arg(long, value_name = "URL", env = "OCIPFS_WEBHOOK", hide_env_values = true, value_delimiter = ',', num_args = 1..)]
    #[serde(default, deserialize_with = "list::deserialize")]
    webhook: Option<Vec<WebhookUrl>>,
    /// File with a secret: the header X-Hub-Signature-256 of each webhook has the HMAC-SHA256 of the body; read again on SIGHUP [default: none]
    #[arg(long, value_name = "FILE", env = "OCIPFS_WEBHOOK_SECRET")]
    webhook_secret: Option<PathBuf>,
}

impl EventSettings {
    /// Takes from the file what neither flags nor environment said.
    pub fn or(self, file: Self) -> Self {
        Self {
            audit_log: self.audit_log.or(file.audit_log),
            webhook: self.webhook.or(file.webhook),
            webhook_secret: self.webhook_secret.or(file.webhook_secret),
        }
    }

    /// The file of the audit log.
    pub fn audit_log(&self) -> Option<&Path> {
        self.audit_log.as_deref()
    }

    /// The file of the secret.
    pub fn secret(&self) -> Option<&PathBuf> {
        self.webhook_secret.as_ref()
    }

    /// The receivers of events, if there are any.
    pub fn webhooks(&self) -> Result<Option<WebhookOptions>, Exit> {
        let urls = self.webhook.clone().unwrap_or_default();
        match (urls.is_empty(), &self.webhook_secret) {
            (true, Some(_)) => {
                Err(usage("--webhook-secret needs --webhook", "name a receiver with --webhook URL"))
            }
            (true, None) => Ok(None),
            (false, secret) => Ok(Some(WebhookOptions { urls, secret: secret.clone() })),
        }
    }
}
