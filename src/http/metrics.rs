//! Requests as Prometheus counts them: how many, how long they took, and how many are being answered.
//!
//! A request counts until its answer is sent to the end, or broken off. Labels have few values whatever clients send: unknown
//! methods are one, and no path or repository is a label.

use std::time::Instant;

use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    http::Method,
    middleware::Next,
    response::Response,
};
use http_body::Frame;
use http_body_util::BodyExt;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// Upper ends in seconds: from a manifest that is stored to a large layer that comes from far.
const BUCKETS: [f64; 12] = [0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0, 600.0];
/// The status of a request whose client left before there was an answer, as proxies log it.
const CLIENT_CLOSED: u16 = 499;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    method: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    method: &'static str,
    code: u16,
}

/// The counters of one listener. Clones share them.
#[derive(Clone, Debug)]
pub struct HttpMetrics {
    requests: Family<Answered, Counter>,
    durations: Family<Asked, Histogram, fn() -> Histogram>,
    in_flight: Gauge,
    sent: Counter,
}

impl Default for HttpMetrics {
    fn default() -> Self {
        let durations = Family::new_with_constructor((|| Histogram::new(BUCKETS)) as fn() -> Histogram);
        Self { requests: Family::default(), durations, in_flight: Gauge::default(), sent: Counter::default() }
    }
}

impl HttpMetrics {
    /// Adds the counters to what a scrape shows, with names that begin in `registry_http_`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("registry_http");
        registry.register("requests", "HTTP requests that were answered", self.requests.clone());
        let help = "Time from a request to the end of its answer";
        registry.register("request_duration_seconds", help, self.durations.clone());
        let help = "HTTP requests that are being answered";
        registry.register("in_flight_requests", help, self.in_flight.clone());
        registry.register("sent_bytes", "Bytes of bodies that were sent to clients", self.sent.clone());
    }

    fn begin(&self, method: &Method) -> Measured {
        self.in_flight.inc();
        Measured { metrics: self.clone(), method: name(method), code: CLIENT_CLOSED, begun: Instant::now() }
    }
}

/// Returns the method as a label.
fn name(method: &Method) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"];
    KNOWN.into_iter().find(|known| method.as_str() == *known).unwrap_or("OTHER")
}

/// A request that is counted when this is dropped, with the body of its answer.
struct Measured {
    metrics: HttpMetrics,
    method: &'static str,
    code: u16,
    begun: Instant,
}

impl Measured {
    fn sent(&mut self, frame: &Frame<Bytes>) {
        self.metrics.sent.inc_by(frame.data_ref().map_or(0, Bytes::len) as u64);
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        let (metrics, method, code) = (&self.metrics, self.method, self.code);
        metrics.in_flight.dec();
        metrics.requests.get_or_create(&Answered { method, code }).inc();
        metrics.durations.get_or_create(&Asked { method }).observe(self.begun.elapsed().as_secs_f64());
    }
}

/// Counts a request, as a layer of a router.
pub async fn measure(State(metrics): State<HttpMetrics>, request: Request, next: Next) -> Response {
    let mut measured = metrics.begin(request.method());
    let response = next.run(request).await;
    measured.code = response.status().as_u16();
    response.map(|body| Body::new(body.inspect_frame(move |frame| measured.sent(frame))))
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    fn shown(metrics: &HttpMetrics) -> String {
        let (mut registry, mut text) = (Registry::default(), String::new());
        metrics.register(&mut registry);
        encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn a_request_counts_as_in_flight_until_its_answer_is_dropped() {
        let metrics = HttpMetrics::default();
        let mut measured = metrics.begin(&Method::GET);
        assert!(shown(&metrics).contains("registry_http_in_flight_requests 1\n"));
        measured.code = 200;
        drop(measured);
        let text = shown(&metrics);
        for line in [
            "registry_http_in_flight_requests 0",
            "registry_http_requests_total{method=\"GET\",code=\"200\"} 1",
            "registry_http_request_duration_seconds_count{method=\"GET\"} 1",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line}: {text}");
        }
    }

    #[test]
    fn unknown_methods_are_one_label_and_a_client_that_left_has_a_status() {
        let metrics = HttpMetrics::default();
        for method in ["BREW", "PROPFIND", "get"] {
            drop(metrics.begin(&method.parse().unwrap()));
        }
        let text = shown(&metrics);
        assert!(text.contains("registry_http_requests_total{method=\"OTHER\",code=\"499\"} 3\n"), "{text}");
        assert!(!text.contains("BREW"));
    }
}
