//! What operators and their tools see of a node: probes, metrics, the drain, the service manager.

mod exposition;
mod followed;
mod load;
mod manager;

use std::{fs, net::TcpListener, time::Duration};

use libtest_mimic::Trial;
use regex::Regex;
use serde_json::Value;

use crate::{
    harness::{Layer, Serve, blocking, finish, noise, ocipfs, trials, until},
    http::{ask, get},
};
use exposition::Exposition;

pub fn trials() -> Vec<Trial> {
    let own = trials![
        probes_tell_the_stages_of_a_node_from_its_start_to_its_stop,
        metrics_are_valid_openmetrics_text_with_names_that_scripts_use,
        metrics_have_no_label_that_grows_with_repositories_or_requests,
        metrics_count_the_blocks_and_bytes_of_a_pull_from_a_peer,
        metrics_count_uploads_collections_and_repositories,
        the_grafana_dashboard_queries_only_metrics_that_exist,
        the_admin_address_is_off_by_default_and_an_address_in_use_is_an_error,
    ];
    own.into_iter().chain(followed::trials()).chain(load::trials()).chain(manager::trials()).collect()
}

/// A node with probes and metrics on a free port.
pub struct Watched {
    pub node: Serve,
    pub admin: String,
}

/// Returns the URL of probes and metrics, once a log names it.
fn admin_url(log: &str) -> Option<String> {
    let line = log.lines().find(|line| line.contains("serving probes and metrics"))?;
    let port = Regex::new(r":(\d+)\b").unwrap().captures_iter(line).last()?[1].to_owned();
    Some(format!("http://127.0.0.1:{port}"))
}

impl Watched {
    pub fn start(arguments: &[&str]) -> Self {
        let node = Serve::start(&[&["--admin-listen", "127.0.0.1:0"], arguments].concat());
        let admin = admin_url(&node.log()).unwrap_or_else(|| panic!("{}", node.log()));
        Self { node, admin }
    }

    pub async fn probe(&self, path: &str) -> u16 {
        get(&format!("{}{path}", self.admin)).await.status
    }

    pub async fn metrics(&self) -> Exposition {
        scrape(&self.admin).await
    }

