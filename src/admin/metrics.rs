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
    use std::time::{Duration, Instant};

    use super::*;
    use crate::control::Options;

    /// Run it with `cargo test --release -p ocipfs --lib scrape_of -- --ignored --nocapture`. A scrape should take 5 ms at most.
    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "prints a time, which says nothing on a busy machine"]
    async fn scrape_of_a_node_with_a_hundred_thousand_repositories() {
        let dir = tempfile::tempdir().unwrap();
        let instance = Instance::open(Options::alone(dir.path().join("node")));
        let instance = instance.await.unwrap();
        let repositories = instance.resolver().repositories().clone();
        for count in [1, 100_000] {
            repositories.fill(count).unwrap();
            let metrics = Metrics::new(Health::default());
            metrics.observe(instance.clone());
            let begun = Instant::now();
            metrics.take_sample().await;
            let sampled = begun.elapsed();
            let scrapes: Vec<Duration> = (0..100)
                .map(|_| {
                    let begun = Instant::now();
                    metrics.encode().unwrap();
                    begun.elapsed()
                })
                .collect();
            let slowest = scrapes.iter().max().unwrap();
            let mean = scrapes.iter().sum::<Duration>() / 100;
            println!(
                "{count} repositories: sample {sampled:?}, scrape {mean:?} on average, {slowest:?} at most"
            );
            let text = metrics.encode().unwrap();
            assert!(text.contains(&format!("\nocipfs_repositories {count}\n")), "{text}");
        }
    }

    #[test]
    fn a_node_that_is_starting_shows_its_version_and_its_process() {
        let text = Metrics::new(Health::default()).encode().unwrap();
        let version = format!("ocipfs_build_info{{version=\"{}\"}} 1\n", env!("CARGO_PKG_VERSION"));
        assert!(text.contains(&version) && text.contains("\nocipfs_ready 0\n"), "{text}");
        assert!(text.ends_with("# EOF\n"));
        assert!(!text.contains("ocipfs_peers"), "it is not known yet");
    }
}
