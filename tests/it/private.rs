//! Private swarm: only nodes with its key can connect.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use libtest_mimic::Trial;
use tempfile::TempDir;

use crate::{
    following::{known, name_of, published, pulls, push},
    harness::{Layer, Serve, finish, noise, ocipfs, tar_of, trials, within},
    http::get,
    names::image::{Image, layout, tagged},
    ports::free_port,
};

pub fn trials() -> Vec<Trial> {
    trials![
        two_nodes_with_the_same_swarm_key_exchange_a_layer,
        peers_without_the_swarm_key_or_with_another_are_rejected,
        a_peer_with_a_name_is_dialled_in_a_private_swarm_with_allow_dns_only,
        a_node_with_a_swarm_key_opens_no_udp_socket,
        a_wrong_swarm_key_is_reported_on_both_sides,
        a_swarm_key_in_the_format_of_kubo_is_read,
        an_invalid_swarm_key_is_rejected_at_start,
        a_node_directory_is_rejected_in_another_network_without_change_network,
        change_network_hides_stored_content_until_it_is_pushed_or_added_again,
        layer_index_and_image_tag_share_the_content_of_a_former_network_that_they_name,
    ]
}

async fn two_nodes_with_the_same_swarm_key_exchange_a_layer() {
    let dir = tempfile::tempdir().unwrap();
    let key = new_key(&dir, "swarm.key");
    let source = keyed(&key, &[]);
    let reader = keyed(&key, &["--peer", source.address()]);
    assert_eq!(source.status()["network"], "private");
    let layer = Layer::add(&source, &noise(5 << 20));
    let pulled = reqwest::get(reader.url(&layer.blob_path())).await.unwrap();
    assert!(pulled.bytes().await.unwrap() == layer.bytes);
    assert_eq!(peers(&reader), [source.peer()]);
}

async fn peers_without_the_swarm_key_or_with_another_are_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let (key, other) = (new_key(&dir, "swarm.key"), new_key(&dir, "other.key"));
    let source = keyed(&key, &[]);
    let member = keyed(&key, &["--peer", source.address()]);
    source.until("the member is there", |status| status["peers"] == 1).await;
    let layer = Layer::add(&source, &noise(1000));
    let open = Serve::start(&["--peer", source.address(), "--find-timeout", "2s"]);
    let stranger = keyed(&other, &["--peer", source.address(), "--find-timeout", "2s"]);
    for node in [&open, &stranger] {
        node.command(&["swarm", "connect", source.address()]).failed(1, &["cannot reach", "hint: "]);
        // Nor the other way round.
        source.command(&["swarm", "connect", node.address()]).failed(1, &["cannot reach", "hint: "]);
        let refused = reqwest::get(node.url(&layer.manifest_path())).await.unwrap();
        assert_eq!(refused.status(), 404);
        assert_eq!(peers(node), [""; 0]);
        for line in node.log().lines() {
            assert!(!line.contains(member.peer()), "{line}");
        }
    }
    assert_eq!(peers(&source), [member.peer()]);
    assert_eq!(peers(&member), [source.peer()]);
}

