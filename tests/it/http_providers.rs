//! HTTP providers: servers that a provider record or the user names, asked for single blocks.

mod kubo;
mod server;
mod tls;

use libtest_mimic::Trial;

use crate::{
    harness::{Layer, Serve, finish, noise, ocipfs, trials},
    http::{Answer, get, get_found},
    peers::router::Router,
    ports::free_port,
};
use server::{Answers, Server};

pub fn trials() -> Vec<Trial> {
    let own = trials![
        a_layer_is_pulled_from_an_http_provider_that_the_user_names,
        a_provider_record_with_an_http_address_leads_to_a_pull_over_http,
        an_http_provider_is_asked_for_single_blocks_and_never_to_search,
        an_http_provider_that_sends_wrong_blocks_is_refused_and_dropped,
        http_providers_that_are_down_busy_or_elsewhere_are_passed_over,
        an_http_provider_and_a_peer_share_one_pull,
        a_private_swarm_refuses_http_providers,
    ];
    [own, kubo::trials(), tls::trials()].into_iter().flatten().collect()
}

const MIB: usize = 1 << 20;

/// A node with a gateway, and a layer that it has.
fn source(bytes: usize, arguments: &[&str]) -> (Serve, Layer) {
    let node = Serve::start(&[&["--gateway"], arguments].concat());
    let layer = Layer::add(&node, &noise(bytes));
    (node, layer)
}

/// Starts a node that knows these HTTP providers, and no peers.
fn reader(providers: &[&str], arguments: &[&str]) -> Serve {
    let providers = providers.iter().flat_map(|url| ["--http-provider", *url]);
    Serve::start(&providers.chain(arguments.iter().copied()).collect::<Vec<_>>())
}

/// Pulls a layer.
async fn pull(node: &Serve, layer: &Layer) -> Answer {
    get(&node.url(&layer.blob_path())).await
}

/// Pulls a layer that a provider has.
async fn pull_found(node: &Serve, layer: &Layer) -> Answer {
    get_found(&node.url(&layer.blob_path())).await
}

#[track_caller]
fn is_whole(answer: &Answer, layer: &Layer, node: &Serve) {
    assert_eq!(answer.status, 200, "{answer:?}\n{}", node.log());
    assert!(answer.body == layer.bytes);
}

async fn a_layer_is_pulled_from_an_http_provider_that_the_user_names() {
    let (source, layer) = source(20 * MIB, &[]);
    let node = reader(&[&source.url("")], &[]);
    is_whole(&pull_found(&node, &layer).await, &layer, &node);
    let status = node.status();
    assert_eq!((&status["peers"], &status["http_providers"]), (&0.into(), &1.into()));
    assert!(status["received_bytes"].as_u64() >= Some(20 * MIB as u64), "{status}");
    // The provider is also looked up, and may be asked over Bitswap beside HTTP.
    assert_eq!(node.status()["http_providers"], 1);
    // What it lacks is not found, without a wait for an answer that never comes.
    let other = Layer::add(&Serve::start(&[]), &noise(1000));
    assert_eq!(pull(&node, &other).await.status, 404);
}

async fn a_provider_record_with_an_http_address_leads_to_a_pull_over_http() {
    let mut router = Router::start().await;
    let at = router.address().to_owned();
    let bootstrap = ["--bootstrap", &at];
    let (source, layer) = source(5 * MIB, &[]);
    let server = Server::start(Answers::Of(source.url(""))).await;
    let url = server.url();
    let address = format!("/ip4/127.0.0.1/tcp/{}/http", url.rsplit_once(':').unwrap().1);
    let announcer = reader(&[&url], &[&bootstrap[..], &["--swarm-announce", &address]].concat());
    is_whole(&pull_found(&announcer, &layer).await, &layer, &announcer);
    announcer.until("all is announced", |status| status["announced"] == 4 && status["announcing"] == 0).await;
    // What is announced is on its way.
    router.records(4).await;
    // Only the record is left of it: it cannot be asked over Bitswap.
    drop(announcer);
    let node = Serve::start(&bootstrap);
    let before = server.requests().len();
    is_whole(&pull_found(&node, &layer).await, &layer, &node);
    assert_eq!(node.status()["http_providers"], 1);
    assert!(server.requests().len() > before);
}

