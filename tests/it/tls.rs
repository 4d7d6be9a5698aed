//! A registry that speaks HTTPS: certificates by server name, reloaded without a restart, and clients with certificates.

mod acme;
mod bad_input;
mod clients;
mod reloaded;

use std::path::Path;

use libtest_mimic::Trial;
use ocipfs_oci::Digest;
use reqwest::{Client, ClientBuilder, StatusCode, Version, header};
use serde_json::Value;

use crate::{
    authority::{Authority, Pair},
    exposed::{basic, users},
    harness::{Serve, finish, ocipfs, tar_of, trials, until},
    http::raw,
    names::image::Image,
};

pub fn trials() -> Vec<Trial> {
    let own = trials![
        a_registry_with_a_certificate_speaks_https_and_http2_by_alpn,
        a_request_without_tls_is_answered_with_an_error_and_commands_still_find_the_registry,
        the_server_name_chooses_the_certificate,
        a_required_client_certificate_is_the_user_and_there_is_no_connection_without_one,
        an_optional_client_certificate_is_a_login_beside_passwords,
        the_audit_log_tells_who_tried_which_password_over_whose_connection,
        a_login_challenge_over_tls_leads_to_https,
    ];
    [own, acme::trials(), bad_input::trials(), clients::trials(), reloaded::trials()]
        .into_iter()
        .flatten()
        .collect()
}

/// Starts a node that serves this certificate.
fn secured(pair: &Pair, arguments: &[&str]) -> Serve {
    Serve::start(&[&["--tls-cert", pair.certificate(), "--tls-key", pair.key()], arguments].concat())
}

/// A client that trusts an authority and no other.
fn trusting(authority: &Authority) -> ClientBuilder {
    let own = reqwest::Certificate::from_pem(authority.pem().as_bytes()).unwrap();
    Client::builder().tls_certs_only([own])
}

/// The same with a certificate of its own.
fn known(authority: &Authority, own: &Pair) -> Client {
    let read = |path: &Path| std::fs::read(path).unwrap();
    let pem = [read(&own.key), read(&own.certificate)].concat();
    trusting(authority).identity(reqwest::Identity::from_pem(&pem).unwrap()).build().unwrap()
}

fn url(node: &Serve, path: &str) -> String {
    format!("https://{}{path}", node.registry())
}

/// Pushes an image to a tag; the status of the manifest, or of the first refusal.
async fn push(client: &Client, node: &Serve, image: &Image, to: &str, login: Option<&str>) -> StatusCode {
    let (name, tag) = to.split_once(':').unwrap();
    let login = |request: reqwest::RequestBuilder| match login {
        Some(login) => request.header(header::AUTHORIZATION, login),
        None => request,
    };
    for bytes in image.blobs() {
        let path = format!("/v2/{name}/blobs/uploads/?digest={}", Digest::sha256_of(bytes));
        let sent = login(client.post(url(node, &path))).body(bytes.to_vec()).send().await.unwrap();
        if sent.status() != StatusCode::CREATED {
            return sent.status();
        }
    }
    let manifest = client.put(url(node, &format!("/v2/{name}/manifests/{tag}")));
    let manifest = login(manifest).header(header::CONTENT_TYPE, image.media_type);
    manifest.body(image.manifest.clone()).send().await.unwrap().status()
}

/// The certificate that a client sees at a host.
async fn seen(authority: &Authority, node: &Serve, host: &str) -> Vec<u8> {
    let port: u16 = node.registry().rsplit_once(':').unwrap().1.parse().unwrap();
    let client =
        trusting(authority).resolve(host, ([127, 0, 0, 1], port).into()).tls_info(true).build().unwrap();
    let answer = client.get(format!("https://{host}:{port}/v2/")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let info = answer.extensions().get::<reqwest::tls::TlsInfo>().expect("TLS");
    info.peer_certificate().expect("a certificate").to_vec()
}

/// What a PEM file holds.
fn der(pair: &Pair) -> Vec<u8> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    CertificateDer::from_pem_file(&pair.certificate).unwrap().to_vec()
}

async fn a_registry_with_a_certificate_speaks_https_and_http2_by_alpn() {
    let authority = Authority::new();
    let node = secured(&authority.server("node", &["localhost", "127.0.0.1"]), &[]);
    assert_eq!(node.ready["tls"], true);
    let image = Image::of("secured", 3 << 20);
    let both = trusting(&authority).build().unwrap();
    let old = trusting(&authority).http1_only().build().unwrap();
    // Without users, clients on this machine push.
    assert_eq!(push(&both, &node, &image, "app:1", None).await, StatusCode::CREATED);
    assert_eq!(push(&old, &node, &image, "app:2", None).await, StatusCode::CREATED);
    let blob = url(&node, &format!("/v2/app/blobs/{}", Digest::sha256_of(&image.layer)));
    for (client, version) in [(&both, Version::HTTP_2), (&old, Version::HTTP_11)] {
        let answer = client.get(&blob).send().await.unwrap();
        assert_eq!((answer.status(), answer.version()), (StatusCode::OK, version));
        assert!(answer.bytes().await.unwrap() == image.layer);
    }
    let said = node.command(&["status"]);
    assert!(said.stdout.contains(&format!("https://{}", node.registry())), "{said:?}");
    let added = node.ask(&["-q", "layer", "add", tar_of(node.data_dir(), "a.tar", b"a").to_str().unwrap()]);
    assert!(added.starts_with(node.registry()), "the certificate is for that address: {added}");
    let untrusting = trusting(&Authority::new()).build().unwrap();
    assert!(untrusting.get(&blob).send().await.is_err());
}

