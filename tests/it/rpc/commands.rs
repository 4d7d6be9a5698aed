//! Commands, by raw requests.

use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::Rpc;
use crate::harness::{noise, trials};

const OCTETS: &str = "application/octet-stream";
const DIRECTORY: &str = "application/x-directory";
const SYMLINK: &str = "application/symlink";

pub fn trials() -> Vec<Trial> {
    trials![
        rpc_add_of_a_directory_has_the_cids_of_kubo,
        rpc_add_of_many_small_files_is_told_in_order,
        rpc_only_hash_stores_nothing,
        rpc_unpinned_content_goes_with_the_garbage_collection,
        rpc_cid_of_a_key_is_read_as_a_name,
        rpc_never_publishes_under_the_publish_key,
        rpc_content_is_fetched_from_another_node,
        rpc_dag_export_is_imported_by_another_node,
        rpc_dag_cbor_is_read_along_paths_counted_exported_and_kept,
    ]
}

fn hashes(added: &[Value]) -> Vec<(&str, &str)> {
    added.iter().map(|one| (one["Name"].as_str().unwrap(), one["Hash"].as_str().unwrap())).collect()
}

/// The parts of a directory with a file, an empty directory, a link and a file in a directory.
const TREE: [(&str, &str, &[u8]); 6] = [
    ("d", DIRECTORY, b""),
    ("d%2Fa", OCTETS, b"hi\n"),
    ("d%2Fempty", DIRECTORY, b""),
    ("d%2Flink", SYMLINK, b"a"),
    ("d%2Fsub", DIRECTORY, b""),
    ("d%2Fsub%2Fb", OCTETS, b"yo\n"),
];

async fn rpc_add_of_a_directory_has_the_cids_of_kubo() {
    let rpc = Rpc::start(&[]);
    let added = rpc.upload("add", &TREE).await;
    // As Kubo 0.43 says it.
    let expected = [
        ("d/a", "QmZLRFWaz9Kypt2ACNMDzA5uzACDRiCqwdkNSP1UZsu56D"),
        ("d/link", "QmQGdvJc5i8i3wPbkBgwtn91eoNg9cDxMBqaH4RBJVGX8S"),
        ("d/sub/b", "QmTG2EDgd2JZh7M9iVSv85DtJwWTt5seY4dX6YAQmvvBGD"),
        ("d/empty", "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn"),
        ("d/sub", "QmeLxQQRiQpe6sqbRX3uUDaeD2EgWtpsSV5MKGUxPbteHn"),
        ("d", "QmXPAtxu8Uim3WjHwvbpdHmvhqmQm5YwdgyoaQEJg8DNbb"),
    ];
    assert_eq!(hashes(&added), expected);
    let root = expected[5].1;
    let files = [("a", OCTETS, &b"hi\n"[..]), ("b", OCTETS, b"yo\n")];
    let wrapped = rpc.upload("add?wrap-with-directory=true", &files).await;
    assert_eq!(hashes(&wrapped)[2], ("", "QmbgKofT7CvXz6k71NWoSbctVyo28vjenY81fYVLoPthrp"));
    let stat = rpc.json(&format!("files/stat?arg=/ipfs/{root}")).await;
    let kubo = json!({ "Hash": root, "Size": 0, "CumulativeSize": 265, "Blocks": 4, "Type": "directory" });
    assert_eq!(stat, kubo);
    let listed = rpc.json(&format!("ls?arg={root}")).await;
    let links = listed["Objects"][0]["Links"].as_array().unwrap();
    let short: Vec<_> = links.iter().map(|link| (&link["Name"], &link["Type"], &link["Size"])).collect();
    let entry = |name: &str, kind: u8, size: u64| json!([name, kind, size]);
    let expected = [entry("a", 2, 3), entry("empty", 1, 0), entry("link", 4, 1), entry("sub", 1, 0)];
    assert_eq!(json!(short), json!(expected));
    assert_eq!(links[2]["Target"], "a");
    let refs = String::from_utf8(rpc.bytes(&format!("refs?arg={root}&recursive=true")).await).unwrap();
    assert_eq!(refs.lines().count(), 5, "{refs}");
    let dag_stat = rpc.json(&format!("dag/stat?arg={root}&progress=false")).await;
    let sizes = json!([{ "Cid": root, "Size": 265, "NumBlocks": 6 }]);
    assert_eq!(dag_stat, json!({ "UniqueBlocks": 6, "TotalSize": 265, "Ratio": 1.0, "DagStats": sizes }));
    let node = rpc.json(&format!("dag/get?arg={root}")).await;
    assert_eq!(node["Data"], json!({ "/": { "bytes": "CAE" } }));
    assert_eq!(node["Links"][0]["Tsize"], 11);
    let mut tar = tar::Archive::new(std::io::Cursor::new(rpc.bytes(&format!("get?arg={root}")).await));
    let names = tar.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string());
    let names: Vec<String> = names.collect();
    assert_eq!(names, ["", "/a", "/empty", "/link", "/sub", "/sub/b"].map(|name| format!("{root}{name}")));
}

