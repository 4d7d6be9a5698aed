//! Certificates from pebble, the ACME server of Let's Encrypt for tests.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use libtest_mimic::Trial;
use serde_json::json;
use x509_parser::certificate::Validity;

use super::trusting;
use crate::{
    authority::Authority,
    clients::PEBBLE,
    dns::Dns,
    harness::{Serve, blocking, trials, until, within},
    ports::free_port,
};

pub fn trials() -> Vec<Trial> {
    trials![needs PEBBLE.available();
        certificates_come_from_an_acme_server_and_are_kept,
        a_certificate_is_renewed_before_its_end_without_a_failed_request,
    ]
}

/// Validity of certificates, in seconds. Two thirds of it are over when the next one is ordered.
const THREE_MONTHS: u32 = 7_776_000;
const SHORT: u32 = 90;
/// A third of a short validity is left to renew it; the rest is for a busy machine.
const RENEWED_WITHIN: Duration = Duration::from_secs(120);
/// Clients that ask all the time, each second one over a new connection for each request.
const CLIENTS: usize = 4;
/// What leaves the node and the ACME server time to work.
const BETWEEN_REQUESTS: Duration = Duration::from_millis(10);

/// Runs until it is dropped.
struct Pebble {
    child: Child,
    port: u16,
}

impl Pebble {
    /// Starts one that connects to `registry` to see who answers for a name; `dns` knows the names. Certificates are valid for so
    /// many seconds.
    fn start(dir: &Path, authority: &Authority, registry: u16, dns: &Dns, validity: u32) -> Self {
        let (port, own) = (free_port(), authority.server("pebble", &["127.0.0.1"]));
        let settings = json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{port}"), "managementListenAddress": "",
            "certificate": own.certificate(), "privateKey": own.key(), "httpPort": free_port(), "tlsPort": registry,
            "externalAccountBindingRequired": false, "keyAlgorithm": "ecdsa", "retryAfter": { "authz": 1, "order": 1 },
            "profiles": { "default": { "description": "the only one", "validityPeriod": validity } },
        }});
        let path = dir.join("pebble.json");
        fs::write(&path, settings.to_string()).unwrap();
        let log = fs::File::create(dir.join("pebble.log")).unwrap();
        let child = Command::new(PEBBLE.program())
            .arg("-config")
            .arg(path)
            .args(["-dnsserver", &dns.address()])
            .env("PEBBLE_VA_NOSLEEP", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("pebble");
        Self { child, port }
    }

    fn directory(&self) -> String {
        format!("https://127.0.0.1:{}/dir", self.port)
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Issuers of the certificates that a node shows for a name; none where it shows none.
async fn issued(node_port: u16, host: &str) -> Option<Vec<u8>> {
    let address = ([127, 0, 0, 1], node_port).into();
    let client = reqwest::Client::builder().tls_danger_accept_invalid_certs(true);
    let client = client.resolve(host, address).tls_info(true).build().unwrap();
    let answer = client.get(format!("https://{host}:{node_port}/v2/")).send().await.ok()?;
    let info = answer.extensions().get::<reqwest::tls::TlsInfo>()?;
    info.peer_certificate().map(<[u8]>::to_vec)
}

async fn certificates_come_from_an_acme_server_and_are_kept() {
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    let (dns, port) = (Dns::start().await, free_port());
    let names = ["one.localhost", "two.localhost"];
    names.iter().for_each(|name| dns.set(name, 0, &[]));
    let pebble = Pebble::start(dir.path(), &authority, port, &dns, THREE_MONTHS);
    let (listen, directory, ca) = (format!("127.0.0.1:{port}"), pebble.directory(), authority.path());
    let arguments = [
        "--listen",
        &listen,
        "--acme",
        names[0],
        "--acme",
        names[1],
        "--acme-directory",
        &directory,
        "--acme-ca",
        ca.to_str().unwrap(),
        "--acme-contact",
        "mailto:me@team.example",
    ];
    let data = tempfile::tempdir().unwrap();
    let node = Serve::start_in(data.path(), &arguments);
    assert_eq!(node.registry(), format!("one.localhost:{port}"));
    let got =
        |name: &str| node.log().lines().any(|line| line.contains("got a certificate") && line.contains(name));
    until("both certificates are issued", || names.iter().all(|name| got(name))).await;
    let first = issued(port, names[0]).await.expect("a certificate");
    let second = issued(port, names[1]).await.expect("a certificate");
    assert!(first != second, "each name has its own");
    let mode =
        |name: &str| fs::metadata(data.path().join("acme").join(name)).unwrap().permissions().mode() & 0o777;
    for file in ["account.json", "one.localhost.pem", "two.localhost.pem"] {
        assert_eq!(mode(file), 0o600, "{file}");
    }
    // The next start needs no server.
    drop(pebble);
    blocking(move || node.stop()).await;
    let again = Serve::start_in(data.path(), &arguments);
    assert!(issued(port, names[0]).await == Some(first));
    assert!(
        !again.log().lines().rev().take(3).any(|line| line.contains("no certificate")),
        "{}",
        again.log()
    );
    // Its authority is not the one of the server itself.
    let client = trusting(&authority).resolve(names[0], ([127, 0, 0, 1], port).into()).build().unwrap();
    assert!(client.get(format!("https://{}:{port}/v2/", names[0])).send().await.is_err());
}

fn valid(certificate: &[u8]) -> Validity {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).expect("a certificate");
    parsed.validity().clone()
}

