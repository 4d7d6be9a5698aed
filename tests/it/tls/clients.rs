//! Container clients that show a certificate.

use std::{fs, path::Path, process::Command};

use libtest_mimic::Trial;

use super::secured;
use crate::{
    authority::{Authority, Pair},
    clients::{Podman, Skopeo, installed, search_path},
    harness::{Serve, blocking, trials},
    names::program_layer,
};

pub fn trials() -> Vec<Trial> {
    [
        trials![needs installed(&[("curl", "curl")]); curl_shows_a_client_certificate_over_http2],
        trials![needs Skopeo::available(); skopeo_copies_with_a_client_certificate],
        trials![needs Podman::available(); podman_pushes_and_pulls_with_a_client_certificate],
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A node that requires certificates, and one for its clients.
fn node() -> (Serve, Authority, Pair) {
    let authority = Authority::new();
    let (pair, ca) = (authority.server("node", &["localhost", "127.0.0.1"]), authority.path());
    let node = secured(&pair, &["--client-ca", ca.to_str().unwrap()]);
    let client = authority.client("ci", "ci");
    (node, authority, client)
}

/// Writes a directory of certificates as clients look for it.
fn directory(dir: &Path, authority: &Authority, own: Option<&Pair>) {
    fs::write(dir.join("ca.crt"), authority.pem()).unwrap();
    if let Some(own) = own {
        fs::copy(&own.certificate, dir.join("client.cert")).unwrap();
        fs::copy(&own.key, dir.join("client.key")).unwrap();
    }
}

/// A layout of one image that runs, at `dir`.
fn layout(dir: &Path, skopeo: &Skopeo, node: &Serve, certificates: &Path) -> String {
    let tar = dir.join("layer.tar");
    fs::write(&tar, program_layer(dir, "hello over TLS")).unwrap();
    let reference = node.ask(&["-q", "layer", "add", tar.to_str().unwrap()]);
    let to = format!("oci:{}:1", dir.join("layout").display());
    skopeo.copy_over_tls(certificates, &format!("docker://{reference}"), &to).unwrap();
    to
}

async fn curl_shows_a_client_certificate_over_http2() {
    let (node, authority, own) = node();
    let curl = |more: &[&str]| {
        let mut command = Command::new("curl");
        command.env("PATH", search_path()).args([
            "-s",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code} %{http_version}",
        ]);
        command
            .arg("--cacert")
            .arg(authority.path())
            .args(more)
            .arg(format!("https://{}/v2/", node.registry()));
        let output = command.output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    assert_eq!(curl(&["--cert", own.certificate(), "--key", own.key()]), (true, "200 2".into()));
    assert!(!curl(&[]).0, "without a certificate there is no connection");
}

async fn skopeo_copies_with_a_client_certificate() {
    blocking(|| {
        let (node, authority, own) = node();
        let [with, without, files] = [(); 3].map(|()| tempfile::tempdir().unwrap());
        directory(with.path(), &authority, Some(&own));
        directory(without.path(), &authority, None);
        let skopeo = Skopeo::new().unwrap();
        let from = layout(files.path(), &skopeo, &node, with.path());
        let to = format!("docker://{}/app:1", node.registry());
        skopeo.copy_over_tls(with.path(), &from, &to).unwrap();
        skopeo.copy_over_tls(without.path(), &from, &to).unwrap_err();
        let back = format!("oci:{}:1", files.path().join("back").display());
        skopeo.copy_over_tls(with.path(), &to, &back).unwrap();
    })
    .await;
}

async fn podman_pushes_and_pulls_with_a_client_certificate() {
    blocking(|| {
        let (node, authority, own) = node();
        let [with, without, files] = [(); 3].map(|()| tempfile::tempdir().unwrap());
        directory(with.path(), &authority, Some(&own));
        directory(without.path(), &authority, None);
        let tar = files.path().join("layer.tar");
        fs::write(&tar, program_layer(files.path(), "hello over TLS")).unwrap();
        let reference = node.ask(&["-q", "layer", "add", tar.to_str().unwrap()]);
        let (podman, to) = (Podman::new().unwrap(), format!("{}/app:1", node.registry()));
        podman.pull_over_tls(without.path(), &reference).unwrap_err();
        podman.pull_over_tls(with.path(), &reference).unwrap();
        podman.push_over_tls(with.path(), &reference, &to).unwrap();
        podman.pull_over_tls(with.path(), &to).unwrap();
    })
    .await;
}
