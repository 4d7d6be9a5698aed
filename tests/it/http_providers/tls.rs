//! An HTTP provider over TLS and HTTP/2: nginx in front of a gateway, with a certificate of an authority of its own.

use std::{
    collections::HashMap,
    fs,
    path::Path,
    process::{Child, Command, Stdio},
};

use libtest_mimic::Trial;

use super::{free_port, is_whole, pull, source};
use crate::harness::{Serve, trials, until};

pub fn trials() -> Vec<Trial> {
    trials![a_provider_over_tls_is_trusted_by_the_certificates_of_the_system]
}

/// Runs until it is dropped.
struct Nginx(Child);

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs openssl in `dir`.
fn openssl(dir: &Path, arguments: &str) {
    let done = Command::new("openssl").args(arguments.split(' ')).current_dir(dir).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// Makes an authority `ca.pem`, and a certificate of it for `localhost`.
fn certificates(dir: &Path) {
    openssl(dir, "req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=ca -keyout ca.key -out ca.pem");
    openssl(dir, "req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout key.pem -out request.pem");
    fs::write(dir.join("names"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n").unwrap();
    openssl(
        dir,
        "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile names -out cert.pem",
    );
}

fn nginx(dir: &Path, port: u16, gateway: &str) -> Nginx {
    let at = dir.display();
    let settings = format!(
        "daemon off; worker_processes 1; pid {at}/pid; error_log {at}/error.log;
         events {{}}
         http {{
             access_log {at}/access.log;
             client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/fastcgi;
             uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
             server {{
                 listen 127.0.0.1:{port} ssl http2;
                 ssl_certificate {at}/cert.pem; ssl_certificate_key {at}/key.pem;
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
    certificates(dir.path());
    let port = free_port();
    let _nginx = nginx(dir.path(), port, source.registry());
    until("nginx listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()).await;
    let url = format!("https://localhost:{port}");
    let own = tempfile::tempdir().unwrap();
    let authority = dir.path().join("ca.pem");
    let environment = HashMap::from([("SSL_CERT_FILE", authority.to_str().unwrap())]);
    let node = Serve::start_with(own.path(), &["--http-provider", &url], &environment);
    is_whole(&pull(&node, &layer).await, &layer, &node);
    let log = fs::read_to_string(dir.path().join("access.log")).unwrap();
    assert!(log.contains("HTTP/2.0\" 200"), "{log}");
    // Without the authority it is not trusted.
    let other = Serve::start(&["--http-provider", &url, "--find-timeout", "2s"]);
    assert!(matches!(pull(&other, &layer).await.status, 404 | 504));
    assert!(other.log().to_lowercase().contains("certificate"), "{}", other.log());
}
