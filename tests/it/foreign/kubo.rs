//! Kubo as a seeder.

use std::fs;

use libtest_mimic::Trial;
use ocipfs_oci::Digest;

use crate::{
    clients::KUBO,
    harness::{Serve, blocking, finish, noise, ocipfs, tar_of, trials},
    peers::kubo::Kubo,
};

pub fn trials() -> Vec<Trial> {
    trials![needs KUBO.available();
        a_layer_in_large_blocks_is_pulled_from_kubo_over_each_transport,
        kubo_joins_a_private_swarm_by_address_and_layers_are_exchanged,
    ]
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
            // QUIC has a head start of 300 ms, which a busy machine may miss.
            let is_over = (0..5).any(|_| {
                let node = Serve::start(&[&listen[..], offered].concat());
                let added = node.json(&["layer", "add", &format!("ipfs://{}", cid.trim())]);
                assert_eq!(added["layers"][0]["digest"], digest, "{added}");
                let peers = node.json(&["swarm", "peers"]);
                assert_eq!(peers.as_array().map(Vec::len), Some(1), "{peers}");
                peers[0]["address"].as_str().unwrap().contains(over)
            });
            assert!(is_over, "{offered:?}");
        }
    })
    .await;
}

async fn kubo_joins_a_private_swarm_by_address_and_layers_are_exchanged() {
    blocking(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("swarm.key");
        fs::write(&path, finish(ocipfs(dir.path()).args(["swarm", "key"])).stdout).unwrap();
        let key = ["--swarm-key", path.to_str().unwrap()];
        let ours = Serve::start(&key);
        let tar = tar_of(dir.path(), "ours.tar", &noise(3 << 20));
        let added = ours.json(&["layer", "add", tar.to_str().unwrap()]);
        let layer = added["layers"][0]["layer"].as_str().unwrap();

        let settings = [
            ("Addresses.Swarm", "[\"/ip4/127.0.0.1/tcp/0\"]"),
            ("Routing.Type", "\"none\""),
            ("Swarm.Transports.Network.Websocket", "false"),
        ];
        let kubo = Kubo::private(&path);
        let _daemon = kubo.daemon(&settings);
        kubo.run(&["swarm", "connect", ours.address()]);
        assert!(kubo.bytes(&["cat", "--timeout", "60s", layer]).unwrap() == fs::read(&tar).unwrap());

        // The other way round, by Kubo's address.
        let theirs = tar_of(kubo.dir(), "theirs.tar", &noise(5 << 20));
        let cid = kubo.run(&["add", "-Q", "--cid-version", "1", "theirs.tar"]);
        let addresses = kubo.run(&["id", "-f", "<addrs>\n"]);
        let address = addresses.lines().find(|address| address.contains("/tcp/")).unwrap();
        let node = Serve::start(&[&key[..], &["--peer", address]].concat());
        let added = node.json(&["layer", "add", &format!("ipfs://{}", cid.trim())]);
        let digest = Digest::sha256_of(&fs::read(theirs).unwrap()).to_string();
        assert_eq!(added["layers"][0]["digest"], digest, "{added}");

        // Kubo without the key is refused, and does not learn what it asks for.
        let stranger = Kubo::offline();
        let _running = stranger.daemon(&settings);
        stranger.try_run(&["swarm", "connect", ours.address()]).unwrap_err();
        assert_eq!(stranger.run(&["swarm", "peers"]), "");
    })
    .await;
}
