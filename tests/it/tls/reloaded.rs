//! Certificates that change while clients connect.

use std::{
    collections::HashSet,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use libtest_mimic::Trial;
use reqwest::tls::TlsInfo;

use super::{der, known, secured, seen, trusting, url};
use crate::{
    authority::Authority,
    harness::{trial_within, trials, until},
};

pub fn trials() -> Vec<Trial> {
    let mut all = trials![
        a_replaced_certificate_is_served_within_seconds_without_a_signal,
        a_removed_client_authority_ends_its_users_at_sighup,
        a_removed_client_authority_ends_open_http2_connections,
        an_expired_certificate_is_a_warning_at_the_start_and_a_broken_pair_holds_up_no_other,
    ];
    all.push(trial_within(
        "tls::reloaded::certificates_change_under_load_and_no_request_fails",
        Duration::from_secs(600),
        certificates_change_under_load_and_no_request_fails,
    ));
    all
}

/// Requests under load: 10,000 where `OCIPFS_TEST_FULL_SIZE=1`, else a tenth.
fn requests() -> usize {
    if std::env::var_os("OCIPFS_TEST_FULL_SIZE").is_some_and(|value| value == "1") { 10_000 } else { 1_000 }
}

/// Clients at one time.
const CLIENTS: usize = 8;
/// Requests over one connection, before there is a new one.
const PER_CONNECTION: usize = 4;

async fn a_replaced_certificate_is_served_within_seconds_without_a_signal() {
    let authority = Authority::new();
    let [old, new] = ["old", "new"].map(|name| authority.server(name, &["127.0.0.1"]));
    let served = authority.server("served", &["127.0.0.1"]);
    served.replace_by(&old);
    let node = secured(&served, &[]);
    assert!(seen(&authority, &node, "127.0.0.1").await == der(&old));
    served.replace_by(&new);
    let begin = std::time::Instant::now();
    while seen(&authority, &node, "127.0.0.1").await != der(&new) {
        assert!(begin.elapsed() < Duration::from_secs(60), "{}", node.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(node.log().contains("reloaded the certificates"));
    // A key that does not belong to it changes nothing.
    fs::copy(&old.key, &served.key).unwrap();
    node.signal("HUP");
    until("the reload fails", || node.log().contains("cannot reload the certificates")).await;
    assert!(seen(&authority, &node, "127.0.0.1").await == der(&new));
}

async fn a_removed_client_authority_ends_its_users_at_sighup() {
    let (authority, other) = (Authority::new(), Authority::new());
    let ca = authority.path().with_file_name("clients.pem");
    fs::write(&ca, authority.pem()).unwrap();
    let node = secured(&authority.server("node", &["127.0.0.1"]), &["--client-ca", ca.to_str().unwrap()]);
    let me = authority.client("me", "me");
    assert_eq!(known(&authority, &me).get(url(&node, "/v2/")).send().await.unwrap().status(), 200);
    fs::write(&ca, other.pem()).unwrap();
    node.signal("HUP");
    until("the authorities are read", || node.log().contains("reloaded the authorities of clients")).await;
    assert!(known(&authority, &me).get(url(&node, "/v2/")).send().await.is_err());
    let you = other.client("you", "you");
    assert_eq!(known(&authority, &you).get(url(&node, "/v2/")).send().await.unwrap().status(), 200);
}

/// The connection is open: its client gets a 401, or has to connect again, which is refused.
async fn a_removed_client_authority_ends_open_http2_connections() {
    let (authority, other) = (Authority::new(), Authority::new());
    let ca = authority.path().with_file_name("clients.pem");
    fs::write(&ca, authority.pem()).unwrap();
    let client_ca = ["--client-ca", ca.to_str().unwrap(), "--client-cert", "required"];
    let node = secured(&authority.server("node", &["127.0.0.1"]), &client_ca);
    let client = known(&authority, &authority.client("me", "me"));
    let answer = client.get(url(&node, "/v2/")).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, reqwest::Version::HTTP_2));
    answer.bytes().await.unwrap();
    fs::write(&ca, other.pem()).unwrap();
    node.signal("HUP");
    until("the authorities are read", || node.log().contains("reloaded the authorities of clients")).await;
    let refused = client.get(url(&node, "/v2/")).send().await;
    assert!(refused.is_err() || refused.is_ok_and(|answer| answer.status() == 401));
    assert!(
        client.get(url(&node, "/v2/")).send().await.is_err(),
        "the connection is closed, and no other one made"
    );
    // Without a signal, too.
    fs::write(&ca, authority.pem()).unwrap();
    let client = known(&authority, &authority.client("you", "you"));
    let is_let_in =
        async || client.get(url(&node, "/v2/")).send().await.is_ok_and(|answer| answer.status() == 200);
    while !is_let_in().await {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    fs::write(&ca, other.pem()).unwrap();
    while is_let_in().await {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn an_expired_certificate_is_a_warning_at_the_start_and_a_broken_pair_holds_up_no_other() {
    let authority = Authority::new();
    let (good, expired) = (authority.server("good", &["127.0.0.1"]), authority.expired("expired"));
    let (broken, other) =
        (authority.server("broken", &["localhost"]), authority.server("other", &["localhost"]));
    fs::copy(&other.key, &broken.key).unwrap();
    let more = ["--tls-cert", expired.certificate(), "--tls-key", expired.key()];
    let more = [&more[..], &["--tls-cert", broken.certificate(), "--tls-key", broken.key()]].concat();
    let node = secured(&good, &more);
    for told in
        ["expired on 2001-01-01", expired.certificate(), "not served until it can be used", broken.key()]
    {
        assert!(node.log().contains(told), "{told}: {}", node.log());
    }
    assert!(seen(&authority, &node, "127.0.0.1").await == der(&good));
    broken.replace_by(&other);
    node.signal("HUP");
    until("the pair is read again", || node.log().contains("reloaded the certificates")).await;
    assert!(seen(&authority, &node, "localhost").await == der(&other));
    let alone = secured(&expired, &[]);
    assert!(alone.log().contains("expired on 2001-01-01"), "it starts: {}", alone.log());
}

async fn certificates_change_under_load_and_no_request_fails() {
    let authority = Authority::new();
    let pairs = ["one", "two"].map(|name| authority.server(name, &["127.0.0.1"]));
    let served = authority.server("served", &["127.0.0.1"]);
    served.replace_by(&pairs[0]);
    let node = Arc::new(secured(&served, &[]));
    let authority = Arc::new(authority);
    let (left, is_done) = (Arc::new(AtomicUsize::new(requests())), Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| tokio::spawn(ask_until_done(authority.clone(), url(&node, "/v2/"), left.clone())))
        .collect();
    let (changing, done) = (node.clone(), is_done.clone());
    let changes = tokio::spawn(async move {
        let mut changes = 0;
        while !done.load(Ordering::SeqCst) {
            changes += 1;
            served.replace_by(&pairs[changes % 2]);
            changing.signal("HUP");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        changes
    });
    let mut certificates = HashSet::new();
    for client in clients {
        certificates.extend(client.await.expect("no request fails"));
    }
    is_done.store(true, Ordering::SeqCst);
    let changes = changes.await.unwrap();
    assert_eq!(certificates.len(), 2, "both certificates were served in {changes} changes");
}

/// Sends requests until none is left; returns the certificates that it saw.
async fn ask_until_done(authority: Arc<Authority>, url: String, left: Arc<AtomicUsize>) -> HashSet<Vec<u8>> {
    let mut seen = HashSet::new();
    loop {
        let client = trusting(&authority).tls_info(true).build().unwrap();
        for _ in 0..PER_CONNECTION {
            if left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_err() {
                return seen;
            }
            let answer = client.get(&url).send().await.expect("an answer");
            assert_eq!(answer.status(), 200);
            let certificate = answer.extensions().get::<TlsInfo>().and_then(TlsInfo::peer_certificate);
            seen.insert(certificate.expect("a certificate").to_vec());
            assert!(answer.bytes().await.expect("a whole answer").len() >= 2);
        }
    }
}
