//! An HTTP provider over TLS and HTTP/2: nginx in front of a gateway, with a certificate of an authority of its own.

use std::{
    collections::HashMap,
    fs,
    path::Path,
    process::{Child, Command, Stdio},
};

use libtest_mimic::Trial;

use super::{is_whole, pull, source};
use crate::{
    authority::{Authority, Pair},
    clients,
    harness::{Serve, trials, until},
    ports::free_port,
};

pub fn trials() -> Vec<Trial> {
    let nginx = || clients::installed(&[("nginx", "nginx-light")]);
    trials![needs nginx(); a_provider_over_tls_is_trusted_by_the_certificates_of_the_system]
}

/// Runs until it is dropped.
struct Nginx(Child);

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn nginx(dir: &Path, pair: &Pair, port: u16, gateway: &str) -> Nginx {
    let (at, certificate, key) = (dir.display(), pair.certificate(), pair.key());
    let settings = format!(
        "daemon off; worker_processes 1; pid {at}/pid; error_log {at}/error.log;
         events {{}}
         http {{
             access_log {at}/access.log;
             client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/fastcgi;
             uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
             server {{
                 listen 127.0.0.1:{port} ssl http2;
                 ssl_certificate {certificate}; ssl_certificate_key {key};
                 location / {{ proxy_pass http://{gateway}; proxy_set_header Host localhost; }}
             }}
         }}"
    );
    fs::write(dir.join("nginx.conf"), settings).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-p").arg(dir).arg("-c").arg(dir.join("nginx.conf"));
    Nginx(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("nginx"))
}

async fn a_provider_over_tls_is_trusted_by_the_certificates_of_the_system() {
    let (source, layer) = source(5 << 20, &[]);
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let pair = authority.server("nginx", &["localhost", "127.0.0.1"]);
    let port = free_port();
    let _nginx = nginx(dir.path(), &pair, port, source.registry());
    until("nginx listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()).await;
    let url = format!("https://localhost:{port}");
    let own = tempfile::tempdir().unwrap();
    let trusted = authority.path();
    let environment = HashMap::from([("SSL_CERT_FILE", trusted.to_str().unwrap())]);
    let node = Serve::start_with(own.path(), &["--http-provider", &url], &environment);
    is_whole(&pull(&node, &layer).await, &layer, &node);
    let log = fs::read_to_string(dir.path().join("access.log")).unwrap();
    assert!(log.contains("HTTP/2.0\" 200"), "{log}");
    // Without the authority it is not trusted.
    let other = Serve::start(&["--http-provider", &url, "--find-timeout", "2s"]);
    assert!(matches!(pull(&other, &layer).await.status, 404 | 504));
    until("the log says why", || other.log().to_lowercase().contains("certificate")).await;
}
