//! Lines of the audit log beside those of pushes: logins without a password, the RPC, commands, and what rules deny.

use std::path::PathBuf;

use libtest_mimic::Trial;
use serde_json::Value;
use tempfile::TempDir;

use super::{
    audited::{Received, lines, push},
    basic, users,
};
use crate::{
    access::Ruled,
    harness::{Serve, trials, until},
    http::{ask, get},
    names::image::Image,
    rpc::Rpc,
};

pub fn trials() -> Vec<Trial> {
    trials![
        wrong_and_revoked_bearer_tokens_are_lines_of_the_audit_log,
        failed_logins_of_the_rpc_are_lines_of_the_audit_log_with_the_address,
        tokens_and_repositories_changed_by_command_are_lines_of_the_audit_log_and_webhooks,
        what_rules_deny_a_user_is_one_line_of_the_audit_log,
    ]
}

/// Where an audit log goes, and the flags of it.
fn audit(dir: &TempDir) -> (PathBuf, String) {
    let path = dir.path().join("audit");
    (path.clone(), path.to_str().expect("UTF-8").into())
}

fn texts(all: &[Value], key: &str) -> Vec<String> {
    all.iter().map(|line| line[key].as_str().unwrap_or_default().to_owned()).collect()
}

async fn wrong_and_revoked_bearer_tokens_are_lines_of_the_audit_log() {
    let dir = tempfile::tempdir().unwrap();
    let users = users(&dir.path().join("users"), &[("me", "secret")]);
    let (path, flag) = audit(&dir);
    let node = Serve::start(&["--htpasswd", &users, "--pull", "users", "--audit-log", &flag]);
    let secret = node.ask(&["-q", "token", "create", "ci", "--repo", "*"]);
    let greet = async |token: &str| {
        ask("GET", &node.url("/v2/"), &[("authorization", &format!("Bearer {token}"))]).await.status
    };
    assert_eq!(greet(&secret).await, 200);
    node.ask(&["token", "revoke", "ci"]);
    for token in [secret.as_str(), "nonsense", "ocipfs_nonsense", "nonsense"] {
        assert_eq!(greet(token).await, 401, "{token}");
    }
    // These show no login, so none failed.
    assert_eq!(get(&node.url("/v2/app/tags/list")).await.status, 401);
    let anonymous = ask("GET", &node.url("/token"), &[]).await.json();
    let anonymous = format!("Bearer {}", anonymous["token"].as_str().unwrap());
    let refused = ask("GET", &node.url("/v2/app/tags/list"), &[("authorization", &anonymous)]).await;
    assert_eq!(refused.status, 401);
    // What comes later is written later.
    let login = basic("me", "wrong");
    assert_eq!(ask("GET", &node.url("/v2/"), &[("authorization", &login)]).await.status, 401);
    until("the last line is written", || texts(&lines(&path), "user").contains(&"me".into())).await;
    let all = lines(&path);
    // The same token again is the same line for a minute.
    let failed = ["login-failed"; 4];
    assert_eq!(texts(&all, "action"), [&["token-create", "token-revoke"][..], &failed].concat());
    assert_eq!(texts(&all, "user")[2..], ["", "", "", "me"]);
    for line in &all[2..] {
        assert!(line["client"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
    }
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains(&secret) && !node.log().contains(&secret), "{text}");
    assert!(node.log().contains("login failed client=127.0.0.1:"), "{}", node.log());
}

async fn failed_logins_of_the_rpc_are_lines_of_the_audit_log_with_the_address() {
    let dir = tempfile::tempdir().unwrap();
    let users = users(&dir.path().join("users"), &[("me", "secret")]);
    let (path, flag) = audit(&dir);
    let rpc = Rpc::start(&["--rpc-htpasswd", &users, "--audit-log", &flag]);
    let url = format!("{}/api/v0/version", rpc.url());
    let status = async |headers: &[(&str, &str)]| ask("POST", &url, headers).await.status;
    assert_eq!(status(&[("authorization", &basic("me", "secret"))]).await, 200);
    assert_eq!(status(&[]).await, 401, "it shows no login");
    assert_eq!(status(&[("authorization", "Bearer nonsense")]).await, 401);
    assert_eq!(status(&[("authorization", &basic("me", "wrong"))]).await, 401);
    until("both lines are written", || lines(&path).len() == 2).await;
    let all = lines(&path);
    assert_eq!(texts(&all, "action"), ["login-failed"; 2]);
    assert_eq!(texts(&all, "user"), ["", "me"]);
    assert!(texts(&all, "client").iter().all(|client| client.starts_with("127.0.0.1:")), "{all:?}");
}

async fn tokens_and_repositories_changed_by_command_are_lines_of_the_audit_log_and_webhooks() {
    let dir = tempfile::tempdir().unwrap();
    let (received, (path, flag)) = (Received::default(), audit(&dir));
    let (url, _receiver) = received.start(0).await;
    let node = Serve::start(&["--audit-log", &flag, "--webhook", &url]);
    let image = Image::of("commanded", 1000);
    let digest = push(&node, "", "team/app 1", &image.manifest, &image.blobs()).await;
    push(&node, "", "team/app 2", &image.manifest, &[]).await;
    node.ask(&["token", "create", "ci", "--repo", "team/*"]);
    node.ask(&["token", "revoke", "ci"]);
    assert_eq!(node.command(&["token", "revoke", "ci"]).code, Some(1), "what fails is not told");
    node.ask(&["repo", "rm", "team/app:1"]);
    node.ask(&["repo", "rm", "team/app"]);
    until("all lines are written", || lines(&path).len() == 6).await;
    let all = lines(&path);
    assert_eq!(texts(&all, "action"), ["push", "push", "token-create", "token-revoke", "delete", "delete"]);
    let commanded = &all[2..];
    assert_eq!(texts(commanded, "token"), ["ci", "ci", "", ""]);
    assert_eq!(texts(commanded, "repository"), ["", "", "team/app", "team/app"]);
    assert_eq!(texts(commanded, "reference"), ["", "", "1", ""]);
    assert_eq!(texts(commanded, "digest"), ["", "", digest.as_str(), ""]);
    let uid = format!("uid:{}", rustix::process::getuid().as_raw());
    for line in commanded {
        assert_eq!(
            (&line["user"], &line["client"]),
            (&uid.as_str().into(), &"control-socket".into()),
            "{line}"
        );
    }
    until("the webhooks are told", || received.all().len() == 4).await;
    let told: Vec<Value> =
        received.all().iter().map(|(_, body)| serde_json::from_slice(body).unwrap()).collect();
    assert_eq!(texts(&told[2..], "type"), ["io.ocipfs.delete"; 2]);
    assert_eq!(texts(&told[2..], "subject"), [format!("team/app@{digest}"), "team/app".into()]);
    // The node ends although a command could have come still.
    assert!(crate::harness::blocking(move || node.stop()).await.success());
}

async fn what_rules_deny_a_user_is_one_line_of_the_audit_log() {
    let dir = tempfile::tempdir().unwrap();
    let (path, flag) = audit(&dir);
    let ruled = Ruled::with(crate::access::RULES, &["--audit-log", &flag]);
    ruled.of("alice").push("team/app", "1", b"layer").await;
    let bob = ruled.of("bob");
    for _ in 0..3 {
        assert_eq!(bob.get("/v2/team/app/manifests/1").await.status, 403);
    }
    assert_eq!(bob.upload("team/app", b"layer").await.status, 403);
    assert_eq!(bob.ask("DELETE", "/v2/team/app/manifests/1").await.status, 403);
    // Without a login there is a challenge, and what is not there is not denied.
    assert_eq!(ruled.of("anonymous").get("/v2/team/app/manifests/1").await.status, 401);
    assert_eq!(bob.get("/v2/bob/app/tags/list").await.status, 404);
    ruled.of("root").ask("DELETE", "/v2/team/app/manifests/1").await;
    until("the last line is written", || texts(&lines(&path), "action").contains(&"delete".into())).await;
    let all = lines(&path);
    assert_eq!(texts(&all, "action"), ["push", "denied", "denied", "denied", "delete"]);
    assert_eq!(texts(&all, "wanted"), ["", "pull", "push", "delete", ""]);
    assert_eq!(texts(&all, "user"), ["alice", "bob", "bob", "bob", "root"]);
    assert_eq!(texts(&all, "repository"), ["team/app"; 5]);
}
