//! Kubo imports our CARs, and Helia's verified fetch reads files from our gateway.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    thread,
};

use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::Added;
use crate::{
    clients::KUBO,
    harness::{blocking, trials},
    http::get,
    peers::{fetch, kubo::Kubo},
};

pub fn trials() -> Vec<Trial> {
    [
        trials![needs KUBO.available();
            kubo_imports_a_car_and_reads_the_file,
            kubo_reads_a_file_over_http_from_the_gateway,
        ],
        trials![needs fetch::available(); verified_fetch_reads_files_and_ranges_from_the_gateway],
    ]
    .into_iter()
    .flatten()
    .collect()
}

async fn kubo_imports_a_car_and_reads_the_file() {
    let Added { node, path, bytes, .. } = Added::new();
    for query in ["", "&car-dups=y", "&dag-scope=entity"] {
        let car = get(&node.url(&format!("/ipfs/{path}?format=car{query}"))).await;
        let (path, bytes) = (path.clone(), bytes.clone());
        blocking(move || {
            let kubo = Kubo::offline();
            fs::write(kubo.dir().join("dag.car"), &car.body).unwrap();
            kubo.run(&["--offline", "dag", "import", "--pin-roots=false", "dag.car"]);
            assert!(kubo.bytes(&["--offline", "cat", &path]).unwrap() == bytes);
        })
        .await;
    }
}

/// A delegated router that knows one provider of everything; returns its URL.
fn router(provider: &Value) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let body = json!({ "Providers": [provider] }).to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = BufReader::new(stream.try_clone().unwrap()).lines();
            while head.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
        }
    });
    url
}

async fn kubo_reads_a_file_over_http_from_the_gateway() {
    let Added { node, path, bytes, .. } = Added::new();
    let (_, port) = node.registry().rsplit_once(':').unwrap();
    let provider = json!({
        "Schema": "peer", "ID": node.peer(), "Protocols": ["transport-ipfs-gateway-http"],
        "Addrs": [format!("/ip4/127.0.0.1/tcp/{port}/http")],
    });
    let router = router(&provider);
    let node = blocking(move || {
        let kubo = Kubo::offline();
        let routers = format!("[{router:?}]");
        // A node that only asks a delegated router announces nothing.
        let settings = [
            ("Provide.Enabled", "false"),
            ("Routing.Type", "\"delegated\""),
            ("Routing.DelegatedRouters", routers.as_str()),
        ];
        let _daemon = kubo.daemon(&settings);
        assert!(kubo.bytes(&["cat", &path]).unwrap() == bytes);
        node
    });
    assert_eq!(node.await.status()["sent_blocks"], 0, "nothing came by Bitswap");
}

async fn verified_fetch_reads_files_and_ranges_from_the_gateway() {
    let Added { node, path, bytes, .. } = Added::new();
    let (gateway, out) = (node.url(""), node.data_dir().join("out"));
    fetch::fetch(&gateway, &path, "", &out).await.unwrap();
    assert!(fs::read(&out).unwrap() == bytes);
    fetch::fetch(&gateway, &path, "bytes=1000000-1999999", &out).await.unwrap();
    assert!(fs::read(&out).unwrap() == bytes[1_000_000..2_000_000]);
    let absent = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy";
    assert!(fetch::fetch(&gateway, absent, "", &out).await.is_err());
}
