//! What clients and commands did: a line of the audit log for each, and webhooks.
//!
//! ```text
//! registry, rpc    a request and its answer ─┐
//! control          a command and its reply  ─┴─► event ─► audit     lines of a file
//!                                                 │   └─► webhook   receivers of pushes and deletions
//!                                                 └─ repeated       what is told once a minute
//! ```

pub mod audit;
mod event;
mod repeated;
pub mod webhook;

use std::{hash::Hash, net::IpAddr, sync::Arc, time::Instant};

use super::{access_log::RequestLine, reloaded::Reload};
pub use audit::Audit;
pub use event::{Action, Event};
use repeated::Repeated;
pub use webhook::{WebhookOptions, WebhookUrl, Webhooks};

/// Where events go. Clones share it.
#[derive(Clone, Default)]
pub struct Events {
    audit: Option<Audit>,
    webhooks: Option<Webhooks>,
    refused: Arc<RecentRefusals>,
}

/// What was told in the last minute: one kind does not hide the other.
#[derive(Default)]
struct RecentRefusals {
    logins: Repeated,
    denials: Repeated,
}

impl Events {
    /// Events for these.
    pub fn new(audit: Option<Audit>, webhooks: Option<Webhooks>) -> Self {
        Self { audit, webhooks, refused: Arc::default() }
    }

    /// Whether events go anywhere.
    pub fn are_wanted(&self) -> bool {
        self.audit.is_some() || self.webhooks.is_some()
    }

    /// Tells an event in the log of the process, queues it for the webhooks, and writes it; waits for none of them, and for a slow
    /// disk some seconds at most.
    pub async fn tell(&self, event: &Event) {
        event.log();
        self.record(event).await;
    }

    /// Tells of a request that rules deny, unless one of the same `key` was told within a minute: clients repeat what is refused.
    pub async fn tell_denial(&self, line: &RequestLine, key: impl Hash, event: &Event) {
        if self.refused.denials.is_new(ip(line), key, Instant::now()) {
            self.tell(event).await;
        }
    }

    /// Tells of credentials that are wrong, unless the same client showed them within a minute; `shown` is what the request shows.
    pub async fn tell_failed_login(&self, line: &RequestLine, shown: &str, event: &Event) {
        if self.refused.logins.is_new(ip(line), (ip(line), shown), Instant::now()) {
            self.tell(event).await;
        }
    }

    async fn record(&self, event: &Event) {
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

fn ip(line: &RequestLine) -> Option<IpAddr> {
    line.client.map(|client| client.ip())
}
