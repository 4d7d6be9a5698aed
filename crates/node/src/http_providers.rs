//! HTTP providers: servers that a provider record or this node's user names, and that are asked for single blocks.
//!
//! Each is a peer of the Bitswap sessions (`ocipfs_bitswap::ProviderWants`): they decide what it is asked for, as they do for
//! peers that speak Bitswap, and verify what it sends. No other server is asked, and none is asked to search.
//!
//! ```text
//! HttpProviders ──► link       the task of one provider
//!                    ├─► queue  which requests run
//!                    └─► http   one request and its answer
//! clients    the HTTP clients that providers share
//! endpoint   where a provider is
//! ```

mod clients;
mod endpoint;
mod http;
mod link;
mod queue;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use libp2p::Multiaddr;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{bitswap::ClientHandle, locked};
use clients::Clients;
pub(crate) use endpoint::is_http;
pub use endpoint::{HttpEndpoint, InvalidEndpoint};
use link::{End, HttpLink, LinkState};

/// Providers of records that are asked at once.
const MAX_FOUND: usize = 16;
/// Requests that run at once, over all providers: what their connections hold unread is not in the memory budget.
const MAX_REQUESTS: usize = 64;
/// Addresses of one provider that are used.
const MAX_PER_PROVIDER: usize = 2;
const MIN_PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// Failures in a row after which a provider of a record is forgotten.
const MAX_FAILURES: u32 = 4;
/// How long a provider that sent a wrong block is not asked.
const WRONG_BLOCK_PAUSE: Duration = Duration::from_secs(60 * 60);

/// The HTTP providers of a node. Clones share the same providers.
#[derive(Clone)]
pub(crate) struct HttpProviders(Arc<Shared>);

struct Shared {
    client: ClientHandle,
    /// Whether this is the public network, whose records are not trusted.
    public: bool,
    tasks: TaskTracker,
    stop: CancellationToken,
    requests: Semaphore,
    clients: Clients,
    known: Mutex<HashMap<HttpEndpoint, Known>>,
}

/// A provider whose task runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    /// Whether the user named it.
    is_kept: bool,
    /// Whether sessions may ask it now.
    is_asked: bool,
}

impl HttpProviders {
    pub(crate) fn new(
        client: ClientHandle,
        public: bool,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let (requests, clients, known) = (Semaphore::new(MAX_REQUESTS), Clients::default(), Mutex::default());
        Self(Arc::new(Shared { client, public, tasks, stop, requests, clients, known }))
    }

    /// Asks a provider that the user named, until the node stops.
    pub(crate) fn keep(&self, endpoint: HttpEndpoint) {
        self.start(endpoint, true);
    }

    /// Asks a provider that a record names, while sessions want something of it.
    pub(crate) fn found<'a>(&self, addresses: impl IntoIterator<Item = &'a Multiaddr>) {
        let endpoints = addresses.into_iter().filter_map(HttpEndpoint::of_address);
        let allowed = endpoints.filter(|endpoint| endpoint.is_allowed_from_record(self.0.public));
        allowed.take(MAX_PER_PROVIDER).for_each(|endpoint| self.start(endpoint, false));
    }

    /// Returns the number of providers that sessions may ask.
    pub(crate) fn count(&self) -> usize {
        locked(&self.0.known).values().filter(|known| known.is_asked).count()
    }

    fn start(&self, endpoint: HttpEndpoint, is_kept: bool) {
        let mut known = locked(&self.0.known);
        let found = known.values().filter(|known| !known.is_kept).count();
        if known.contains_key(&endpoint) || !is_kept && found >= MAX_FOUND {
            return;
        }
        // The first link is opened now, so that a session that waits counts it.
        known.insert(endpoint.clone(), Known { is_kept, is_asked: true });
        drop(known);
        let (providers, stop) = (self.clone(), self.0.stop.clone());
        self.0.tasks.spawn(async move {
            let ended = stop.run_until_cancelled(providers.ask(&endpoint, is_kept)).await;
            locked(&providers.0.known).remove(&endpoint);
            if ended.is_some() {
                tracing::debug!(url = %endpoint, "HTTP provider is no longer asked");
            }
        });
    }

    /// Asks a provider, with pauses while it fails.
    async fn ask(&self, endpoint: &HttpEndpoint, is_kept: bool) {
        let client = match self.0.clients.client(endpoint, !is_kept).await {
            Ok(client) => client,
            Err(error) => {
                tracing::warn!(url = %endpoint, error, "cannot create an HTTP client for a provider");
                return;
            }
        };
        let (mut failures, mut pause) = (0, MIN_PAUSE);
        loop {
            let (mut wants, answers) = self.0.client.open_link(endpoint.id());
            let state = LinkState::default();
            let requests = &self.0.requests;
            let mut link = HttpLink { client: &client, endpoint, answers, requests, is_kept, state };
            let end = link.run(&mut wants).await;
            let has_answered = link.state.has_answered;
            drop(wants);
            self.set_asked(endpoint, false);
            if has_answered {
                (failures, pause) = (0, MIN_PAUSE);
            }
            match end {
                End::Idle | End::Stopped => return,
                End::Wrong => {
                    let seconds = WRONG_BLOCK_PAUSE.as_secs();
                    tracing::warn!(url = %endpoint, "HTTP provider sent a wrong block and is not asked for {seconds} s");
                    tokio::time::sleep(WRONG_BLOCK_PAUSE).await;
                    if !is_kept {
                        return;
                    }
                }
                End::Failed { why, pause: asked } => {
                    failures += 1;
                    let pause_now = asked.unwrap_or_default().max(pause);
                    let retry_seconds = pause_now.as_secs_f32();
                    tracing::info!(url = %endpoint, why, retry_seconds, "HTTP provider failed");
                    if !is_kept && failures >= MAX_FAILURES {
                        return;
                    }
                    tokio::time::sleep(pause_now).await;
                    pause = (pause * 2).min(MAX_PAUSE);
                }
            }
            self.set_asked(endpoint, true);
        }
    }

    fn set_asked(&self, endpoint: &HttpEndpoint, is_asked: bool) {
        if let Some(known) = locked(&self.0.known).get_mut(endpoint) {
            known.is_asked = is_asked;
        }
    }
}