async fn rpc_add_of_many_small_files_is_told_in_order() {
    let rpc = Rpc::start(&[]);
    let names: Vec<String> = (0..3000).map(|n| format!("d/file {n:04}")).collect();
    let escaped: Vec<String> = names.iter().map(|name| name.replace('/', "%2F").replace(' ', "+")).collect();
    let parts: Vec<(&str, &str, &[u8])> =
        escaped.iter().map(|name| (name.as_str(), OCTETS, name.as_bytes())).collect();
    let added = rpc.upload("add?cid-version=1", &parts).await;
    let told: Vec<&str> = added.iter().map(|one| one["Name"].as_str().unwrap()).collect();
    assert_eq!(told[..3000], names);
    assert_eq!(told[3000..], ["d"]);
    let root = added[3000]["Hash"].as_str().unwrap();
    assert_eq!(rpc.bytes(&format!("cat?arg=/ipfs/{root}/file%200042")).await, b"d%2Ffile+0042");
}

async fn rpc_only_hash_stores_nothing() {
    let rpc = Rpc::start(&["--find-timeout", "500ms"]);
    let cid = rpc.add("only-hash=true", &noise(1 << 20)).await;
    assert!(rpc.failure(&format!("cat?arg={cid}")).await.contains("no provider found"));
    assert_eq!(cid, rpc.add("", &noise(1 << 20)).await);
    assert_eq!(rpc.bytes(&format!("cat?arg={cid}")).await.len(), 1 << 20);
}

async fn rpc_unpinned_content_goes_with_the_garbage_collection() {
    let rpc = Rpc::start(&["--find-timeout", "500ms"]);
    let (kept, gone) = (rpc.add("", &noise(300_000)).await, rpc.add("pin=true", &noise(200_000)).await);
    let listed = rpc.json("pin/ls?type=recursive").await;
    assert_eq!(listed["Keys"].as_object().unwrap().len(), 2, "{listed}");
    assert_eq!(rpc.json(&format!("pin/rm?arg={gone}")).await, json!({ "Pins": [gone] }));
    assert!(rpc.failure(&format!("pin/rm?arg={gone}")).await.contains("not pinned"));
    rpc.bytes("repo/gc").await;
    assert!(rpc.failure(&format!("cat?arg={gone}")).await.contains("no provider found"));
    assert_eq!(rpc.bytes(&format!("cat?arg={kept}")).await.len(), 300_000);
    let listed = rpc.json(&format!("pin/ls?arg={kept}")).await;
    assert_eq!(listed["Keys"][&kept]["Type"], "recursive");
    let unpinned = rpc.add("pin=false", b"unpinned").await;
    assert_eq!(rpc.json(&format!("pin/add?arg={unpinned}&name=one")).await, json!({ "Pins": [unpinned] }));
    let named = rpc.json("pin/ls?names=true&type=recursive").await;
    assert_eq!(named["Keys"][&unpinned]["Name"], "one");
    assert!(rpc.node.ask(&["store", "ls"]).len() > 10);
}

