//! Peers at WebSocket addresses, which some providers have only.

use std::{
    fs,
    path::Path,
    process::{Child, Command},
};

use super::{
    hosts::{Host, KuboHost, Transport, content, until},
    lab::{Lab, run},
};
use crate::clients;

const MIB: usize = 4;

/// nginx ends TLS, and openssl makes the certificates.
pub fn available() -> Result<(), String> {
    clients::installed(&[("nginx", "nginx-light"), ("openssl", "openssl")])
}

fn lab() -> Lab {
    let mut lab = Lab::new();
    lab.host("r", "8.8.10.10/24");
    lab.host("a", "8.8.10.11/24");
    lab
}

/// Without TLS.
pub fn plain() {
    let lab = lab();
    let kubo = KuboHost::websocket(&lab, "r", "0.0.0.0");
    let node = Host::start(&lab, "a", &listen(), &["--bootstrap", "none"]);
    serves(&kubo, &node, "/ip4/8.8.10.10/tcp/4001/ws");
}

/// Behind a proxy that ends TLS, whose certificate is of an authority that the system trusts.
pub fn secure() {
    let lab = lab();
    let dir = tempfile::tempdir().expect("a directory");
    certificates(dir.path());
    let kubo = KuboHost::websocket(&lab, "r", "127.0.0.1");
    let _proxy = Proxy::start(&lab, dir.path());
    let authority = dir.path().join("ca.pem");
    let trusted = [("SSL_CERT_FILE", authority.to_str().expect("UTF-8"))];
    let node = Host::start_with(&lab, "a", &listen(), &["--bootstrap", "none"], &trusted);
    serves(&kubo, &node, "/ip4/8.8.10.10/tcp/4443/tls/sni/peer.example/ws");
}

fn listen() -> [String; 1] {
    [Transport::Tcp.address("0.0.0.0", 4001)]
}

fn serves(kubo: &KuboHost, node: &Host, address: &str) {
    let peer = kubo.peer();
    let address = format!("{address}/p2p/{peer}");
    until("the peer is connected", || {
        node.node.command(&["swarm", "connect", &address]).code.filter(|code| *code == 0)
    });
    let bytes = content(MIB, 0);
    let cid = kubo.kubo.run(&["add", "-Q", "--cid-version=1", &kubo.file(&bytes)]);
    assert!(node.cat(cid.trim()).expect("it is fetched") == bytes);
    let by = node.connected_by(&peer).expect("it is connected");
    assert!(by.contains("/ws"), "{by}");
}

/// Makes an authority, and a certificate for `peer.example`.
fn certificates(dir: &Path) {
    let openssl = |arguments: &str| {
        run(Command::new("openssl").current_dir(dir).args(arguments.split(' ')));
    };
    openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 1 -subj /CN=authority");
    openssl("req -newkey rsa:2048 -nodes -keyout peer.key -out peer.csr -subj /CN=peer.example");
    fs::write(dir.join("names"), "subjectAltName=DNS:peer.example\n").expect("a file");
    openssl(
        "x509 -req -in peer.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out peer.pem -days 1 -extfile names",
    );
}

/// A proxy in front of the peer.
struct Proxy(Child);

impl Proxy {
    fn start(lab: &Lab, dir: &Path) -> Self {
        let settings = dir.join("nginx.conf");
        fs::write(&settings, SETTINGS).expect("a file");
        let mut nginx = lab.command("r", "nginx");
        nginx.arg("-p").arg(dir).arg("-c").arg(settings).args(["-e", "stderr"]);
        Self(nginx.spawn().expect("nginx starts"))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // As its workers end with it.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

const SETTINGS: &str = "
daemon off;
pid nginx.pid;
error_log stderr error;
events {}
http {
  access_log off;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  server {
    listen 8.8.10.10:4443 ssl;
    ssl_certificate peer.pem;
    ssl_certificate_key peer.key;
    location / {
      proxy_pass http://127.0.0.1:4001;
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection upgrade;
      proxy_buffering off;
    }
  }
}
";
