//! Options of commands, by raw requests: obeyed as by Kubo, or refused.

use std::io::Cursor;

use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::Rpc;
use crate::harness::{noise, trials};

const OCTETS: &str = "application/octet-stream";
const DIRECTORY: &str = "application/x-directory";

pub fn trials() -> Vec<Trial> {
    trials![
        rpc_add_leaves_out_empty_directories_as_kubo_does,
        rpc_add_refuses_file_names_that_it_cannot_keep,
        rpc_block_put_refuses_truncated_digests,
        rpc_refs_shows_edges_also_where_the_default_format_is_sent,
        rpc_direct_pin_does_not_replace_a_recursive_one,
        rpc_offline_commands_ask_no_peer,
        rpc_offline_name_is_resolved_only_where_it_is_published_here,
        rpc_cids_are_written_in_the_base_that_the_client_wants,
        rpc_get_has_the_modes_and_times_of_files,
    ]
}

/// The message and the status of a refusal.
async fn refusal(answer: reqwest::Response) -> (u16, String) {
    let status = answer.status().as_u16();
    let error: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).expect("an object");
    (status, error["Message"].as_str().expect("a message").to_owned())
}

async fn rpc_add_leaves_out_empty_directories_as_kubo_does() {
    let rpc = Rpc::start(&[]);
    let tree = [
        ("t", DIRECTORY, &b""[..]),
        ("t%2Fa", OCTETS, b"hi\n"),
        ("t%2Fe", DIRECTORY, b""),
        ("t%2Fn", DIRECTORY, b""),
        ("t%2Fn%2Fm", DIRECTORY, b""),
        ("t%2Fn%2Fm%2Fx", DIRECTORY, b""),
        ("t%2Fs", DIRECTORY, b""),
        ("t%2Fs%2Fb", OCTETS, b"yo\n"),
        ("top", DIRECTORY, b""),
    ];
    let added = rpc.upload("add?empty-dirs=false", &tree).await;
    let told = |name: &str| added.iter().find(|one| one["Name"] == name).map(|one| one["Hash"].clone());
    // As Kubo 0.43 says it: of directories below each other the innermost is left out.
    assert_eq!(told("t").unwrap(), "QmRHcMJjAYC1sazcLunKmnUTSRiKpjRW6fKiYtLNbKaJvp");
    assert_eq!(told("t/n").unwrap(), "Qmam5UHa9DfHEVxoXzZMqBVLb9Y8wbUwLXBtvtCTEFLSZK");
    assert!(told("t/e").is_none() && told("t/n/m/x").is_none() && told("top").is_some(), "{added:?}");
    let wrapped = rpc.upload("add?empty-dirs=false&wrap-with-directory=true", &tree).await;
    let root = wrapped.last().unwrap();
    assert_eq!(
        (&root["Name"], &root["Hash"]),
        (&json!(""), &json!("QmTF2i21qkRtgGh91QB67yMeE4LGBgVUfYpCqsnx9h6NRJ"))
    );
    let added = rpc.upload("add?empty-dirs=true", &tree).await;
    assert!(
        added.iter().any(|one| one["Hash"] == "QmQoQUCeJtznaX7osRQW8eKuuEmLZdF2kEBMz5FWyBfEK5"),
        "{added:?}"
    );
}

async fn rpc_add_refuses_file_names_that_it_cannot_keep() {
    let rpc = Rpc::start(&[]);
    let refused = rpc.send("add", &[("a%FFb", OCTETS, b"x")]).await;
    assert_eq!(refusal(refused).await, (500, "invalid file name \"a\u{fffd}b\": expected UTF-8".into()));
    // As Kubo's command line sends it to a server that is not Kubo.
    let header = format!("{OCTETS}\r\nAbspath: /tmp/new\nline");
    let (status, message) = refusal(rpc.send("add", &[("new%0Aline", &header, b"x")]).await).await;
    assert!(status == 500 && message.contains("a file whose path has a line break"), "{message}");
    let added = rpc.upload("add", &[("new%0Aline", OCTETS, b"x")]).await;
    assert_eq!(added[0]["Name"], "new\nline");
}

async fn rpc_block_put_refuses_truncated_digests() {
    let rpc = Rpc::start(&[]);
    let part = [("x", OCTETS, &b"x"[..])];
    let whole = rpc.upload("block/put?mhlen=32", &part).await;
    assert_eq!(whole, rpc.upload("block/put?mhlen=-1", &part).await);
    for length in ["20", "33", "0"] {
        let (status, message) = refusal(rpc.send(&format!("block/put?mhlen={length}"), &part).await).await;
        assert!(
            status == 400 && message.starts_with(&format!("mhlen {length} is not supported")),
            "{message}"
        );
    }
}

