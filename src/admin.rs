//! What operators see of a running node: probes and metrics, on an address of their own, without a login.
//!
//! ```text
//! /livez /readyz /startupz ─► health     what the store and the swarm's task last answered
//! / ───────────────────────► page        `crate::page`, which shows everything here
//! /metrics ─────────────────► metrics    counters and gauges
//!                               ├─► live      what is cheap to read, read at each scrape
//!                               ├─► sample    what takes a walk, taken every few seconds in the background
//!                               └─► process   memory, processor time and open files
//! ```

mod health;
mod live;
mod metrics;
mod observed;
mod process;
mod sample;

use std::time::Duration;

use axum::{
    Router,
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{net::TcpListener, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    control::Instance,
    http::{
        listener::{self, Limits},
        metrics::HttpMetrics,
        origin::{RefusedOrigin, RegistryPlace},
    },
    page::Page,
};
pub use health::Health;
use metrics::Metrics;

/// Connections of probes and scrapes.
const MAX_CONNECTIONS: usize = 64;
/// Between two samples.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(5);

/// The health and the metrics of this process, and the page of its node. Clones share them.
#[derive(Clone)]
pub struct Admin {
    health: Health,
    metrics: Metrics,
    page: Option<Page>,
}

impl Admin {
    /// Of a process that shows this page, or none.
    pub fn new(page: Option<Page>) -> Self {
        let health = Health::default();
        Self { metrics: Metrics::new(health.clone()), health, page }
    }

    /// Returns the health, for the one that starts and stops the node.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Returns the counters of the registry's listener.
    pub fn http(&self) -> &HttpMetrics {
        self.metrics.http()
    }

    /// Takes samples of an instance, and shows its metrics, until `stop`.
    pub async fn observe(self, instance: Instance, stop: CancellationToken) {
        self.metrics.observe(instance);
        loop {
            self.metrics.take_sample().await;
            if tokio::time::timeout(SAMPLE_INTERVAL, stop.cancelled()).await.is_ok() {
                return;
            }
        }
    }

    /// Serves probes, metrics and the page until `stop`. Before there is an instance, the probes say that the node is starting.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let limits = Limits { connections: MAX_CONNECTIONS, ..Limits::default() };
        let page = match (&self.page, listener.local_addr()) {
            (Some(page), Ok(address)) => page_routes(page, RegistryPlace::new(address, None)),
            _ => Router::new(),
        };
        listener::serve(listener, self.router().merge(page), limits, stop).await;
    }

    fn router(self) -> Router {
        Router::new()
            .route("/livez", get(async |State(admin): State<Self>| probe(admin.health.live(Instant::now()))))
            .route(
                "/readyz",
                get(async |State(admin): State<Self>| probe(admin.health.ready(Instant::now()))),
            )
            .route("/startupz", get(async |State(admin): State<Self>| probe(admin.health.started())))
            .route("/metrics", get(async |State(admin): State<Self>| scrape(&admin)))
            .with_state(self)
    }
}

/// The page, for those who open its address: not for pages of other sites, nor by a name that was made to lead here.
fn page_routes(page: &Page, place: RegistryPlace) -> Router {
    let check = async |State(place): State<RegistryPlace>, request: Request, next: Next| {
        let (parts, body) = request.into_parts();
        match place.check(&parts) {
            Ok(()) => next.run(Request::from_parts(parts, body)).await,
            Err(RefusedOrigin::Page(_)) => {
                (StatusCode::FORBIDDEN, "open the page by its address\n").into_response()
            }
            Err(RefusedOrigin::Host(_)) => {
                (StatusCode::MISDIRECTED_REQUEST, "the Host header is not a name of this machine\n")
                    .into_response()
            }
        }
    };
    page.for_operators().layer(from_fn_with_state(place, check))
}

fn probe(outcome: Result<(), String>) -> Response {
    match outcome {
        Ok(()) => (StatusCode::OK, "ok\n").into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

fn scrape(admin: &Admin) -> Response {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match admin.metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests;
