//! Kubo as a seeder.

use std::fs;

use libtest_mimic::Trial;
use ocipfs_oci::Digest;

use crate::{
    clients::KUBO,
    harness::{Serve, blocking, noise, tar_of, trials},
    peers::kubo::Kubo,
};

pub fn trials() -> Vec<Trial> {
    trials![needs KUBO.available(); a_layer_in_large_blocks_is_pulled_from_kubo_over_each_transport]
}

async fn a_layer_in_large_blocks_is_pulled_from_kubo_over_each_transport() {
    blocking(|| {
        let kubo = Kubo::offline();
        let swarm = "[\"/ip4/127.0.0.1/tcp/0\",\"/ip4/127.0.0.1/udp/0/quic-v1\"]";
        let _daemon = kubo.daemon(&[("Addresses.Swarm", swarm), ("Routing.Type", "\"none\"")]);
        let tar = tar_of(kubo.dir(), "layer.tar", &noise(20 << 20));
        let digest = Digest::sha256_of(&fs::read(&tar).unwrap()).to_string();
        // The longest blocks that Kubo makes: more than yamux grants a stream at first.
        let chunked = ["add", "-Q", "--cid-version", "1", "--chunker", "size-1048576", "layer.tar"];
        let cid = kubo.run(&chunked);
        let addresses = kubo.run(&["id", "-f", "<addrs>"]);
        let at = |part: &str| addresses.lines().find(|address| address.contains(part)).unwrap();
        let (tcp, quic) = (at("/tcp/"), at("/quic-v1/"));
        let listen = ["--swarm-listen", "/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1", "--peer"];
        for (offered, over) in [(&[tcp][..], "/tcp/"), (&[quic], "/quic-v1"), (&[tcp, quic], "/quic-v1")] {
            let node = Serve::start(&[&listen[..], offered].concat());
            let added = node.json(&["layer", "add", &format!("ipfs://{}", cid.trim())]);
            assert_eq!(added["layers"][0]["digest"], digest, "{added}");
            let peers = node.json(&["swarm", "peers"]);
            assert_eq!(peers.as_array().map(Vec::len), Some(1), "{peers}");
            assert!(peers[0]["address"].as_str().unwrap().contains(over), "{peers}");
        }
    })
    .await;
}
