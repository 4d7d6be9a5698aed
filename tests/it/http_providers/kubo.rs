//! Kubo's gateway as an HTTP provider.

use std::{
    fs,
    time::{Duration, Instant},
};

use libtest_mimic::Trial;

use super::reader;
use crate::{
    clients::KUBO,
    harness::{blocking, noise, tar_of, trials},
    peers::kubo::{Daemon, Kubo},
    ports::free_port,
};

pub fn trials() -> Vec<Trial> {
    trials![needs KUBO.available();
        a_layer_is_pulled_from_the_gateway_of_kubo,
        the_gateway_of_kubo_is_not_asked_to_search,
    ]
}

/// Starts Kubo with its gateway, which searches what it lacks; returns the gateway's URL too.
fn with_gateway(settings: &[(&str, &str)]) -> (Kubo, Daemon, String) {
    let kubo = Kubo::offline();
    let port = free_port();
    let gateway = format!("\"/ip4/127.0.0.1/tcp/{port}\"");
    let quiet = [("Addresses.Gateway", &*gateway), ("Routing.Type", "\"none\"")];
    let daemon = kubo.daemon(&[&quiet, settings].concat());
    // Its gateway listens after its RPC.
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    (kubo, daemon, format!("http://127.0.0.1:{port}"))
}

async fn a_layer_is_pulled_from_the_gateway_of_kubo() {
    blocking(|| {
        let (kubo, _daemon, url) = with_gateway(&[]);
        let tar = tar_of(kubo.dir(), "layer.tar", &noise(5 << 20));
        for options in [&["--cid-version", "0"][..], &["--cid-version", "1", "--chunker", "size-1048576"]] {
            let cid = kubo.run(&[&["add", "-Q"], options, &["layer.tar"]].concat());
            let node = reader(&[&url], &[]);
            let added = node.json(&["layer", "add", &format!("ipfs://{}", cid.trim())]);
            let digest = ocipfs_oci::Digest::sha256_of(&fs::read(&tar).unwrap()).to_string();
            assert_eq!(added["layers"][0]["digest"], digest, "{added}");
            assert_eq!(node.status()["peers"], 0);
        }
    })
    .await;
}

async fn the_gateway_of_kubo_is_not_asked_to_search() {
    blocking(|| {
        let swarm = [("Addresses.Swarm", "[\"/ip4/127.0.0.1/tcp/0\"]")];
        let (source, _other, _) = with_gateway(&swarm);
        let (middle, _daemon, url) = with_gateway(&swarm);
        let tar = tar_of(source.dir(), "layer.tar", &noise(100_000));
        let cid = source.run(&["add", "-Q", "--cid-version", "1", "layer.tar"]);
        let addresses = source.run(&["id", "-f", "<addrs>"]);
        middle.run(&["swarm", "connect", addresses.lines().next().unwrap()]);
        let node = reader(&[&url], &["--find-timeout", "2s"]);
        let said = node.command(&["layer", "add", &format!("ipfs://{}", cid.trim())]);
        assert_ne!(said.code, Some(0), "{said:?}");
        // The gateway would find it, for a client that asks it to.
        assert!(!middle.run(&["refs", "local"]).contains(cid.trim()));
        assert_eq!(middle.bytes(&["cat", cid.trim()]).unwrap(), fs::read(&tar).unwrap());
        let begin = Instant::now();
        while node.command(&["layer", "add", &format!("ipfs://{}", cid.trim())]).code != Some(0) {
            assert!(begin.elapsed() < Duration::from_secs(30), "{}", node.log());
        }
    })
    .await;
}