async fn rpc_refs_shows_edges_also_where_the_default_format_is_sent() {
    let rpc = Rpc::start(&[]);
    let added = rpc.upload("add?wrap-with-directory=true", &[("a", OCTETS, b"hi\n")]).await;
    let [file, root] = [0, 1].map(|n| added[n]["Hash"].as_str().unwrap());
    let first = async |options: &str| -> Value {
        let refs = rpc.bytes(&format!("refs?arg={root}&{options}")).await;
        serde_json::from_slice::<Value>(&refs).unwrap()["Ref"].clone()
    };
    assert_eq!(first("edges=true&format=%3Cdst%3E&max-depth=-1").await, format!("{root} -> {file}"));
    assert_eq!(first("edges=true&recursive=true").await, format!("{root} -> {file}"));
    assert_eq!(first("format=%3Clinkname%3E").await, "a");
    let both = rpc.failure(&format!("refs?arg={root}&edges=true&format=%3Csrc%3E")).await;
    assert_eq!(both, "using format argument with edges is not allowed");
}

async fn rpc_direct_pin_does_not_replace_a_recursive_one() {
    let rpc = Rpc::start(&[]);
    let cid = rpc.add("", b"pinned").await;
    let refused = rpc.failure(&format!("pin/add?arg={cid}&recursive=false")).await;
    assert_eq!(refused, format!("pin: {cid} already pinned recursively"));
    assert_eq!(rpc.json(&format!("pin/ls?arg={cid}")).await["Keys"][&cid]["Type"], "recursive");
    rpc.json(&format!("pin/rm?arg={cid}")).await;
    rpc.json(&format!("pin/add?arg={cid}&recursive=false")).await;
    assert_eq!(rpc.json(&format!("pin/ls?arg={cid}&type=direct")).await["Keys"][&cid]["Type"], "direct");
}

async fn rpc_offline_commands_ask_no_peer() {
    let one = Rpc::start(&[]);
    let cid = one.add("cid-version=1", &noise(3 << 20)).await;
    let tree = one.upload("add?wrap-with-directory=true", &[("a", OCTETS, b"in it")]).await;
    let tree = tree[1]["Hash"].as_str().unwrap();
    let other = Rpc::start(&["--peer", one.node.address()]);
    let commands = |cid: &str, tree: &str| {
        [
            format!("cat?arg={cid}"),
            format!("cat?arg={tree}/a"),
            format!("get?arg={cid}"),
            format!("get?arg={tree}"),
            format!("ls?arg={tree}"),
            format!("refs?arg={tree}"),
            format!("refs?arg={tree}&recursive=true"),
            format!("resolve?arg={tree}/a"),
            format!("dag/get?arg={tree}"),
            format!("dag/stat?arg={cid}"),
            format!("dag/export?arg={cid}"),
            format!("block/get?arg={cid}"),
            format!("block/stat?arg={cid}"),
            format!("files/stat?arg=/ipfs/{cid}"),
            format!("pin/add?arg={cid}"),
            format!("pin/add?arg={cid}&recursive=false"),
        ]
    };
    for command in commands(&cid, tree) {
        let message = other.failure(&format!("{command}&offline=true")).await;
        let expected = "block was not found locally (offline): ipld: could not find ";
        assert!(message.starts_with(expected), "{command}: {message}");
    }
    // The root alone is not enough.
    other.bytes(&format!("block/get?arg={cid}")).await;
    for command in ["cat", "get", "dag/export", "pin/add"] {
        let message = other.failure(&format!("{command}?arg={cid}&offline=true")).await;
        assert!(message.contains("(offline)") && !message.contains(&cid), "{command}: {message}");
    }
    for command in commands(&cid, tree).iter().chain(&commands(&cid, tree).map(|line| line + "&offline=true"))
    {
        if !command.contains("recursive=false") {
            assert!(!other.bytes(command).await.is_empty(), "{command}");
        }
    }
    for command in ["swarm/connect", "routing/findprovs", "routing/findpeer", "name/publish"] {
        let message = other.failure(&format!("{command}?arg={cid}&offline=true")).await;
        assert_eq!(message, format!("the option \"offline\" is not supported by {command}"));
    }
}

