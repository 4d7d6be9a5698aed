//! Webhooks: pushes and deletions as CloudEvents (<https://cloudevents.io>, version 1.0, structured JSON).
//!
//! Each URL has a queue and a task. A push never waits for them: where a queue is full, the event is dropped, and that is logged.

mod secret;

use std::{
    path::PathBuf,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use reqwest::{StatusCode, header};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use super::{Action, Event};
use crate::{http::reloaded::Reload, http_client};
use secret::Signer;

/// Events that wait for one URL.
const QUEUE: usize = 1_000;
/// How long a receiver may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two tries of one event; doubled after each.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const MAX_RETRY: Duration = Duration::from_secs(60);
/// How old an event becomes; it is tried at least once.
const DEADLINE: Duration = Duration::from_secs(3600);
/// Type of the body.
const CLOUD_EVENT: &str = "application/cloudevents+json; charset=utf-8";
/// The header with the HMAC-SHA256 of the body, in the form that receivers of other webhooks know.
const SIGNATURE: &str = "x-hub-signature-256";

/// Where events are sent.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct WebhookUrl(reqwest::Url);

impl FromStr for WebhookUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = text.parse::<reqwest::Url>().ok().filter(http_client::is_http);
        let url = url.ok_or_else(|| {
            let scheme = text.split_once("://").map(|(scheme, _)| scheme);
            // The rest of it may have a secret.
            let told = scheme.map(|scheme| format!(" {:?}", format!("{scheme}://..."))).unwrap_or_default();
            format!("invalid webhook{told}: expected a URL such as https://hooks.example/ocipfs")
        });
        url.map(Self)
    }
}

impl TryFrom<String> for WebhookUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// Why there are no webhooks.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// The secret cannot be read.
    #[error("cannot read the secret of the webhooks in {path}: {why}")]
    Secret {
        /// The file.
        path: String,
        /// Error of the operating system.
        why: std::io::Error,
    },
    /// The file is empty, or too long.
    #[error("{path} is not a secret: it has {length} bytes, expected 1 to {}", secret::MAX_BYTES)]
    Length {
        /// The file.
        path: String,
        /// Bytes without the line's end.
        length: usize,
    },
    /// The client cannot be made.
    #[error("cannot send webhooks: {0}")]
    Client(#[from] reqwest::Error),
}

/// Receivers of events, and the secret that they share with this node.
#[derive(Clone, Debug, Default)]
pub struct WebhookOptions {
    pub urls: Vec<WebhookUrl>,
    pub secret: Option<PathBuf>,
}

/// Queues of events. Clones share them.
#[derive(Clone)]
pub struct Webhooks {
    queues: Vec<Arc<Queue>>,
    signer: Signer,
    /// URL of the registry, which events name as their source.
    source: String,
}

struct Queue {
    url: String,
    sender: mpsc::Sender<Queued>,
    is_full: AtomicBool,
}

#[derive(Clone)]
struct Queued {
    id: String,
    body: Bytes,
    queued: Instant,
}

#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: &'a str,
    source: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    subject: String,
    time: &'a str,
    datacontenttype: &'static str,
    data: &'a Event,
}

