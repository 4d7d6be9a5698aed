//! Servers of `/routing/v1` that the user names: they know providers, the node pulls from these.

use libtest_mimic::Trial;

use crate::{
    harness::{Layer, Serve, finish, noise, ocipfs, trials},
    http::get,
    ports::free_port,
    web::Web,
};

const PROVIDERS: &str = "/routing/v1/providers/";

pub fn trials() -> Vec<Trial> {
    trials![
        a_router_that_the_user_names_leads_to_a_provider,
        routers_that_are_down_or_know_no_provider_do_not_hold_up_another,
        a_private_swarm_refuses_routers,
    ]
}

/// A router that names a node as the provider of everything.
async fn router_to(provider: &Serve) -> Web {
    // A record has the peer and its addresses apart.
    let address = provider.address().split("/p2p/").next().unwrap();
    let record = serde_json::json!({
        "Schema": "peer",
        "ID": provider.peer(),
        "Addrs": [address],
        "Protocols": ["transport-bitswap"],
    });
    let answer = serde_json::json!({ "Providers": [record] }).to_string();
    Web::start(move |path| path.starts_with(PROVIDERS).then(|| answer.clone())).await
}

async fn a_router_that_the_user_names_leads_to_a_provider() {
    let provider = Serve::start(&[]);
    let layer = Layer::add(&provider, &noise(3 << 20));
    let router = router_to(&provider).await;
    let node = Serve::start(&["--router", &router.url("")]);
    assert_eq!(node.status()["peers"], 0, "it knows nothing but the router");
    assert!(router.asked().is_empty(), "a router is asked when content is wanted");
    let pulled = get(&node.url(&layer.blob_path())).await;
    assert_eq!(pulled.status, 200, "{pulled:?}\n{}", node.log());
    assert!(pulled.body == layer.bytes);
    let asked = router.asked();
    assert!(asked.contains(&format!("{PROVIDERS}{}", layer.cid())), "{asked:?}");
    let peers = node.json(&["swarm", "peers"]);
    assert_eq!((&peers[0]["peer"], &peers[0]["direction"]), (&provider.peer().into(), &"out".into()));
    assert!(provider.status()["sent_bytes"].as_u64() >= Some(3 << 20));
}

async fn routers_that_are_down_or_know_no_provider_do_not_hold_up_another() {
    let provider = Serve::start(&[]);
    let layer = Layer::add(&provider, &noise(100_000));
    let down = format!("http://127.0.0.1:{}", free_port());
    let (empty, odd) = (Web::start(|_| None).await, Web::start(|_| Some("<html>".into())).await);
    let bad = [down, empty.url("/"), odd.url("/routing/v1")];
    let bad = bad.each_ref().map(String::as_str);
    let node = Serve::start(&[&["--router"], &bad[..]].concat());
    assert_eq!(get(&node.url(&layer.blob_path())).await.status, 404);
    for router in [&empty, &odd] {
        assert!(router.asked().contains(&format!("{PROVIDERS}{}", layer.cid())), "{:?}", router.asked());
    }
    let log = node.log();
    let told = log.lines().filter(|line| line.contains("cannot ask a router for providers"));
    assert!(told.count() >= 2, "the one that is down and the odd one: {log}");
    let good = router_to(&provider).await;
    let node = Serve::start(&[&["--router"], &bad[..], &[&good.url("")]].concat());
    let pulled = get(&node.url(&layer.blob_path())).await;
    assert!(pulled.status == 200 && pulled.body == layer.bytes, "{pulled:?}\n{}", node.log());
}

async fn a_private_swarm_refuses_routers() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("swarm.key");
    finish(ocipfs(dir.path()).args(["swarm", "key", key.to_str().unwrap()]));
    let mut serve = ocipfs(dir.path());
    serve.args(["serve", "--swarm-key", key.to_str().unwrap(), "--router", "http://127.0.0.1:1"]);
    finish(&mut serve).failed(2, &["--router", "leave the private network"]);
}