async fn rpc_cid_of_a_key_is_read_as_a_name() {
    let rpc = Rpc::start(&[]);
    let cid = rpc.add("cid-version=1", b"named").await;
    let published = rpc.json(&format!("name/publish?arg=/ipfs/{cid}&allow-offline=true")).await;
    let name = published["Name"].as_str().unwrap();
    assert_eq!(published["Value"], format!("/ipfs/{cid}"));
    // As nerdctl asks: the key below /ipfs/, and a blob below /ipns/.
    for path in [format!("/ipfs/{name}"), format!("/ipns/{name}"), format!("/ipns/{cid}")] {
        assert_eq!(rpc.bytes(&format!("cat?arg={path}")).await, b"named", "{path}");
    }
    assert_eq!(rpc.json("name/resolve").await["Path"], format!("/ipfs/{cid}"));
    let keys = rpc.json("key/list").await;
    assert_eq!(keys["Keys"], json!([{ "Name": "self", "Id": name }]));
}

async fn rpc_never_publishes_under_the_publish_key() {
    let dir = tempfile::tempdir().unwrap();
    let rpc = Rpc::start_in(dir.path(), &[]);
    let cid = rpc.add("", b"x").await;
    let self_name = rpc.node.status()["published"]["name"].as_str().unwrap().to_owned();
    let published = rpc.json(&format!("name/publish?arg={cid}")).await;
    assert_ne!(published["Name"], self_name);
    rpc.node.ask(&["name", "key", "new", "releases"]);
    rpc.node.stop();
    let rpc = Rpc::start_in(dir.path(), &["--publish-key", "releases"]);
    let published = rpc.node.status()["published"]["name"].as_str().unwrap().to_owned();
    for name in ["other", "third"] {
        rpc.json(&format!("key/gen?arg={name}")).await;
    }
    for command in [
        "name/publish?arg=CID&key=releases",
        "key/rm?arg=releases",
        "key/rm?arg=third&arg=releases",
        "key/rename?arg=releases&arg=x",
        "key/rename?arg=releases&arg=other&force=true",
        "key/rename?arg=other&arg=releases&force=true",
    ] {
        let message = rpc.failure(&command.replace("CID", &cid)).await;
        assert!(message.contains("--publish-key"), "{command}: {message}");
    }
    for command in ["key/gen?arg=releases", "key/rename?arg=other&arg=releases"] {
        assert!(rpc.failure(command).await.contains("exists"), "{command}");
    }
    let keys = rpc.json("key/list").await;
    assert!(keys["Keys"].as_array().unwrap().contains(&json!({ "Name": "releases", "Id": published })));
    let renamed = rpc.json("key/rename?arg=other&arg=another&force=true").await;
    assert_eq!(renamed["Overwrite"], false);
    rpc.node
        .command(&["name", "publish", &format!("/ipfs/{cid}"), "--key", "releases"])
        .failed(1, &["--publish-key", "hint:"]);
}

async fn rpc_content_is_fetched_from_another_node() {
    let one = Rpc::start(&[]);
    let bytes = noise(3 << 20);
    let cid = one.add("cid-version=1", &bytes).await;
    let other = Rpc::start(&["--peer", one.node.address()]);
    let part = other.bytes(&format!("cat?arg={cid}&offset=1000000&length=5000")).await;
    assert!(part == bytes[1_000_000..1_005_000]);
    assert!(other.bytes(&format!("cat?arg={cid}")).await == bytes);
    let peers = other.json("swarm/peers").await;
    assert_eq!(peers["Peers"][0]["Peer"], one.node.peer());
    // Kubo's command line adds the peer ID.
    let address = peers["Peers"][0]["Addr"].as_str().unwrap();
    assert!(address.starts_with("/ip4/127.0.0.1/") && !address.contains("/p2p/"), "{address}");
    assert_eq!(other.json("swarm/addrs").await["Addrs"][one.node.peer()], json!([address]));
    let id = one.json("id").await;
    assert_eq!(id["ID"], one.node.peer());
}