impl Webhooks {
    /// Starts a task for each URL. After `stop` what waits is sent once, until `tasks` are no longer waited for.
    pub fn start(
        options: WebhookOptions,
        source: String,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<Self, WebhookError> {
        let signer = Signer::read(options.secret.as_deref())?;
        let client = http_client::builder().redirect(reqwest::redirect::Policy::none());
        let client = client.timeout(ANSWER_TIMEOUT).build()?;
        let mut queues = Vec::new();
        for WebhookUrl(url) in options.urls {
            let (sender, events) = mpsc::channel(QUEUE);
            let shown = shown(&url);
            queues.push(Arc::new(Queue { url: shown.clone(), sender, is_full: AtomicBool::new(false) }));
            let (client, signer, stop) = (client.clone(), signer.clone(), stop.clone());
            tasks.spawn(Delivery { client, url, shown, signer, stop }.run(events));
        }
        Ok(Self { queues, signer, source })
    }

    /// Queues an event that receivers are told of: pushes and deletions.
    pub fn queue(&self, event: &Event) {
        let kind = match event.action {
            Action::Push | Action::Sign => "io.ocipfs.push",
            Action::Delete => "io.ocipfs.delete",
            Action::Token
            | Action::TokenCreate
            | Action::TokenRevoke
            | Action::LoginFailed
            | Action::Denied => return,
        };
        let id = Uuid::new_v4().to_string();
        let Ok(body) = self.body(event, kind, &id) else { return };
        for queue in &self.queues {
            queue.push(Queued { id: id.clone(), body: body.clone(), queued: Instant::now() });
        }
    }

    fn body(&self, event: &Event, kind: &'static str, id: &str) -> serde_json::Result<Bytes> {
        let repository = event.repository.as_deref().unwrap_or_default();
        let subject = match (&event.digest, &event.reference) {
            (Some(digest), _) => format!("{repository}@{digest}"),
            (None, Some(tag)) => format!("{repository}:{tag}"),
            (None, None) => repository.into(),
        };
        let (source, time) = (self.source.as_str(), event.time.as_str());
        let (specversion, datacontenttype) = ("1.0", "application/json");
        let event = CloudEvent { specversion, id, source, kind, subject, time, datacontenttype, data: event };
        serde_json::to_vec(&event).map(Bytes::from)
    }

    /// Returns the file of the secret, to be read again on SIGHUP.
    pub fn file(&self) -> Option<Box<dyn Reload>> {
        self.signer.file()
    }
}

impl Queue {
    fn push(&self, event: Queued) {
        let is_full = self.sender.try_send(event).is_err();
        if is_full && !self.is_full.swap(true, Ordering::Relaxed) {
            tracing::warn!(url = self.url, "{QUEUE} events wait for this webhook; further ones are dropped");
        }
        if !is_full {
            self.is_full.store(false, Ordering::Relaxed);
        }
    }
}

/// A URL as logs show it: its origin. Receivers such as chats have their secret in the path.
fn shown(url: &reqwest::Url) -> String {
    url.origin().ascii_serialization()
}

/// The task of one URL.
struct Delivery {
    client: reqwest::Client,
    url: reqwest::Url,
    shown: String,
    signer: Signer,
    stop: CancellationToken,
}

impl Delivery {
    async fn run(self, mut events: mpsc::Receiver<Queued>) {
        while let Some(event) = events.recv().await {
            self.deliver(&event).await;
        }
    }

    /// Sends an event until it is taken, refused, or too old.
    async fn deliver(&self, event: &Queued) {
        let mut delay = FIRST_RETRY;
        loop {
            let why = match self.send(event).await {
                Ok(status) if status.is_success() => return,
                Ok(status) if !is_worth_a_retry(status) => {
                    tracing::warn!(url = self.shown, id = event.id, "the webhook refused an event: {status}");
                    return;
                }
                Ok(status) => status.to_string(),
                Err(error) => http_client::with_sources(&error.without_url()),
            };
            if event.queued.elapsed() + delay > DEADLINE || self.stop.is_cancelled() {
                tracing::warn!(url = self.shown, id = event.id, "gave up an event of the webhook: {why}");
                return;
            }
            tracing::debug!(url = self.shown, id = event.id, "the webhook is tried again: {why}");
            let _ = self.stop.run_until_cancelled(tokio::time::sleep(delay)).await;
            delay = (delay * 2).min(MAX_RETRY);
        }
    }

    async fn send(&self, event: &Queued) -> reqwest::Result<StatusCode> {
        let request = self.client.post(self.url.clone()).header(header::CONTENT_TYPE, CLOUD_EVENT);
        let request = match self.signer.sign(&event.body).await {
            Some(signature) => request.header(SIGNATURE, signature),
            None => request,
        };
        Ok(request.body(event.body.clone()).send().await?.status())
    }
}

/// Whether the same event may be taken later.
fn is_worth_a_retry(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS | StatusCode::TOO_EARLY
        )
}

#[cfg(test)]
mod tests;