/// As between the containers of Compose or Kubernetes, where a peer has a name and its address changes.
async fn a_peer_with_a_name_is_dialled_in_a_private_swarm_with_allow_dns_only() {
    let dir = tempfile::tempdir().unwrap();
    let key = new_key(&dir, "swarm.key");
    let source = keyed(&key, &[]);
    let named = source.address().replace("/ip4/127.0.0.1/", "/dns4/localhost/");
    assert!(named.starts_with("/dns4/localhost/tcp/"), "{named}");
    let refused = finish(ocipfs(&dir.path().join("node")).args([
        "serve",
        "--swarm-key",
        key.to_str().unwrap(),
        "--peer",
        &named,
    ]));
    refused.failed(2, &["cannot be used with a swarm key", "--allow-dns", "hint: "]);

    let layer = Layer::add(&source, &noise(1 << 20));
    let reader = keyed(&key, &["--allow-dns", "--peer", &named]);
    assert_eq!(reader.status()["network"], "private");
    assert_eq!(get(&reader.url(&layer.blob_path())).await.status, 200);
    let later = keyed(&key, &["--allow-dns"]);
    let said = later.command(&["swarm", "connect", &named]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let nobody = named.replace("localhost", "nobody.invalid");
    keyed(&key, &[]).command(&["swarm", "connect", &nobody]).failed(1, &["nobody.invalid"]);
}

async fn a_node_with_a_swarm_key_opens_no_udp_socket() {
    let dir = tempfile::tempdir().unwrap();
    let key = new_key(&dir, "swarm.key");
    let source = keyed(&key, &[]);
    let reader = keyed(&key, &["--peer", source.address()]);
    reader.until("they are connected", |status| status["peers"] == 1).await;
    assert_eq!(udp_sockets(reader.pid()), 0);
    assert_eq!(udp_sockets(source.pid()), 0);
    // What is counted would be seen.
    let open = Serve::start(&["--swarm-listen", "/ip4/127.0.0.1/udp/0/quic-v1"]);
    assert_ne!(udp_sockets(open.pid()), 0);
}

async fn a_wrong_swarm_key_is_reported_on_both_sides() {
    let dir = tempfile::tempdir().unwrap();
    let (key, other) = (new_key(&dir, "swarm.key"), new_key(&dir, "other.key"));
    let node = keyed(&key, &[]);
    let stranger = keyed(&other, &["--peer", node.address()]);
    let address = node.address().split("/p2p/").next().unwrap();
    let says = |what: &str| {
        let what = what.to_string();
        move |status: &serde_json::Value| {
            status["rejected_handshakes"].as_array().is_some_and(|all| all.iter().any(|one| one == &what))
        }
    };
    // What another key makes of the bytes may also look like a peer that is slow to answer: then only the next dial tells.
    for _ in 0..8 {
        if says(address)(&stranger.status()) {
            break;
        }
        stranger.command(&["swarm", "connect", node.address()]);
    }
    stranger.until("the dialling side says so", says(address)).await;
    node.until("the listening side says so", says("/ip4/127.0.0.1")).await;
    for (node, address) in [(&stranger, address), (&node, "/ip4/127.0.0.1")] {
        let text = format!("peer at {address} rejected the handshake: different swarm key?");
        assert_eq!(node.log().matches(&format!("{text}\n")).count(), 1, "{}", node.log());
        assert!(node.command(&["status"]).stdout.contains(&text));
    }
    // A peer that cannot be reached says nothing of its key.
    let gone = format!("/ip4/127.0.0.1/tcp/{}/p2p/{}", free_port(), stranger.peer());
    stranger.stop();
    let alone = keyed(&key, &["--peer", &gone]);
    alone.command(&["swarm", "connect", &gone]).failed(1, &["cannot reach"]);
    assert_eq!(alone.status()["rejected_handshakes"], serde_json::json!([]));
}

async fn a_swarm_key_in_the_format_of_kubo_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("swarm.key");
    fs::write(&path, format!("/key/swarm/psk/1.0.0/\n/base16/\n{}", "1f".repeat(32))).unwrap();
    let source = keyed(&path, &[]);
    let reader = keyed(&path, &["--peer", source.address()]);
    reader.until("they are connected", |status| status["peers"] == 1).await;
}

async fn an_invalid_swarm_key_is_rejected_at_start() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("node");
    let key = dir.path().join("swarm.key");
    // 64 bytes that are not ASCII: on them the parser of the library panics.
    fs::write(&key, format!("/key/swarm/psk/1.0.0/\n/base16/\n{}", "é".repeat(32))).unwrap();
    let refused = |arguments: &[&str]| finish(ocipfs(&data).arg("serve").args(arguments));
    let path = key.to_str().unwrap();
    refused(&["--swarm-key", path]).failed(2, &["line 3", "64 hexadecimal digits", "hint: "]);
    refused(&["--swarm-key", "/nowhere/swarm.key"]).failed(2, &["/nowhere/swarm.key", "hint: "]);
    let key = new_key(&dir, "swarm.key");
    let path = key.to_str().unwrap();
    for [flag, value] in [
        ["--bootstrap", "public"],
        ["--dns-resolver", "127.0.0.1"],
        ["--swarm-listen", "/ip4/127.0.0.1/udp/0/quic-v1"],
        ["--bootstrap", "/dnsaddr/example.org/p2p/12D3KooWNdH5vzZ6HK3XTmLz9R82zucX1Jwibw1h3WEejRsVVPWh"],
        ["--peer", "/dns4/example.org/tcp/1/p2p/12D3KooWNdH5vzZ6HK3XTmLz9R82zucX1Jwibw1h3WEejRsVVPWh"],
    ] {
        refused(&["--swarm-key", path, flag, value])
            .failed(2, &["cannot be used with a swarm key", "hint: "]);
    }
    finish(ocipfs(&data).arg("serve").env("LIBP2P_FORCE_PNET", "1"))
        .failed(2, &["LIBP2P_FORCE_PNET", "hint: "]);
    assert!(!data.exists());
}

