//! What operators see of a running node: probes and metrics, on an address of their own, without a login.
//!
//! ```text
//! /livez /readyz /startupz ─► health     what the store and the swarm's task last answered
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
    extract::State,
    http::{StatusCode, header},
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
    },
};
pub use health::Health;
use metrics::Metrics;

/// Connections of probes and scrapes.
const MAX_CONNECTIONS: usize = 64;
/// Between two samples.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(5);

/// The health and the metrics of this process. Clones share them.
#[derive(Clone)]
pub struct Admin {
    health: Health,
    metrics: Metrics,
}

impl Default for Admin {
    fn default() -> Self {
        let health = Health::default();
        Self { metrics: Metrics::new(health.clone()), health }
    }
}

impl Admin {
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

    /// Serves probes and metrics until `stop`. Before there is an instance, the probes say that the node is starting.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let limits = Limits { connections: MAX_CONNECTIONS, ..Limits::default() };
        listener::serve(listener, self.router(), limits, stop).await;
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
