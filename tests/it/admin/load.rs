//! Fifty clients that pull while a node drains, or reads its files again: no pull fails.

use std::{
    fs,
    io::Read,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use futures::future::join_all;
use libtest_mimic::Trial;
use reqwest::Client;

use super::{Watched, admin_url};
use crate::{
    harness::{Layer, Serve, blocking, noise, trials, until, within},
    http::begin,
};

const CLIENTS: usize = 50;
const LAYER_BYTES: usize = 1 << 20;
/// How often a load balancer asks whether clients may be sent to the node.
const PROBE_INTERVAL: Duration = Duration::from_millis(200);
/// The time by which a node is gone by default.
const STOP_TIME: Duration = Duration::from_secs(5);

pub fn trials() -> Vec<Trial> {
    trials![
        no_pull_of_50_clients_fails_while_a_node_drains,
        no_pull_of_50_clients_fails_while_the_users_are_reloaded,
        a_transfer_that_stalls_does_not_hold_up_the_drain_and_new_connections_are_refused,
        a_pull_that_ends_while_readyz_fails_is_whole,
        by_default_a_stalled_pull_is_broken_off_and_the_node_is_gone_within_five_seconds,
    ]
}

/// What clients do together.
#[derive(Default)]
struct Crowd {
    /// Whether a load balancer sends them to the node.
    closed: AtomicBool,
    pulls: AtomicUsize,
}

/// Pulls until the crowd is closed. Returns why pulls failed.
async fn pull_all(crowd: Arc<Crowd>, url: String, bytes: Arc<Vec<u8>>, login: Option<&str>) -> Vec<String> {
    let (client, mut failures) = (Client::new(), Vec::new());
    while !crowd.closed.load(Ordering::Relaxed) {
        let request = client.get(&url);
        let request =
            if let Some(password) = login { request.basic_auth("me", Some(password)) } else { request };
        let pulled = async {
            let response = request.send().await?.error_for_status()?;
            response.bytes().await
        };
        match pulled.await {
            Ok(pulled) if pulled[..] == bytes[..] => drop(crowd.pulls.fetch_add(1, Ordering::Relaxed)),
            Ok(pulled) => failures.push(format!("{} bytes", pulled.len())),
            Err(error) => failures.push(format!("{error:?}")),
        }
    }
    failures
}

async fn no_pull_of_50_clients_fails_while_a_node_drains() {
    let watched = Watched::start(&["--drain-delay", "10s"]);
    let layer = Layer::add(&watched.node, &noise(LAYER_BYTES));
    let (crowd, bytes) = (Arc::new(Crowd::default()), Arc::new(layer.bytes.clone()));
    let url = watched.node.url(&layer.blob_path());
    let clients =
        (0..CLIENTS).map(|_| tokio::spawn(pull_all(crowd.clone(), url.clone(), bytes.clone(), None)));
    let clients: Vec<_> = clients.collect();
    until("all clients pull", || crowd.pulls.load(Ordering::Relaxed) >= 2 * CLIENTS).await;
    watched.node.signal("TERM");
    while watched.probe("/readyz").await == 200 {
        tokio::time::sleep(PROBE_INTERVAL).await;
    }
    crowd.closed.store(true, Ordering::Relaxed);
    let failures = join_all(clients).await.into_iter().flat_map(Result::unwrap).collect::<Vec<_>>();
    assert!(failures.is_empty(), "{failures:?}");
    assert!(!watched.node.log().contains("broken off"));
    assert!(watched.node.ended().success());
}

fn user(name: &str) -> String {
    format!("{name}:{}\n", bcrypt::hash("secret", 4).unwrap())
}

/// Writes a file at once: one that is half written has other users for a moment.
fn replace(path: &Path, text: &str) {
    let next = path.with_extension("next");
    fs::write(&next, text).unwrap();
    fs::rename(next, path).unwrap();
}

async fn no_pull_of_50_clients_fails_while_the_users_are_reloaded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("users");
    // The hash stays as it is, so that a login is computed once.
    let mine = user("me");
    replace(&path, &mine);
    let watched = Watched::start(&["--htpasswd", path.to_str().unwrap(), "--pull", "users"]);
    let layer = Layer::add(&watched.node, &noise(LAYER_BYTES));
    let (crowd, bytes) = (Arc::new(Crowd::default()), Arc::new(layer.bytes.clone()));
    let url = watched.node.url(&layer.blob_path());
    // Alone: more logins than the queue of bcrypt holds would be refused as too many.
    let first = Client::new().get(&url).basic_auth("me", Some("secret")).send().await.unwrap();
    assert_eq!(first.status(), 200);
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(tokio::spawn(pull_all(crowd.clone(), url.clone(), bytes.clone(), Some("secret"))));
    }
    for n in 0..10 {
        let before = crowd.pulls.load(Ordering::Relaxed);
        replace(&path, &format!("{mine}{}", user(&format!("other{n}"))));
        watched.node.signal("HUP");
        until("clients pull on", || crowd.pulls.load(Ordering::Relaxed) > before + CLIENTS).await;
    }
    crowd.closed.store(true, Ordering::Relaxed);
    let failures = join_all(clients).await.into_iter().flat_map(Result::unwrap).collect::<Vec<_>>();
    assert!(failures.is_empty(), "{failures:?}");
    // The newest users are known, and those of before are not.
    let status_of = async |user: &str| {
        Client::new().get(&url).basic_auth(user, Some("secret")).send().await.unwrap().status().as_u16()
    };
    let newest = async {
        while status_of("other9").await != 200 {
            tokio::time::sleep(PROBE_INTERVAL).await;
        }
    };
    within(Duration::from_secs(60), newest).await;
    assert_eq!(status_of("other8").await, 401);
    assert_eq!(watched.probe("/readyz").await, 200);
}