async fn rpc_dag_cbor_is_read_along_paths_counted_exported_and_kept() {
    let one = Rpc::start(&["--find-timeout", "500ms"]);
    let file = one.add("cid-version=1", b"file").await;
    let directory =
        one.upload("add?cid-version=1&wrap-with-directory=true", &[("a", OCTETS, b"in it")]).await;
    let directory = directory[1]["Hash"].as_str().unwrap();
    let link = |cid: &str| {
        let cid: ocipfs_node::Cid = cid.parse().unwrap();
        [&[0xd8, 0x2a, 0x58, 37, 0][..], &cid.to_bytes()].concat()
    };
    // {"l": [1, file], "d": directory}
    let block = [&[0xa2, 0x61, b'd'][..], &link(directory), &[0x61, b'l', 0x82, 1], &link(&file)].concat();
    let put = one.upload("block/put?cid-codec=dag-cbor&mhtype=sha2-256", &[("x", OCTETS, &block)]).await;
    let root = put[0]["Key"].as_str().unwrap();
    assert!(root.starts_with("bafyrei"), "{root}");
    let node = one.json(&format!("dag/get?arg={root}")).await;
    assert_eq!(node, json!({ "d": { "/": directory }, "l": [1, { "/": file }] }));
    assert_eq!(one.bytes(&format!("dag/get?arg={root}/l/0")).await, b"1");
    assert_eq!(one.json(&format!("dag/get?arg={root}/d/a")).await, json!({ "/": { "bytes": "aW4gaXQ" } }));
    assert_eq!(one.bytes(&format!("dag/get?arg={root}&output-codec=dag-cbor")).await, block);
    assert_eq!(one.failure(&format!("dag/get?arg={root}/x")).await, "key not found: \"x\"");
    let within = one.json(&format!("dag/resolve?arg={root}/l/0")).await;
    assert_eq!(within, json!({ "Cid": { "/": root }, "RemPath": "/l/0" }));
    let below = one.json(&format!("dag/resolve?arg={root}/l/1")).await;
    assert_eq!(below, json!({ "Cid": { "/": file }, "RemPath": "" }));
    let stat = one.json(&format!("dag/stat?arg={root}&progress=false")).await;
    assert_eq!(stat["DagStats"][0]["NumBlocks"], 4, "{stat}");
    // A pin keeps what is below it, and an archive has it.
    one.json(&format!("pin/add?arg={root}")).await;
    for cid in [&file, directory] {
        one.json(&format!("pin/rm?arg={cid}")).await;
    }
    one.bytes("repo/gc").await;
    assert_eq!(one.bytes(&format!("cat?arg={file}")).await, b"file");
    let archive = one.bytes(&format!("dag/export?arg={root}")).await;
    let other = Rpc::start(&["--find-timeout", "500ms"]);
    other.upload("dag/import", &[("x.car", OCTETS, &archive)]).await;
    assert_eq!(other.bytes(&format!("cat?arg=/ipfs/{directory}/a")).await, b"in it");
    // From a peer.
    let third = Rpc::start(&["--peer", one.node.address()]);
    third.json(&format!("pin/add?arg={root}")).await;
    assert_eq!(third.bytes(&format!("cat?arg={file}")).await, b"file");
    third.bytes("repo/gc").await;
    assert_eq!(third.bytes(&format!("dag/export?arg={root}")).await, archive);
}

async fn rpc_dag_export_is_imported_by_another_node() {
    let one = Rpc::start(&[]);
    let added = one.upload("add", &TREE).await;
    let root = added[5]["Hash"].as_str().unwrap();
    let archive = one.bytes(&format!("dag/export?arg={root}")).await;
    let other = Rpc::start(&["--find-timeout", "500ms"]);
    let imported = other.upload("dag/import?stats=true", &[("d.car", OCTETS, &archive)]).await;
    assert_eq!(imported[0], json!({ "Root": { "Cid": { "/": root }, "PinErrorMsg": "" } }));
    assert_eq!(imported[1], json!({ "Stats": { "BlockCount": 6, "BlockBytesCount": 265 } }));
    assert_eq!(other.bytes(&format!("cat?arg=/ipfs/{root}/sub/b")).await, b"yo\n");
    assert!(other.bytes(&format!("dag/export?arg={root}")).await == archive);
    other.bytes("repo/gc").await;
    assert_eq!(other.bytes(&format!("cat?arg=/ipfs/{root}/a")).await, b"hi\n");
    let mut damaged = archive.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let body = [
        b"--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n",
        &damaged[..],
        b"\r\n--x--\r\n",
    ];
    let request = other.client.post(format!("{}/api/v0/dag/import", other.url()));
    let request = request.header("content-type", "multipart/form-data; boundary=x").body(body.concat());
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 500);
    assert!(answer.text().await.unwrap().contains("does not match its CID"));
}
