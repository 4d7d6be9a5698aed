//! Kubo imports our CARs, and Helia's verified fetch reads files from our gateway.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::Added;
use crate::{
    clients::KUBO,
    harness::{blocking, trials},
    http::get,
    peers::fetch,
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

fn kubo(repository: &Path, args: &[&str]) -> Vec<u8> {
    let mut command = Command::new(KUBO.program());
    let done = command.args(args).env("IPFS_PATH", repository).env("IPFS_TELEMETRY", "off").output().unwrap();
    assert!(done.status.success(), "ipfs {}: {}", args.join(" "), String::from_utf8_lossy(&done.stderr));
    done.stdout
}

async fn kubo_imports_a_car_and_reads_the_file() {
    let Added { node, path, bytes, .. } = Added::new();
    for query in ["", "&car-dups=y", "&dag-scope=entity"] {
        let dir = tempfile::tempdir().unwrap();
        let car = get(&node.url(&format!("/ipfs/{path}?format=car{query}"))).await;
        let file = dir.path().join("dag.car");
        fs::write(&file, &car.body).unwrap();
        let (path, bytes) = (path.clone(), bytes.clone());
        blocking(move || {
            let repository = dir.path().join("kubo");
            kubo(&repository, &["init", "--profile", "test"]);
            kubo(&repository, &["--offline", "dag", "import", "--pin-roots=false", file.to_str().unwrap()]);
            assert!(kubo(&repository, &["--offline", "cat", &path]) == bytes);
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

/// A daemon of Kubo.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Daemon {
    fn start(repository: &Path, router: &str) -> Self {
        kubo(repository, &["init", "--profile", "test"]);
        for (key, value) in [
            ("Bootstrap", "[]".to_owned()),
            ("AutoConf.Enabled", "false".into()),
            ("AutoTLS.Enabled", "false".into()),
            ("Swarm.RelayClient.Enabled", "false".into()),
            ("Swarm.DisableNatPortMap", "true".into()),
            ("DNS.Resolvers", "{}".into()),
            ("Discovery.MDNS.Enabled", "false".into()),
            ("Ipns.DelegatedPublishers", "[]".into()),
            // A node that only asks a delegated router announces nothing.
            ("Provide.Enabled", "false".into()),
            ("Routing.Type", "\"delegated\"".into()),
            ("Routing.DelegatedRouters", format!("[{router:?}]")),
            ("Addresses.API", "\"/ip4/127.0.0.1/tcp/0\"".into()),
            ("Addresses.Gateway", "[]".into()),
            ("Addresses.Swarm", "[]".into()),
        ] {
            kubo(repository, &["config", "--json", key, &value]);
        }
        let mut command = Command::new(KUBO.program());
        command.arg("daemon").env("IPFS_PATH", repository).env("IPFS_TELEMETRY", "off");
        let log = fs::File::create(repository.join("daemon.log")).unwrap();
        let daemon = Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap());
        let begin = Instant::now();
        while !repository.join("api").exists() {
            assert!(begin.elapsed() < Duration::from_secs(60), "Kubo's daemon does not start");
            thread::sleep(Duration::from_millis(50));
        }
        daemon
    }
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
        let dir = tempfile::tempdir().unwrap();
        let _daemon = Daemon::start(dir.path(), &router);
        assert!(kubo(dir.path(), &["cat", &path]) == bytes);
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
