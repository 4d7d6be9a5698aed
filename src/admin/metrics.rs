//! The metrics of the process as text, in the format of OpenMetrics 1.0, which Prometheus reads.

use std::{fmt, sync::Arc};

use prometheus_client::{encoding::text::encode, metrics::info::Info, registry::Registry};

use super::{health::Health, live::Live, observed::Observed, sample::Sample};
use crate::{control::Instance, http::metrics::HttpMetrics};

/// All metrics. Clones share them.
#[derive(Clone)]
pub struct Metrics {
    http: HttpMetrics,
    observed: Arc<Observed>,
    registry: Arc<Registry>,
}

impl Metrics {
    pub fn new(health: Health) -> Self {
        let (http, observed) = (HttpMetrics::default(), Arc::new(Observed::new(health)));
        let mut registry = Registry::default();
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("ocipfs_build", "The running program", build);
        http.register(&mut registry);
        registry.register_collector(Box::new(Live(observed.clone())));
        Self { http, observed, registry: Arc::new(registry) }
    }

    pub fn http(&self) -> &HttpMetrics {
        &self.http
    }

    /// Shows the metrics of an instance from now on. It is set once.
    pub fn observe(&self, instance: Instance) {
        self.observed.set_instance(instance);
    }

    /// Takes what is too slow for a scrape.
    pub async fn take_sample(&self) {
        let Some(instance) = self.observed.instance() else { return };
        match Sample::take(instance).await {
            Ok(sample) => self.observed.set_sample(sample),
            Err(error) => tracing::debug!("cannot take a sample for the metrics: {error}"),
        }
    }

    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_is_starting_shows_its_version_and_its_process() {
        let text = Metrics::new(Health::default()).encode().unwrap();
        let version = format!("ocipfs_build_info{{version=\"{}\"}} 1\n", env!("CARGO_PKG_VERSION"));
        assert!(text.contains(&version) && text.contains("\nocipfs_ready 0\n"), "{text}");
        assert!(text.ends_with("# EOF\n"));
        assert!(!text.contains("ocipfs_peers"), "it is not known yet");
    }
}