async fn a_node_directory_is_rejected_in_another_network_without_change_network() {
    let dir = tempfile::tempdir().unwrap();
    let [key, other] = ["swarm.key", "other.key"].map(|name| new_key(&dir, name));
    let [key, other] = [&key, &other].map(|key| key.to_str().unwrap());
    let data = dir.path().join("node");
    let peer = {
        let node = Serve::start_in(&data, &["--swarm-key", key]);
        let peer = node.peer().to_string();
        node.stop();
        peer
    };
    let refused = |arguments: &[&str]| {
        let tcp = ["--listen", "127.0.0.1:0", "--swarm-listen", "/ip4/127.0.0.1/tcp/0"];
        finish(ocipfs(&data).arg("serve").args(arguments).args(tcp))
            .failed(2, &["private swarm", "hint: ", "--change-network", "--swarm-key"]);
    };
    refused(&["--swarm-key", other]);
    refused(&["--bootstrap", "none"]);
    refused(&["--bootstrap", "public"]);
    // Commands without a network work as before.
    assert_eq!(finish(ocipfs(&data).args(["store", "stat"])).code, Some(0));
    assert_eq!(Serve::start_in(&data, &["--swarm-key", key]).peer(), peer);
    let moved = Serve::start_in(&data, &["--change-network"]);
    assert_eq!((moved.peer(), moved.status()["network"].as_str()), (peer.as_str(), Some("own")));
    assert!(moved.log().contains("become visible there"), "{}", moved.log());
    moved.stop();
    finish(ocipfs(&data).args(["serve", "--swarm-key", key])).failed(2, &["without a key", "hint: "]);
    Serve::start_in(&data, &[]).stop();
}

async fn change_network_hides_stored_content_until_it_is_pushed_or_added_again() {
    let dir = tempfile::tempdir().unwrap();
    let key = new_key(&dir, "swarm.key");
    let (key, data) = (key.to_str().unwrap(), dir.path().join("node"));
    let (old, new) = (Image::of("old", 300_000), Image::of("new", 2000));
    let private = Serve::start_in(&data, &["--swarm-key", key]);
    push(&private, "app", "1", &old).await;
    let layer = Layer::add(&private, &noise(5 << 20));
    let before = published(&private).await;
    private.stop();

    let moved = Serve::start_in(&data, &["--change-network"]);
    let find = ["--find-timeout", "2s", "--follow", &name_of(&moved), "--peer", moved.address()];
    let reader = Serve::start(&find);
    reader.until("they are connected", |status| status["peers"] == 1).await;
    assert!(moved.status()["published"]["root"].is_null(), "{}", moved.status());
    let status = async |path: &str| get(&reader.url(path)).await.status;
    let digest = |bytes: &[u8]| ocipfs_oci::Digest::sha256_of(bytes);
    for path in
        [layer.blob_path(), format!("/v2/ipfs/{before}/app/manifests/1"), "/v2/app/manifests/1".into()]
    {
        assert!([404, 504].contains(&status(&path).await), "{path}");
        assert_eq!(
            get(&moved.url(&path.replace(&format!("ipfs/{before}/"), ""))).await.status,
            200,
            "{path}"
        );
    }
    // New pushes are shared, and reveal nothing of earlier content.
    push(&moved, "app", "2", &new).await;
    known(&reader, "app", "2", &new).await;
    let tags = get(&reader.url("/v2/app/tags/list")).await.json();
    assert_eq!(tags["tags"], serde_json::json!(["2"]));
    push(&moved, "app", "1", &old).await;
    pulls(&reader, "app", "1", &old).await;
    assert_eq!(status(&format!("/v2/app/blobs/{}", digest(&old.layer))).await, 200);
    Layer::add(&moved, &noise(5 << 20));
    // The reader takes a while to ask again.
    let is_had = async { while status(&layer.blob_path()).await != 200 {} };
    within(Duration::from_secs(60), is_had).await;
}

