use std::{
    fs,
    io::Write,
    os::unix::{ffi::OsStrExt, net::UnixListener},
    path::Path,
};

use libtest_mimic::Trial;

use crate::harness::{Layer, Serve, files_below, finish, noise, ocipfs, stored, tar_of, trials};

pub fn trials() -> Vec<Trial> {
    trials![
        layer_add_rejects_invalid_layers_and_leaves_no_files,
        a_command_that_needs_a_running_node_fails_with_a_hint,
        invalid_references_and_multiaddrs_are_rejected_with_an_example,
    ]
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

/// Sources of layers that are none, each with what must be said of it.
fn bad_sources(dir: &Path) -> Vec<(String, &'static str)> {
    // Long enough that many blocks are stored before the end is missed.
    let tar = fs::read(tar_of(dir, "good.tar", &noise(20 << 20))).unwrap();
    let packed = gzip(&tar);
    let zstd = zstd::encode_all(&tar[..], 1).unwrap();
    let mut flipped = packed.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let mut sources = Vec::new();
    for (name, bytes, told) in [
        ("cut.tar.gz", &packed[..packed.len() - 1000], "truncated"),
        ("head.tar.gz", &packed[..5], "truncated"),
        ("flipped.tar.gz", &flipped, "gzip"),
        ("tail.tar.gz", &[&packed[..], b"tail"].concat(), "trailing garbage"),
        ("cut.tar.zst", &zstd[..zstd.len() - 1000], "truncated"),
        ("cut.tar", &tar[..tar.len() - 1000], "truncated"),
        ("empty.tar", b"", "empty"),
        ("note.txt", b"no tar at all", "is not a layer"),
        ("text.gz", &gzip(&[b'x'; 4096]), "not a tar"),
    ] {
        let path = dir.join(name);
        fs::write(&path, bytes).unwrap();
        sources.push((path.to_str().unwrap().to_string(), told));
    }
    sources.push((dir.join("missing.tar").to_str().unwrap().to_string(), "No such file"));
    sources
}

async fn layer_add_rejects_invalid_layers_and_leaves_no_files() {
    let dir = tempfile::tempdir().unwrap();
    let mut sources = bad_sources(dir.path());
    let with_socket = dir.path().join("rootfs");
    fs::create_dir(&with_socket).unwrap();
    fs::write(with_socket.join("aaa"), noise(9 << 20)).unwrap();
    let _socket = UnixListener::bind(with_socket.join("zzz.sock")).unwrap();
    sources.push((with_socket.to_str().unwrap().into(), "zzz.sock is a socket"));
    sources.push(("ipfs://nonsense/foo.tar".into(), "CID"));
    sources.push(("/".into(), "invalid layer path"));

    let home = tempfile::tempdir().unwrap();
    let node = Serve::start_in(home.path(), &[]);
    let layer = Layer::add(&node, &noise(100));
    let before = node.stored("blocks");
    assert!(before > 0);
    for (source, told) in &sources {
        let said = node.command(&["layer", "add", source]);
        said.failed(1, &["error: ", told, "hint: "]);
        assert_eq!(said.stdout, "", "{source}");
        assert_eq!(node.stored("blocks"), before, "{source} left blocks behind");
        assert_eq!(files_below(node.data_dir(), "incoming"), 0, "{source} left a file behind");
    }
    let status = node.status();
    assert_eq!((&status["layers"], &status["cached_layers"]), (&1.into(), &0.into()));

    // The same without a running node; and existing files stay.
    let dir = node.kill();
    for (source, told) in &sources {
        finish(ocipfs(&dir).args(["layer", "add", source])).failed(1, &["error: ", told, "hint: "]);
        assert_eq!(stored(&dir, "blocks"), before, "{source} left blocks behind");
    }
    let node = Serve::start_in(&dir, &[]);
    assert!(reqwest::get(node.url(&layer.blob_path())).await.unwrap().bytes().await.unwrap() == layer.bytes);
}

async fn a_command_that_needs_a_running_node_fails_with_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let peer = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWGzBXWNvHpLUS1rFNPbvEeLQ1kYmpTPnwt4MM2XUzpY4q";
    for arguments in [&["status"][..], &["swarm", "peers"], &["swarm", "connect", peer]] {
        let said = finish(ocipfs(dir.path()).args(arguments));
        said.failed(1, &["error: no node is running in", "hint: ", "`ocipfs serve`"]);
        assert_eq!(said.stdout, "");
    }
    let cid = "bafybeiat5rs4tk3kvllj4uu5zr652qnp7kxc4ttewhc5md23gxflqqp7lu";
    for arguments in [["layer", "inspect", cid], ["layer", "add", &format!("ipfs://{cid}/foo.tar")]] {
        let said = finish(ocipfs(dir.path()).args(arguments));
        said.failed(1, &["error: ", cid, "only a running node can ask peers", "hint: start `ocipfs serve`"]);
    }
}

async fn invalid_references_and_multiaddrs_are_rejected_with_an_example() {
    let node = Serve::start(&[]);
    let cid = "bafybeiat5rs4tk3kvllj4uu5zr652qnp7kxc4ttewhc5md23gxflqqp7lu";
    for (arguments, told) in [
        (["layer", "inspect", "nonsense"], "invalid layer reference"),
        (["layer", "rm", "127.0.0.1:5050/layer/nonsense:foo"], "invalid layer reference"),
        (["layer", "rm", cid], "not found among the added layers"),
        (["swarm", "connect", "127.0.0.1:4001"], "invalid multiaddr"),
        (["swarm", "connect", "/ip4/127.0.0.1/tcp/1"], "/p2p/"),
        (
            [
                "swarm",
                "connect",
                "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWGzBXWNvHpLUS1rFNPbvEeLQ1kYmpTPnwt4MM2XUzpY4q",
            ],
            "cannot reach",
        ),
    ] {
        node.command(&arguments).failed(1, &["error: ", told, "hint: "]);
    }
    let long = std::ffi::OsString::from("x".repeat(5000));
    assert_eq!(long.as_bytes().len(), 5000);
    finish(ocipfs(node.data_dir()).args(["layer", "add"]).arg(&long)).failed(1, &["error: ", "hint: "]);
    for arguments in
        [&["layer"][..], &["layer", "add"], &["nonsense"], &["layer", "add", "x", "--platform", "?"]]
    {
        assert_eq!(node.command(arguments).code, Some(2), "{arguments:?}");
    }
}