async fn rpc_offline_name_is_resolved_only_where_it_is_published_here() {
    let one = Rpc::start(&[]);
    let cid = one.add("", b"named").await;
    let name = one.json(&format!("name/publish?arg={cid}&allow-offline=true")).await["Name"].clone();
    let name = name.as_str().unwrap();
    assert_eq!(one.bytes(&format!("cat?arg=/ipns/{name}&offline=true")).await, b"named");
    for recursive in [true, false] {
        let resolved = one.json(&format!("name/resolve?arg={name}&offline=true&recursive={recursive}")).await;
        assert_eq!(resolved["Path"], format!("/ipfs/{cid}"));
    }
    let other = Rpc::start(&["--peer", one.node.address()]);
    for command in ["cat?arg=/ipns", "name/resolve?recursive=false&arg=/ipns"] {
        let message = other.failure(&format!("{command}/{name}&offline=true")).await;
        assert!(message.starts_with("could not resolve name (offline): "), "{message}");
    }
}

async fn rpc_cids_are_written_in_the_base_that_the_client_wants() {
    let rpc = Rpc::start(&[]);
    let v1 = "bafybeifdmflkybo26fnmpxrcoakgaeax4yrt2kftctbcz3zz6uz3c5p3xy";
    assert_eq!(rpc.add("", b"hi\n").await, "QmZLRFWaz9Kypt2ACNMDzA5uzACDRiCqwdkNSP1UZsu56D");
    assert_eq!(rpc.add("cid-base=base32", b"hi\n").await, v1);
    assert_eq!(rpc.add("upgrade-cidv0-in-output=true", b"hi\n").await, v1);
    let leaf = rpc.add("cid-base=base58btc&cid-version=1", b"hi\n").await;
    assert_eq!(leaf, "zb2rhgwCVg3iEfvDBxYToAHjm9CXPvZus7Sc9JbjUKuL327yu");
    let base = "cid-base=base32";
    assert_eq!(rpc.json(&format!("files/stat?arg=/ipfs/{v1}&{base}")).await["Hash"], v1);
    let v0 = "QmZLRFWaz9Kypt2ACNMDzA5uzACDRiCqwdkNSP1UZsu56D";
    assert_eq!(rpc.json(&format!("resolve?arg={v0}&{base}")).await["Path"], format!("/ipfs/{v1}"));
    assert_eq!(rpc.json(&format!("block/stat?arg={v0}&{base}")).await["Key"], v1);
    assert_eq!(rpc.json(&format!("pin/ls?arg={v0}&{base}")).await["Keys"][v1]["Type"], "recursive");
    assert_eq!(rpc.json(&format!("pin/rm?arg={v0}&{base}")).await["Pins"], json!([v1]));
    assert!(rpc.failure(&format!("ls?arg={v0}&cid-base=nope")).await.contains("unsupported multibase"));
    for command in ["key/list?ipns-base=b58mh", "id?peerid-base=base32"] {
        let (status, message) = refusal(rpc.post(command).await).await;
        assert!(status == 400 && message.contains("is not supported"), "{message}");
    }
    rpc.json("key/list?ipns-base=base36").await;
    rpc.json("id?peerid-base=b58mh").await;
}

async fn rpc_get_has_the_modes_and_times_of_files() {
    let rpc = Rpc::start(&[]);
    let files = [("a", OCTETS, &b"hi\n"[..])];
    let options = "mode=0640&mtime=86400&mtime-nsecs=5&wrap-with-directory=true";
    let added = rpc.upload(&format!("add?{options}"), &files).await;
    let root = added[1]["Hash"].as_str().unwrap();
    let archive = rpc.bytes(&format!("get?arg={root}")).await;
    let mut archive = tar::Archive::new(Cursor::new(archive));
    let mut seen = 0;
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        assert_eq!((entry.header().mode().unwrap(), entry.header().mtime().unwrap()), (0o640, 86_400));
        let records = entry.pax_extensions().unwrap().expect("PAX records");
        let times: Vec<_> = records.map(|record| record.unwrap().value().unwrap().to_owned()).collect();
        assert_eq!(times, ["86400.000000005"]);
        seen += 1;
    }
    assert_eq!(seen, 2);
    let plain = rpc.add("", b"hi\n").await;
    let mut archive = tar::Archive::new(Cursor::new(rpc.bytes(&format!("get?arg={plain}")).await));
    let entry = archive.entries().unwrap().next().unwrap().unwrap();
    assert!(entry.header().mode().unwrap() == 0o644 && entry.header().mtime().unwrap() > 86_400);
}