    /// Waits until the metrics are as `holds` wants them: some are sampled every few seconds.
    pub async fn until(&self, what: &str, holds: impl Fn(&Exposition) -> bool) {
        for _ in 0..300 {
            if holds(&self.metrics().await) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("still waiting: {what}: {:#?}", self.metrics().await);
    }
}

async fn scrape(admin: &str) -> Exposition {
    let answer = get(&format!("{admin}/metrics")).await;
    assert_eq!(answer.status, 200);
    assert!(answer.header("content-type").starts_with("application/openmetrics-text; version=1.0.0"));
    let text = String::from_utf8(answer.body).unwrap();
    Exposition::parse(&text).unwrap_or_else(|why| panic!("{why}\n{text}"))
}

/// A node waits for a list of peers before it opens its directory, so a server that never answers keeps it starting.
async fn probes_tell_the_stages_of_a_node_from_its_start_to_its_stop() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let list = format!("http://{}/peers", silent.local_addr().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let (path, log) = (dir.path().to_owned(), dir.path().join("serve.log"));
    let starting = tokio::task::spawn_blocking(move || {
        let arguments = ["--admin-listen", "127.0.0.1:0", "--bootstrap-from", &list, "--drain-delay", "15s"];
        Serve::start_in(&path, &arguments)
    });
    let url = || admin_url(&fs::read_to_string(&log).unwrap_or_default());
    until("the node listens for probes", || url().is_some()).await;
    let admin = url().unwrap();
    for (path, status) in [("/livez", 200), ("/readyz", 503), ("/startupz", 503)] {
        let answer = get(&format!("{admin}{path}")).await;
        assert_eq!(answer.status, status, "{path}: {answer:?}");
    }
    assert_eq!(scrape(&admin).await.value("ocipfs_ready"), 0.0);
    drop(silent);
    let node = starting.await.unwrap();
    let watched = Watched { node, admin };
    for path in ["/livez", "/readyz", "/startupz"] {
        assert_eq!(watched.probe(path).await, 200, "{path}");
    }
    assert_eq!(watched.metrics().await.value("ocipfs_ready"), 1.0);
    assert_eq!(watched.probe("/other").await, 404);
    assert_eq!(ask("POST", &format!("{}/readyz", watched.admin), &[]).await.status, 405);
    watched.node.signal("TERM");
    until("the node is stopping", || watched.node.log().contains("stopping")).await;
    assert_eq!(watched.probe("/readyz").await, 503);
    assert_eq!((watched.probe("/livez").await, watched.probe("/startupz").await), (200, 200));
    let answer = get(&watched.node.url("/v2/")).await;
    assert_eq!(answer.status, 200, "new requests are served until the delay is over");
    assert_eq!(answer.header("connection"), "close");
    assert_eq!(watched.metrics().await.value("ocipfs_ready"), 0.0);
    assert!(watched.node.ended().success());
}

async fn metrics_are_valid_openmetrics_text_with_names_that_scripts_use() {
    let watched = Watched::start(&["--max-size", "1GB"]);
    get(&watched.node.url("/v2/")).await;
    get(&watched.node.url("/v2/nothing/tags/list")).await;
    let requests = |metrics: &Exposition, code| {
        metrics.sum("registry_http_requests_total", &[("method", "GET"), ("code", code)])
    };
    let is_counted = |metrics: &Exposition| {
        (requests(metrics, "200"), requests(metrics, "404")) == (1.0, 1.0)
            && metrics.get("registry_http_in_flight_requests") == Some(0.0)
            && metrics.get("ocipfs_store_bytes").is_some()
    };
    watched.until("a sample, and two requests", is_counted).await;
    let metrics = watched.metrics().await;
    let names = metrics.names();
    for name in [
        "registry_http_requests_total",
        "registry_http_request_duration_seconds_bucket",
        "registry_http_request_duration_seconds_sum",
        "registry_http_request_duration_seconds_count",
        "registry_http_in_flight_requests",
        "registry_http_sent_bytes_total",
        "ocipfs_build_info",
        "ocipfs_ready",
        "ocipfs_peers",
        "ocipfs_http_providers",
        "ocipfs_bitswap_sent_blocks_total",
        "ocipfs_bitswap_sent_bytes_total",
        "ocipfs_bitswap_received_blocks_total",
        "ocipfs_bitswap_received_bytes_total",
        "ocipfs_announced_roots",
        "ocipfs_announce_pending_roots",
        "ocipfs_announce_lag_seconds",
        "ocipfs_followed_names",
        "ocipfs_followed_lag_seconds",
        "ocipfs_repositories",
        "ocipfs_store_bytes",
        "ocipfs_store_index_bytes",
        "ocipfs_store_limit_bytes",
        "ocipfs_gc_runs_total",
        "ocipfs_gc_freed_bytes_total",
        "ocipfs_evictions_total",
        "ocipfs_evicted_bytes_total",
        "ocipfs_uploads",
        "ocipfs_uploads_bytes",
        "ocipfs_uploads_abandoned",
        "ocipfs_uploads_abandoned_bytes",
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "process_threads",
        "process_start_time_seconds",
        "process_open_fds",
        "process_max_fds",
    ] {
        assert!(names.contains(name), "{name} is not among {names:?}");
    }
    assert_eq!(metrics.value("ocipfs_store_limit_bytes"), 1e9);
    assert!(metrics.value("process_resident_memory_bytes") > 1e6);
    assert!(metrics.value("process_open_fds") > 3.0);
}

async fn metrics_have_no_label_that_grows_with_repositories_or_requests() {
    let watched = Watched::start(&[]);
    let series = |metrics: &Exposition| metrics.samples().filter(|s| s.name.starts_with("registry_")).count();
    let ask_all = async |n: usize| {
        get(&watched.node.url(&format!("/v2/team/app{n}/tags/list"))).await;
        ask(&format!("METHOD{n}"), &watched.node.url("/v2/"), &[]).await;
    };
    let all = |metrics: &Exposition| {
        let of = |method| metrics.sum("registry_http_requests_total", &[("method", method)]);
        (of("GET"), of("OTHER"))
    };
    ask_all(0).await;
    watched.until("the first requests are counted", |metrics| all(metrics) == (1.0, 1.0)).await;
    let first = series(&watched.metrics().await);
    for n in 1..30 {
        ask_all(n).await;
    }
    watched.until("all requests are counted", |metrics| all(metrics) == (30.0, 30.0)).await;
    let metrics = watched.metrics().await;
    assert_eq!(series(&metrics), first);
    let labels: Vec<_> = metrics.samples().flat_map(|sample| sample.labels.keys()).collect();
    assert!(
        labels.iter().all(|label| ["method", "code", "le", "version"].contains(&&***label)),
        "{labels:?}"
    );
}

async fn metrics_count_the_blocks_and_bytes_of_a_pull_from_a_peer() {
    let source = Watched::start(&[]);
    let layer = Layer::add(&source.node, &noise(3 << 20));
    // Alone, nothing can be announced, and that is not a lag.
    source
        .until("a root that waits", |metrics| metrics.get("ocipfs_announce_pending_roots") > Some(0.0))
        .await;
    let alone = source.metrics().await;
    assert_eq!((alone.value("ocipfs_announce_lag_seconds"), alone.value("ocipfs_peers")), (0.0, 0.0));
    let reader = Watched::start(&["--peer", source.node.address()]);
    reader.until("a peer", |metrics| metrics.get("ocipfs_peers") == Some(1.0)).await;
    assert_eq!(get(&reader.node.url(&layer.blob_path())).await.body, layer.bytes);
    let sent = |metrics: &Exposition| {
        metrics.get("ocipfs_bitswap_sent_bytes_total") >= Some(layer.bytes.len() as f64)
    };
    source.until("all bytes are counted", sent).await;
    let (sent, received) = (source.metrics().await, reader.metrics().await);
    for (metrics, direction) in [(&sent, "sent"), (&received, "received")] {
        assert!(metrics.value(&format!("ocipfs_bitswap_{direction}_blocks_total")) >= 3.0);
        assert!(
            metrics.value(&format!("ocipfs_bitswap_{direction}_bytes_total")) >= layer.bytes.len() as f64
        );
    }
    let body =
        |metrics: &Exposition| metrics.value("registry_http_sent_bytes_total") >= layer.bytes.len() as f64;
    reader.until("the body is counted", body).await;
    let status = reader.node.status();
    assert_eq!(
        Some(received.value("ocipfs_bitswap_received_bytes_total")),
        status["received_bytes"].as_f64()
    );
    source.until("the root is announced", |metrics| metrics.get("ocipfs_announced_roots") > Some(0.0)).await;
}

async fn metrics_count_uploads_collections_and_repositories() {
    let watched = Watched::start(&[]);
    let begun = ask("POST", &watched.node.url("/v2/app/blobs/uploads/"), &[]).await;
    assert_eq!(begun.status, 202, "{begun:?}");
    let uploads = |metrics: &Exposition| {
        let counted = metrics.get("ocipfs_uploads").zip(metrics.get("ocipfs_uploads_abandoned"));
        counted.is_some_and(|(active, abandoned)| active + abandoned == 1.0)
    };
    watched.until("an upload", uploads).await;
    let layer = Layer::add(&watched.node, &noise(1 << 20));
    watched
        .until("stored bytes", |metrics| metrics.get("ocipfs_store_bytes") >= Some((1 << 20) as f64))
        .await;
    watched.node.ask(&["layer", "rm", layer.cid()]);
    watched.node.ask(&["store", "gc"]);
    let metrics = watched.metrics().await;
    assert!(metrics.value("ocipfs_gc_runs_total") >= 1.0);
    assert!(metrics.value("ocipfs_gc_freed_bytes_total") >= (1 << 20) as f64, "{metrics:#?}");
    assert_eq!(metrics.value("ocipfs_evictions_total"), 0.0);
}

/// Returns the queries of a dashboard.
fn queries(dashboard: &Value) -> Vec<String> {
    match dashboard {
        Value::Object(members) => {
            let own = members.iter().filter(|(name, _)| *name == "expr" || *name == "query");
            let own = own.filter_map(|(_, query)| query.as_str().map(str::to_owned));
            own.chain(members.values().flat_map(queries)).collect()
        }
        Value::Array(items) => items.iter().flat_map(queries).collect(),
        _ => Vec::new(),
    }
}

async fn the_grafana_dashboard_queries_only_metrics_that_exist() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/grafana.json");
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let watched = Watched::start(&["--max-size", "1GB", "--cache-size", "1GB"]);
    get(&watched.node.url("/v2/")).await;
    watched.until("a sample", |metrics| metrics.get("ocipfs_store_bytes").is_some()).await;
    let names = watched.metrics().await.names();
    let named = Regex::new(r"\b(?:registry|ocipfs|process)_[a-z0-9_]+").unwrap();
    let mut queries = queries(&dashboard);
    // The kind of a data source.
    queries.retain(|query| query != "prometheus");
    assert!(queries.len() >= 20, "{queries:?}");
    for query in &queries {
        let used: Vec<_> = named.find_iter(query).map(|found| found.as_str()).collect();
        assert!(!used.is_empty() || query.starts_with("label_values"), "{query}");
        assert!(used.iter().all(|name| names.contains(*name)), "{query}: {used:?} are not all in {names:?}");
    }
    // What the page of the documentation names exists, too.
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/how-to/observe.md")).unwrap();
    let quoted = Regex::new(r"`((?:registry_http|ocipfs|process)_[a-z0-9_]+)").unwrap();
    for name in quoted.captures_iter(&page).map(|found| found[1].to_owned()) {
        let is_known = |known: &String| {
            *known == name
                || *known == format!("{name}_count")
                || name.ends_with('_') && known.starts_with(&name)
        };
        assert!(names.iter().any(is_known), "observe.md names {name}");
    }
}

async fn the_admin_address_is_off_by_default_and_an_address_in_use_is_an_error() {
    let node = Serve::start(&[]);
    assert!(!node.log().contains("probes and metrics"));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = blocking(move || {
        let dir = tempfile::tempdir().unwrap();
        let serve = ["serve", "--listen", "127.0.0.1:0", "--swarm-listen", "/ip4/127.0.0.1/tcp/0"];
        finish(ocipfs(dir.path()).args(serve).args(["--admin-listen", &address]))
    });
    said.await.failed(1, &["for probes and metrics", "--admin-listen"]);
    let open = Serve::start(&["--admin-listen", "0.0.0.0:0"]);
    assert!(open.log().contains("have no login"), "{}", open.log());
}