/// Asks until `stop`; returns the number of answers, and why others were none.
async fn ask_all(url: String, client: reqwest::Client, stop: Arc<AtomicBool>) -> (usize, Vec<String>) {
    let (mut answers, mut failures) = (0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        match client.get(&url).send().await {
            Ok(answer) if answer.status() == 200 => answers += 1,
            other => failures.push(format!("{other:?}")),
        }
        tokio::time::sleep(BETWEEN_REQUESTS).await;
    }
    (answers, failures)
}

async fn a_certificate_is_renewed_before_its_end_without_a_failed_request() {
    let (authority, dir, host) = (Authority::new(), tempfile::tempdir().unwrap(), "short.localhost");
    let (dns, port) = (Dns::start().await, free_port());
    dns.set(host, 0, &[]);
    let pebble = Pebble::start(dir.path(), &authority, port, &dns, SHORT);
    let (listen, directory, ca) = (format!("127.0.0.1:{port}"), pebble.directory(), authority.path());
    let server = ["--acme-directory", &directory, "--acme-ca", ca.to_str().unwrap()];
    let node = Serve::start(&[&["--listen", &listen, "--acme", host], &server[..]].concat());
    let issues = || node.log().lines().filter(|line| line.contains("got a certificate")).count();
    until("a certificate is issued", || issues() == 1).await;
    let first = issued(port, host).await.expect("a certificate");
    let kept = fs::read(node.data_dir().join("acme/short.localhost.pem")).unwrap();
    let (stop, url) = (Arc::new(AtomicBool::new(false)), format!("https://{host}:{port}/v2/"));
    let clients = (0..CLIENTS).map(|number| {
        let client = reqwest::Client::builder()
            .tls_danger_accept_invalid_certs(true)
            .resolve(host, ([127, 0, 0, 1], port).into())
            .pool_max_idle_per_host(number % 2)
            .build()
            .unwrap();
        tokio::spawn(ask_all(url.clone(), client, stop.clone()))
    });
    let clients: Vec<_> = clients.collect();
    let renewed = async {
        while issues() < 2 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within(RENEWED_WITHIN, renewed).await;
    let second = issued(port, host).await.expect("a certificate");
    assert!(second != first, "the next one is shown");
    assert!(fs::read(node.data_dir().join("acme/short.localhost.pem")).unwrap() != kept, "it is kept");
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        let (answers, failures) = client.await.unwrap();
        assert!(answers > 0 && failures.is_empty(), "{answers} answers, {failures:?}");
    }
    let [end, begin] = [valid(&first).not_after, valid(&second).not_before];
    assert!(
        begin.timestamp() < end.timestamp(),
        "the first was valid until {end}, and the second is from {begin}"
    );
}