async fn an_http_provider_is_asked_for_single_blocks_and_never_to_search() {
    let (source, layer) = source(3 * MIB, &[]);
    let server = Server::start(Answers::Of(source.url(""))).await;
    let node = reader(&[&server.url()], &[]);
    is_whole(&pull_found(&node, &layer).await, &layer, &node);
    let requests = server.requests();
    assert!(requests.iter().any(|request| request.method == "GET"));
    for request in &requests {
        let cid = request.path.strip_prefix("/ipfs/").and_then(|path| path.strip_suffix("?format=raw"));
        assert!(cid.is_some_and(|cid| !cid.contains(['/', '?'])), "{request:?}");
        assert!(matches!(&*request.method, "GET" | "HEAD"), "{request:?}");
        assert_eq!(request.accept, "application/vnd.ipld.raw");
        assert_eq!(request.cache_control, "only-if-cached", "a gateway may search otherwise");
    }
    let mut got: Vec<_> =
        requests.iter().filter(|request| request.method == "GET").map(|request| &request.path).collect();
    let all = got.len();
    got.sort();
    got.dedup();
    assert_eq!(got.len(), all, "each block is requested once");
}

async fn an_http_provider_that_sends_wrong_blocks_is_refused_and_dropped() {
    let (source, layer) = source(3 * MIB, &[]);
    let liar = Server::start(Answers::Wrong).await;
    let alone = reader(&[&liar.url()], &["--find-timeout", "10s"]);
    let answer = pull(&alone, &layer).await;
    assert!(matches!(answer.status, 404 | 504), "{answer:?}");
    let told = "HTTP provider sent a wrong block";
    assert!(alone.log().contains(told) && alone.log().contains(&liar.url()), "{}", alone.log());
    let asked = liar.requests().len();
    assert!(asked > 0);
    // It is not asked by a later pull either.
    assert!(matches!(pull(&alone, &layer).await.status, 404 | 504));
    assert_eq!(liar.requests().len(), asked);
    // Another provider is not held up by it.
    let both = reader(&[&liar.url(), &source.url("")], &[]);
    is_whole(&pull_found(&both, &layer).await, &layer, &both);
    // A body without end is cut off.
    let endless = Server::start(Answers::Endless).await;
    let both = reader(&[&endless.url(), &source.url("")], &[]);
    is_whole(&pull_found(&both, &layer).await, &layer, &both);
}

async fn http_providers_that_are_down_busy_or_elsewhere_are_passed_over() {
    let (source, layer) = source(3 * MIB, &[]);
    let down = format!("http://127.0.0.1:{}", free_port());
    let busy = Server::start(Answers::Status(503, "")).await;
    let broken = Server::start(Answers::Status(500, "")).await;
    let elsewhere = Server::start(Answers::Status(302, "http://127.0.0.1:1/")).await;
    let silent = Server::start(Answers::Nothing).await;
    let bad = [&*down, &busy.url(), &broken.url(), &elsewhere.url(), &silent.url()];
    let node = reader(&bad, &["--find-timeout", "10s"]);
    assert!(matches!(pull(&node, &layer).await.status, 404 | 504));
    for server in [&busy, &broken, &elsewhere, &silent] {
        assert!(!server.requests().is_empty(), "{}", server.url());
    }
    let node = reader(&[&bad[..], &[&source.url("")]].concat(), &[]);
    is_whole(&pull_found(&node, &layer).await, &layer, &node);
}

async fn an_http_provider_and_a_peer_share_one_pull() {
    let (source, layer) = source(40 * MIB, &[]);
    // It is not connected to the source, or the source would be asked over Bitswap as well.
    let peer = reader(&[&source.url("")], &[]);
    is_whole(&pull_found(&peer, &layer).await, &layer, &peer);
    let mut came = Vec::new();
    // On a busy machine one of the two may have begun when the other has sent all.
    for _ in 0..5 {
        let before = peer.status()["sent_bytes"].as_u64().unwrap();
        let node = reader(&[&source.url("")], &["--peer", peer.address()]);
        node.until("a peer", |status| status["peers"] == 1).await;
        is_whole(&pull_found(&node, &layer).await, &layer, &node);
        assert_eq!(source.status()["sent_bytes"], 0);
        came.push(peer.status()["sent_bytes"].as_u64().unwrap() - before);
        if came.last().is_some_and(|sent| (1..40 * MIB as u64).contains(sent)) {
            return;
        }
    }
    panic!("{came:?} bytes came from the peer");
}

async fn a_private_swarm_refuses_http_providers() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("swarm.key");
    finish(ocipfs(dir.path()).args(["swarm", "key", key.to_str().unwrap()]));
    let mut serve = ocipfs(dir.path());
    serve.args(["serve", "--swarm-key", key.to_str().unwrap(), "--http-provider", "http://127.0.0.1:1"]);
    finish(&mut serve).failed(2, &["HTTP provider http://127.0.0.1:1", "swarm key"]);
    let mut serve = ocipfs(dir.path());
    serve.args(["serve", "--http-provider", "ftp://example.org"]);
    finish(&mut serve).failed(2, &["invalid URL of an HTTP provider \"ftp://example.org\""]);
}