async fn layer_index_and_image_tag_share_the_content_of_a_former_network_that_they_name() {
    let dir = tempfile::tempdir().unwrap();
    let key = new_key(&dir, "swarm.key");
    let (key, data) = (key.to_str().unwrap(), dir.path().join("node"));
    let image = Image::of("imported", 300_000);
    let folder = dir.path().join("layout");
    for (path, bytes) in layout("", &[tagged(image.descriptor(), "1")], &[&image], &[]) {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let private = Serve::start_in(&data, &["--swarm-key", key]);
    let layers = [("amd64", 2 << 20), ("arm64", 3 << 20)].map(|(architecture, size)| {
        let tar = tar_of(dir.path(), &format!("{architecture}.tar"), &noise(size));
        let platform = format!("linux/{architecture}");
        let tar = tar.to_str().unwrap();
        let reference = private.ask(&["-q", "layer", "add", tar, "--platform", &platform]);
        (reference, fs::read(tar).unwrap())
    });
    let imported = private.ask(&["-q", "image", "import", folder.to_str().unwrap(), "--name", "app:1"]);
    private.stop();

    let moved = Serve::start_in(&data, &["--change-network"]);
    let reader = Serve::start(&["--find-timeout", "2s", "--peer", moved.address()]);
    reader.until("they are connected", |status| status["peers"] == 1).await;
    let name = |reference: &str| {
        let path = reference.split_once('/').unwrap().1;
        path.rsplit_once(':').map_or(path, |(name, _)| name).to_string()
    };
    let pull = async |reference: &str, bytes: &[u8]| {
        let digest = ocipfs_oci::Digest::sha256_of(bytes);
        let answer = get(&reader.url(&format!("/v2/{}/blobs/{digest}", name(reference)))).await;
        if answer.status == 200 {
            assert!(answer.body == bytes);
        }
        answer.status
    };
    assert_ne!(pull(&imported, &image.layer).await, 200);
    for (reference, layer) in &layers {
        assert_ne!(pull(reference, layer).await, 200);
    }
    let joined = moved.ask(&["-q", "layer", "index", &layers[0].0, &layers[1].0]);
    // The reader takes a while to ask again.
    let arrives = async |reference: &str, bytes: &[u8]| {
        within(Duration::from_secs(60), async { while pull(reference, bytes).await != 200 {} }).await;
    };
    for (_, layer) in &layers {
        arrives(&joined, layer).await;
    }
    let tagged = moved.ask(&["-q", "image", "tag", &imported, "app:2"]);
    for blob in image.blobs() {
        arrives(&tagged, blob).await;
    }
}

/// A key as `ocipfs swarm key` prints it.
fn new_key(dir: &TempDir, name: &str) -> PathBuf {
    let said = finish(ocipfs(dir.path()).args(["swarm", "key"]));
    assert_eq!((said.code, said.stdout.lines().count()), (Some(0), 3));
    let path = dir.path().join(name);
    fs::write(&path, said.stdout).unwrap();
    path
}

fn keyed(key: &Path, arguments: &[&str]) -> Serve {
    let key = ["--swarm-key", key.to_str().expect("UTF-8")];
    Serve::start(&[&key, arguments].concat())
}

fn peers(node: &Serve) -> Vec<String> {
    let said = node.command(&["--json", "swarm", "peers"]);
    let peers: serde_json::Value =
        serde_json::from_str(&said.stdout).unwrap_or_else(|e| panic!("{e}: {said:?}"));
    peers.as_array().unwrap().iter().map(|peer| peer["peer"].as_str().unwrap().into()).collect()
}

/// The UDP sockets that a process has open, by the inodes of its file descriptors.
fn udp_sockets(pid: u32) -> usize {
    let mut inodes = BTreeSet::new();
    for table in ["udp", "udp6"] {
        let table = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap();
        inodes.extend(
            table.lines().skip(1).filter_map(|line| line.split_whitespace().nth(9)).map(String::from),
        );
    }
    let links = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let targets = links.filter_map(|link| fs::read_link(link.path()).ok());
    targets
        .filter(|target| {
            let target = target.to_string_lossy();
            let inode = target.strip_prefix("socket:[").and_then(|text| text.strip_suffix(']'));
            inode.is_some_and(|inode| inodes.contains(inode))
        })
        .count()
}
