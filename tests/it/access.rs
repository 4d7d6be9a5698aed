//! Access rules and tokens: who may do what, by every way that leads to content.

mod around;
mod clients;
mod oidc;
mod peers;
mod rules;
mod tokens;

use std::{fs, path::Path};

use libtest_mimic::Trial;
use ocipfs_oci::Digest;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    exposed::{basic, users},
    harness::Serve,
    http::{self, Answer},
    push::manifest,
};

pub fn trials() -> Vec<Trial> {
    let stories = [
        around::trials(),
        clients::trials(),
        oidc::trials(),
        peers::trials(),
        rules::trials(),
        tokens::trials(),
    ];
    stories.into_iter().flatten().collect()
}

/// Alice pushes to `team/*`, bob to `bob/*`, carol signs, root does everything; all pull `public/*` and by CIDs.
pub const RULES: &str = r#"
[groups]
developers = ["alice"]

[[rule]]
users = ["anonymous"]
repositories = ["public/*", "ipfs/*", "layer/*"]
actions = ["pull"]

[[rule]]
groups = ["developers"]
repositories = ["team/*", "public/*"]
actions = ["pull", "push"]

[[rule]]
users = ["bob"]
repositories = ["bob/*"]
actions = ["pull", "push", "delete"]

[[rule]]
users = ["carol"]
repositories = ["team/*"]
actions = ["pull", "sign"]

[[rule]]
users = ["root"]
repositories = ["*"]
actions = ["admin"]

[[immutable]]
repositories = ["team/*"]
tags = ["v*"]
"#;
const NAMES: [&str; 4] = ["alice", "bob", "carol", "root"];

/// A node with rules, whose users have their names as passwords.
pub struct Ruled {
    pub node: Serve,
    dir: TempDir,
}

impl Ruled {
    fn start(arguments: &[&str]) -> Self {
        Self::with(RULES, arguments)
    }

    pub fn with(rules: &str, arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let [users, rules] = files(dir.path(), rules);
        let own = ["--htpasswd", &users, "--access-rules", &rules];
        Self { node: Serve::start(&[&own, arguments].concat()), dir }
    }

    fn write(&self, rules: &str) {
        // At once: a file that is half written has other rules for a moment.
        let [path, next] = ["access.toml", "access.next"].map(|name| self.dir.path().join(name));
        fs::write(&next, rules).unwrap();
        fs::rename(next, path).unwrap();
    }

    pub fn of(&self, user: &str) -> Sender<'_> {
        let authorization = (user != "anonymous").then(|| basic(user, user));
        Sender { node: &self.node, authorization }
    }

    fn bearer(&self, token: &str) -> Sender<'_> {
        Sender { node: &self.node, authorization: Some(format!("Bearer {token}")) }
    }
}

/// The files of users and of rules.
fn files(dir: &Path, rules: &str) -> [String; 2] {
    let users = users(&dir.join("users"), &NAMES.map(|name| (name, name)));
    let path = dir.join("access.toml");
    fs::write(&path, rules).unwrap();
    [users, path.to_str().expect("UTF-8").into()]
}

/// A client that sends the same credentials with each request.
pub struct Sender<'a> {
    node: &'a Serve,
    authorization: Option<String>,
}

impl Sender<'_> {
    pub async fn ask(&self, method: &str, path: &str) -> Answer {
        self.send(method, path, "", "").await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path).await
    }

    async fn send(&self, method: &str, path: &str, kind: &str, body: impl Into<reqwest::Body>) -> Answer {
        let mut headers: Vec<(&str, &str)> = Vec::new();
        headers.extend(self.authorization.iter().map(|shown| ("authorization", shown.as_str())));
        headers.extend((!kind.is_empty()).then_some(("content-type", kind)));
        http::send(method, &self.node.url(path), &headers, body).await
    }

    pub async fn upload(&self, name: &str, bytes: &[u8]) -> Answer {
        let path = format!("/v2/{name}/blobs/uploads/?digest={}", Digest::sha256_of(bytes));
        self.send("POST", &path, "application/octet-stream", bytes.to_vec()).await
    }

    pub async fn put(&self, name: &str, reference: &str, json: &Value) -> Answer {
        let kind = json["mediaType"].as_str().expect("a media type");
        self.send("PUT", &format!("/v2/{name}/manifests/{reference}"), kind, json.to_string()).await
    }

    /// Pushes an image of one layer and gives its digest.
    pub async fn push(&self, name: &str, tag: &str, layer: &[u8]) -> String {
        for blob in [b"{}", layer] {
            let answer = self.upload(name, blob).await;
            assert_eq!(answer.status, 201, "{answer:?}");
        }
        let answer = self.put(name, tag, &manifest(b"{}", &[layer])).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.header("docker-content-digest").into()
    }
}

/// The CID of pushed content of one block.
pub fn cid_of(bytes: &[u8]) -> String {
    format!("f01551220{}", Digest::sha256_of(bytes).hex())
}