async fn a_request_without_tls_is_answered_with_an_error_and_commands_still_find_the_registry() {
    let authority = Authority::new();
    let node = secured(&authority.server("node", &["registry.localhost"]), &[]);
    let port = node.registry().rsplit_once(':').unwrap().1.to_owned();
    assert_eq!(node.registry(), format!("registry.localhost:{port}"));
    let address = format!("127.0.0.1:{port}");
    let answer = raw(&address, "GET /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("speaks HTTPS"), "{answer}");
    let other = tempfile::tempdir().unwrap();
    let tar = tar_of(other.path(), "a.tar", b"a");
    let mut command = ocipfs(other.path());
    let said = finish(command.env("OCIPFS_LISTEN", &address).args(["layer", "add"]).arg(tar));
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.stderr.contains(&format!("but a registry answers on {address}")), "{said:?}");
}

async fn the_server_name_chooses_the_certificate() {
    let authority = Authority::new();
    let [one, two] = ["one", "two"].map(|name| authority.server(name, &[&format!("{name}.localhost")]));
    let more = ["--tls-cert", two.certificate(), "--tls-key", two.key()];
    let node = secured(&one, &more);
    let port = node.registry().rsplit_once(':').unwrap().1;
    assert_eq!(node.registry(), format!("one.localhost:{port}"), "references name the first");
    for (host, pair) in [("one.localhost", &one), ("two.localhost", &two)] {
        assert!(seen(&authority, &node, host).await == der(pair), "{host}");
    }
}

async fn a_required_client_certificate_is_the_user_and_there_is_no_connection_without_one() {
    let (authority, other) = (Authority::new(), Authority::new());
    let ca = authority.path();
    let audit = tempfile::NamedTempFile::new().unwrap();
    let arguments = ["--client-ca", ca.to_str().unwrap(), "--audit-log", audit.path().to_str().unwrap()];
    let node = secured(&authority.server("node", &["127.0.0.1"]), &arguments);
    let image = Image::of("known", 1000);
    let me = known(&authority, &authority.client("me", "me@team.example"));
    assert_eq!(push(&me, &node, &image, "app:1", None).await, StatusCode::CREATED);
    for stranger in [trusting(&authority).build().unwrap(), known(&authority, &other.client("me", "me"))] {
        assert!(stranger.get(url(&node, "/v2/")).send().await.is_err());
    }
    until("the refusal is logged", || node.log().contains("client certificate refused")).await;
    let lines = std::fs::read_to_string(audit.path()).unwrap();
    let pushed: Value = serde_json::from_str(lines.lines().next().expect("a line")).unwrap();
    assert_eq!((&pushed["action"], &pushed["user"]), (&"push".into(), &"me@team.example".into()), "{lines}");
}

async fn an_optional_client_certificate_is_a_login_beside_passwords() {
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    let (ca, users) = (authority.path(), users(&dir.path().join("users"), &[("you", "secret")]));
    let arguments = ["--client-ca", ca.to_str().unwrap(), "--htpasswd", &users, "--pull", "users"];
    let node = secured(&authority.server("node", &["127.0.0.1"]), &arguments);
    let image = Image::of("both", 1000);
    let (me, anonymous) =
        (known(&authority, &authority.client("me", "me")), trusting(&authority).build().unwrap());
    let login = basic("you", "secret");
    assert_eq!(push(&me, &node, &image, "app:1", None).await, StatusCode::CREATED);
    assert_eq!(push(&anonymous, &node, &image, "app:2", Some(&login)).await, StatusCode::CREATED);
    assert_eq!(push(&anonymous, &node, &image, "app:3", None).await, StatusCode::UNAUTHORIZED);
    let manifest = url(&node, "/v2/app/manifests/1");
    assert_eq!(me.get(&manifest).send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(anonymous.get(&manifest).send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
}

async fn a_login_challenge_over_tls_leads_to_https() {
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    let users = users(&dir.path().join("users"), &[("me", "secret")]);
    let node = secured(&authority.server("node", &["127.0.0.1"]), &["--htpasswd", &users]);
    for client in [trusting(&authority), trusting(&authority).http1_only()] {
        let answer = client.build().unwrap().get(url(&node, "/v2/")).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        let challenge = answer.headers()[header::WWW_AUTHENTICATE].to_str().unwrap();
        assert!(challenge.contains(&format!("realm=\"{}\"", url(&node, "/token"))), "{challenge}");
    }
}

async fn the_audit_log_tells_who_tried_which_password_over_whose_connection() {
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    let (ca, audit) = (authority.path(), dir.path().join("audit"));
    let users = users(&dir.path().join("users"), &[("me", "secret")]);
    let node = secured(
        &authority.server("node", &["127.0.0.1"]),
        &[
            &["--client-ca", ca.to_str().unwrap(), "--client-cert", "optional"][..],
            &["--htpasswd", &users, "--audit-log", audit.to_str().unwrap()],
        ]
        .concat(),
    );
    let client = known(&authority, &authority.client("robot", "robot"));
    let token = async |login: Option<String>| {
        let request = client.get(url(&node, "/token"));
        let request =
            login.into_iter().fold(request, |request, login| request.header(header::AUTHORIZATION, login));
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(token(Some(basic("me", "secret"))).await, 200);
    assert_eq!(token(Some(basic("boss", "guess"))).await, 401);
    assert_eq!(token(None).await, 200);
    let lines = || std::fs::read_to_string(&audit).unwrap_or_default();
    until("all is written", || lines().lines().count() == 3).await;
    let all: Vec<Value> = lines().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |key: &str| {
        all.iter().map(|line| line[key].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(of("action"), ["token", "login-failed", "token"]);
    assert_eq!(of("user"), ["me", "boss", "robot"]);
    assert_eq!(of("certificate"), ["robot", "robot", ""]);
}
