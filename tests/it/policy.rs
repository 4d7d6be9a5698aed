//! Signature policies: what is not signed is stored, and served only to those who may sign it.

mod around;
mod clients;
mod followers;
mod forged;
mod generated;
mod rules;
mod signing;
mod told;

use std::fs;

use libtest_mimic::Trial;
use serde_json::json;
use tempfile::TempDir;

use crate::{
    access::{Ruled, Sender},
    harness::Serve,
    push::manifest,
};
use signing::Key;
pub use told::write_layout;

pub fn trials() -> Vec<Trial> {
    [
        around::trials(),
        clients::trials(),
        followers::trials(),
        generated::trials(),
        rules::trials(),
        told::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// All pull; alice pushes, carol signs, root does everything.
const RULES: &str = r#"
[[rule]]
users = ["anonymous"]
repositories = ["*"]
actions = ["pull"]

[[rule]]
users = ["alice"]
repositories = ["team/*", "other/*"]
actions = ["push", "delete"]

[[rule]]
users = ["bob"]
repositories = ["other/*"]
actions = ["push"]

[[rule]]
users = ["carol"]
repositories = ["team/*"]
actions = ["sign"]

[[rule]]
users = ["root"]
repositories = ["*"]
actions = ["admin"]
"#;

/// A node whose images below `team/` have to be signed by a key.
pub struct Policed {
    ruled: Ruled,
    key: Key,
    dir: TempDir,
}

impl Policed {
    pub fn start(arguments: &[&str]) -> Self {
        Self::about("team/*", arguments)
    }

    /// The same, with policies about other repositories.
    pub fn about(pattern: &str, arguments: &[&str]) -> Self {
        let (key, dir) = (Key::make(), tempfile::tempdir().unwrap());
        fs::write(dir.path().join("release.pub"), key.pem()).unwrap();
        let text = format!(
            "[keys.release]\ncosign = \"release.pub\"\n\n[[policy]]\nrepositories = [{pattern:?}]\nkeys = [\"release\"]\n"
        );
        Self::with(key, dir, &text, arguments)
    }

    fn with(key: Key, dir: TempDir, text: &str, arguments: &[&str]) -> Self {
        let path = dir.path().join("policy.toml");
        fs::write(&path, text).unwrap();
        let own = ["--policy", path.to_str().expect("UTF-8")];
        Self { ruled: Ruled::with(RULES, &[&own, arguments].concat()), key, dir }
    }

    pub fn node(&self) -> &Serve {
        &self.ruled.node
    }

    pub fn of(&self, user: &str) -> Sender<'_> {
        self.ruled.of(user)
    }

    /// Has a user push a signature of an image.
    pub async fn sign(&self, user: &str, name: &str, image: &str) {
        sign(&self.of(user), &self.key, name, image).await;
    }

    /// The statuses of a manifest for a reader, the one who pushes, and the one who signs.
    async fn statuses(&self, path: &str) -> [u16; 3] {
        let mut statuses = [0; 3];
        for (status, user) in statuses.iter_mut().zip(["anonymous", "alice", "carol"]) {
            *status = self.of(user).get(path).await.status;
        }
        statuses
    }
}

/// Pushes a signature as cosign does.
async fn sign(sender: &Sender<'_>, key: &Key, name: &str, image: &str) {
    let (payload, signature) = key.sign(image);
    for blob in [b"{}".as_slice(), &payload] {
        assert_eq!(sender.upload(name, blob).await.status, 201);
    }
    let mut signed = manifest(b"{}", &[&payload]);
    let layer = &mut signed["layers"][0];
    layer["mediaType"] = json!("application/vnd.dev.cosign.simplesigning.v1+json");
    layer["annotations"] = json!({ "dev.cosignproject.cosign/signature": signature });
    let tag = format!("{}.sig", image.replace(':', "-"));
    let answer = sender.put(name, &tag, &signed).await;
    assert_eq!(answer.status, 201, "{answer:?}");
}