async fn a_transfer_that_stalls_does_not_hold_up_the_drain_and_new_connections_are_refused() {
    let watched = Watched::start(&["--drain-delay", "500ms"]);
    // More than the sockets between a registry and a client that does not read can hold.
    let layer = Layer::add(&watched.node, &noise(48 << 20));
    let _stalled = begin(watched.node.registry(), &layer.blob_path());
    let (url, address) = (watched.node.url("/v2/"), watched.node.registry().to_owned());
    watched.node.signal("TERM");
    let probe = format!("{}/readyz", watched.admin);
    let probing = tokio::spawn(async move {
        let mut last = None;
        while let Ok(answer) = reqwest::get(&probe).await {
            last = Some(answer.status().as_u16());
        }
        last
    });
    until("the listener is closed", || std::net::TcpStream::connect(&address).is_err()).await;
    assert!(reqwest::get(&url).await.is_err());
    let ended = within(Duration::from_secs(15), blocking(move || watched.node.ended()));
    assert!(ended.await.success());
    assert_eq!(probing.await.unwrap(), Some(503), "probes answer to the end");
}

/// When the log says a text first.
fn logged_at(log: &str, text: &str) -> SystemTime {
    let line = log.lines().find(|line| line.contains(text)).unwrap_or_else(|| panic!("{text}: {log}"));
    let time = line.split_whitespace().next().expect("a time");
    humantime::parse_rfc3339(time).unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// Holds that a node that is told to stop by default ended in time, by the times of its own log. The 5 s are those of an idle
/// machine: what a busy one adds is allowed three times over.
fn stopped_in_time(log: &str) {
    let (begun, ended) = (logged_at(log, "stopping; "), logged_at(log, "stopped"));
    let took = ended.duration_since(begun).expect("it stops before it has stopped");
    assert!(took < STOP_TIME + 3 * STOP_TIME, "{took:?}: {log}");
}

/// A node in a directory that stays after it has ended, and a layer that does not fit into the sockets.
fn with_a_long_layer(dir: &Path, arguments: &[&str]) -> (Watched, Layer) {
    let node = Serve::start_in(dir, &[&["--admin-listen", "127.0.0.1:0"], arguments].concat());
    let admin = admin_url(&node.log()).expect("an address");
    let layer = Layer::add(&node, &noise(48 << 20));
    (Watched { node, admin }, layer)
}

async fn a_pull_that_ends_while_readyz_fails_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (watched, layer) = with_a_long_layer(dir.path(), &["--drain-delay", "15s"]);
    let mut pull = begin(watched.node.registry(), &layer.blob_path());
    assert_eq!(watched.probe("/readyz").await, 200);
    watched.node.signal("TERM");
    until("the node is stopping", || watched.node.log().contains("stopping; ")).await;
    assert_eq!(watched.probe("/readyz").await, 503, "it fails first, while the pull goes on");
    let mut rest = Vec::new();
    pull.read_to_end(&mut rest).expect("the rest");
    assert!(rest.ends_with(&layer.bytes), "{} bytes came", rest.len());
    assert!(blocking(move || watched.node.ended()).await.success());
    let log = fs::read_to_string(dir.path().join("serve.log")).unwrap();
    assert!(!log.contains("broken off"), "{log}");
}

async fn by_default_a_stalled_pull_is_broken_off_and_the_node_is_gone_within_five_seconds() {
    let dir = tempfile::tempdir().unwrap();
    let (watched, layer) = with_a_long_layer(dir.path(), &[]);
    let _stalled = begin(watched.node.registry(), &layer.blob_path());
    watched.node.signal("TERM");
    until("the node is stopping", || watched.node.log().contains("stopping; ")).await;
    assert_eq!(watched.probe("/readyz").await, 503);
    assert!(blocking(move || watched.node.ended()).await.success());
    let log = fs::read_to_string(dir.path().join("serve.log")).unwrap();
    let broken_off = logged_at(&log, "broken off");
    assert!(logged_at(&log, "stopping; ") < broken_off && broken_off <= logged_at(&log, "stopped"), "{log}");
    stopped_in_time(&log);
}
