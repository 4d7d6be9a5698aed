//! Lists of peers at a URL, and the records of a domain.

use libtest_mimic::Trial;

use super::{PATIENCE, pulls};
use crate::{
    dns::Dns,
    harness::{Layer, Serve, noise, trials},
    ports::free_port,
    web::Web,
};

pub fn trials() -> Vec<Trial> {
    trials![
        a_list_of_bootstrap_peers_at_a_url_is_fetched_once_at_the_start,
        the_bootstrap_peers_of_an_autoconf_document_at_a_url_are_dialled,
        a_list_of_bootstrap_peers_that_cannot_be_fetched_is_passed_over,
        a_domain_whose_dnsaddr_records_name_peers_is_a_bootstrap_peer,
    ]
}

/// Starts a node that knows its network by these lists only, and pulls what the network's one peer has.
async fn finds_network(lists: &[&str], provider: &Serve) -> Serve {
    let layer = Layer::add(provider, &noise(100_000));
    let node = Serve::start(&[&["--bootstrap", "none", "--bootstrap-from"], lists].concat());
    node.until("the listed peer is connected", |status| status["peers"] == 1).await;
    assert_eq!(node.status()["remembered_peers"], 1);
    pulls(&node, &layer, PATIENCE).await;
    node
}

async fn a_list_of_bootstrap_peers_at_a_url_is_fetched_once_at_the_start() {
    let provider = Serve::start(&[]);
    let list = format!("# my peers\n\n  {}  \n", provider.address());
    let web = Web::start(move |path| (path == "/peers.txt").then(|| list.clone())).await;
    let node = finds_network(&[&web.url("/peers.txt")], &provider).await;
    assert_eq!(web.asked(), ["/peers.txt"]);
    let shown = node.command(&["status"]).stdout;
    assert!(shown.contains("0 of 0 bootstrap peers unreachable, started with 1 remembered peers"), "{shown}");
}

/// The document has the shape of the one that Kubo fetches.
async fn the_bootstrap_peers_of_an_autoconf_document_at_a_url_are_dialled() {
    let provider = Serve::start(&[]);
    let systems = serde_json::json!({
        "AminoDHT": {
            "URL": "https://one.example",
            "Description": "the public DHT",
            "NativeConfig": { "Bootstrap": [provider.address()] },
            "DelegatedConfig": { "Read": ["/routing/v1/providers", "/routing/v1/peers"], "Write": [] },
        },
        "IPNI": {
            "URL": "https://two.example",
            "DelegatedConfig": { "Read": ["/routing/v1/providers"], "Write": [] },
        },
    });
    let document = serde_json::json!({
        "AutoConfVersion": 2025072901,
        "AutoConfSchema": 1,
        "AutoConfTTL": 86400,
        "SystemRegistry": systems,
        "DNSResolvers": { "eth.": ["https://dns.example/dns-query"] },
        "DelegatedEndpoints": {
            "https://two.example": { "Systems": ["IPNI"], "Read": ["/routing/v1/providers"], "Write": [] },
        },
    });
    let document = document.to_string();
    let web = Web::start(move |path| (path == "/autoconf.json").then(|| document.clone())).await;
    finds_network(&[&web.url("/autoconf.json")], &provider).await;
    assert_eq!(web.asked(), ["/autoconf.json"]);
}

async fn a_list_of_bootstrap_peers_that_cannot_be_fetched_is_passed_over() {
    let provider = Serve::start(&[]);
    let list = provider.address().to_owned();
    let web = Web::start(move |path| match path {
        "/peers.txt" => Some(list.clone()),
        "/odd.txt" => Some("nonsense\n".into()),
        _ => None,
    });
    let web = web.await;
    let down = format!("http://127.0.0.1:{}/peers.txt", free_port());
    let (missing, odd, good) = (web.url("/missing"), web.url("/odd.txt"), web.url("/peers.txt"));
    let node = finds_network(&[&down, &missing, &odd, &good], &provider).await;
    let log = node.log();
    for url in [&down, &missing, &odd] {
        let told = |line: &str| line.contains("cannot fetch a list of peers") && line.contains(url.as_str());
        assert!(log.lines().any(told), "{url}: {log}");
    }
}

/// A record leads to another domain, and that one to a host by its name.
async fn a_domain_whose_dnsaddr_records_name_peers_is_a_bootstrap_peer() {
    let dns = Dns::start().await;
    let provider = Serve::start(&[]);
    let (peer, layer) = (provider.peer(), Layer::add(&provider, &noise(100_000)));
    let port = provider.address().split('/').nth(4).unwrap();
    dns.set("_dnsaddr.boot.example", 60, &[&format!("dnsaddr=/dnsaddr/one.boot.example/p2p/{peer}")]);
    let host = format!("dnsaddr=/dns4/host.example/tcp/{port}/p2p/{peer}");
    dns.set("_dnsaddr.one.boot.example", 60, &["dnsaddr=nonsense", &host]);
    dns.set("host.example", 60, &[]);
    let servers = ["--dns-resolver", &dns.address()];
    let domain = format!("/dnsaddr/boot.example/p2p/{peer}");
    let node = Serve::start(&[&["--bootstrap", &domain], &servers[..]].concat());
    node.until("the peer of the records is connected", |status| status["peers"] == 1).await;
    assert_eq!(node.status()["unreachable_bootstrap_peers"], 0);
    pulls(&node, &layer, PATIENCE).await;
    assert!(dns.asked() >= 3);
    let absent = format!("/dnsaddr/absent.example/p2p/{peer}");
    let node = Serve::start(&[&["--bootstrap", &absent], &servers[..]].concat());
    node.until("a domain without records is a peer that is gone", |status| {
        status["unreachable_bootstrap_peers"] == 1
    })
    .await;
    let shown = node.command(&["status"]).stdout;
    assert!(shown.contains("1 of 1 bootstrap peers unreachable, started with 0 remembered peers"), "{shown}");
}
