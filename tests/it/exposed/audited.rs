//! The audit log, and webhooks.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use libtest_mimic::Trial;
use ocipfs_oci::{Digest, media_type};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

use super::{basic, users};
use crate::{
    harness::{Serve, trials, until, within},
    http::{ask, send},
    names::image::{Image, descriptor},
};

pub fn trials() -> Vec<Trial> {
    trials![
        pushes_signatures_deletions_tokens_and_failed_logins_are_lines_of_the_audit_log,
        webhooks_are_told_of_pushes_and_deletions_with_a_signature_and_again_until_they_answer,
        a_webhook_that_does_not_answer_holds_up_no_push,
    ]
}

const SOON: Duration = Duration::from_secs(60);

/// Pushes a manifest and its blobs; its digest.
pub async fn push(node: &Serve, login: &str, to: &str, manifest: &[u8], blobs: &[&[u8]]) -> String {
    let (name, reference) = to.split_once(' ').unwrap();
    for bytes in blobs {
        let url = node.url(&format!("/v2/{name}/blobs/uploads/?digest={}", Digest::sha256_of(bytes)));
        assert_eq!(send("POST", &url, &[("authorization", login)], bytes.to_vec()).await.status, 201);
    }
    let headers = [("authorization", login), ("content-type", media_type::OCI_MANIFEST)];
    let url = node.url(&format!("/v2/{name}/manifests/{reference}"));
    let answer = send("PUT", &url, &headers, manifest.to_vec()).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.header("docker-content-digest").into()
}

/// A manifest of notation's type that refers to an image.
fn signature(image: &Image) -> Vec<u8> {
    json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
        "artifactType": "application/vnd.cncf.notary.signature",
        "config": descriptor("application/vnd.oci.empty.v1+json", b"{}"), "layers": [],
        "subject": image.descriptor(),
    })
    .to_string()
    .into()
}

pub fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("JSON on each line")).collect()
}

async fn pushes_signatures_deletions_tokens_and_failed_logins_are_lines_of_the_audit_log() {
    let dir = tempfile::tempdir().unwrap();
    let [audit, rotated] = ["audit", "audit.1"].map(|name| dir.path().join(name));
    let users = users(&dir.path().join("users"), &[("me", "secret")]);
    let node = Serve::start(&["--htpasswd", &users, "--audit-log", audit.to_str().unwrap()]);
    let (image, login) = (Image::of("audited", 1000), basic("me", "secret"));
    let digest = push(&node, &login, "app 1", &image.manifest, &image.blobs()).await;
    let signature = signature(&image);
    let signed =
        push(&node, &login, &format!("app {}", Digest::sha256_of(&signature)), &signature, &[b"{}"]).await;
    let headers = [("authorization", login.as_str()), ("x-forwarded-for", "192.0.2.7")];
    assert_eq!(ask("GET", &node.url("/token"), &headers[..1]).await.status, 200);
    assert_eq!(ask("GET", &node.url("/token"), &[]).await.status, 200, "for anonymous clients: no line");
    let wrong = basic("you\n", "wrong");
    assert_eq!(ask("GET", &node.url("/v2/"), &[("authorization", &wrong)]).await.status, 401);
    assert_eq!(ask("DELETE", &node.url("/v2/app/manifests/1"), &headers).await.status, 202);
    until("all is written", || lines(&audit).len() == 5).await;
    let all = lines(&audit);
    let of = |key: &str| all.iter().map(|line| line[key].clone()).collect::<Vec<_>>();
    assert_eq!(of("action"), ["push", "sign", "token", "login-failed", "delete"]);
    assert_eq!(of("user"), ["me", "me", "me", "you\n", "me"]);
    assert_eq!(all[0]["repository"], "app");
    assert_eq!((&all[0]["reference"], &all[0]["digest"]), (&"1".into(), &digest.clone().into()));
    assert_eq!((&all[1]["digest"], &all[1]["subject"]), (&signed.into(), &digest.into()));
    assert_eq!((&all[4]["reference"], &all[4]["forwarded_for"]), (&"1".into(), &"192.0.2.7".into()));
    for line in &all {
        assert!(line["client"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
        assert!(line["time"].as_str().unwrap().ends_with('Z'), "{line}");
    }
    // What rotates logs renames the file, and sends SIGHUP.
    fs::rename(&audit, &rotated).unwrap();
    node.signal("HUP");
    until("the file is opened again", || audit.exists()).await;
    push(&node, &login, "app 2", &image.manifest, &[]).await;
    until("a line is in the new file", || lines(&audit).len() == 1).await;
    assert_eq!(lines(&rotated).len(), 5);
}

/// A receiver of webhooks.
#[derive(Clone, Default)]
pub struct Received(Arc<Mutex<Vec<(HeaderMap, Bytes)>>>);

impl Received {
    /// Starts one that answers its first requests with an error.
    pub async fn start(&self, errors: usize) -> (String, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let take = async move |State(Received(all)): State<Received>, headers: HeaderMap, body: Bytes| {
            let mut all = all.lock().unwrap();
            all.push((headers, body));
            if all.len() <= errors { StatusCode::BAD_GATEWAY } else { StatusCode::OK }
        };
        let app = Router::new().route("/hook", post(take)).with_state(self.clone());
        (url, tokio::spawn(async { axum::serve(listener, app).await.unwrap() }))
    }

    pub fn all(&self) -> Vec<(HeaderMap, Bytes)> {
        self.0.lock().unwrap().clone()
    }
}

async fn webhooks_are_told_of_pushes_and_deletions_with_a_signature_and_again_until_they_answer() {
    let (received, dir) = (Received::default(), tempfile::tempdir().unwrap());
    let (url, _receiver) = received.start(1).await;
    let secret = dir.path().join("secret");
    fs::write(&secret, "a secret\n").unwrap();
    let node = Serve::start(&["--webhook", &url, "--webhook-secret", secret.to_str().unwrap()]);
    let image = Image::of("told", 1000);
    let digest = push(&node, "", "app 1", &image.manifest, &image.blobs()).await;
    assert_eq!(ask("DELETE", &node.url("/v2/app/manifests/1"), &[]).await.status, 202);
    until("three requests came", || received.all().len() == 3).await;
    let all = received.all();
    let events: Vec<Value> = all.iter().map(|(_, body)| serde_json::from_slice(body).unwrap()).collect();
    assert_eq!(events[0]["id"], events[1]["id"], "the first was sent again");
    assert_eq!(events[1]["type"], "io.ocipfs.push");
    assert_eq!(events[1]["subject"], format!("app@{digest}"));
    assert_eq!(events[1]["source"], format!("http://{}", node.registry()));
    assert_eq!(events[2]["type"], "io.ocipfs.delete");
    assert_eq!(events[2]["data"]["reference"], "1");
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"a secret");
    for (headers, body) in &all {
        assert_eq!(headers["content-type"], "application/cloudevents+json; charset=utf-8");
        let signature = headers["x-hub-signature-256"].to_str().unwrap().strip_prefix("sha256=").unwrap();
        ring::hmac::verify(&key, body, &hex::decode(signature).unwrap()).expect("its signature");
    }
}

async fn a_webhook_that_does_not_answer_holds_up_no_push() {
    // Takes connections, and answers none.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let node = Serve::start(&["--webhook", &url]);
    let image = Image::of("held", 1000);
    within(SOON, async {
        for n in 0..20 {
            push(&node, "", &format!("app {n}"), &image.manifest, &image.blobs()).await;
        }
    })
    .await;
    within(SOON, crate::harness::blocking(move || node.stop())).await;
}
