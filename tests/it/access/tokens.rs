//! Tokens of the node, and tokens of the token endpoint with their scopes.

use std::fs;

use libtest_mimic::Trial;
use ocipfs_oci::Digest;
use serde_json::Value;

use super::{Ruled, Sender, cid_of};
use crate::{
    exposed::basic,
    harness::{Serve, finish, ocipfs, trials},
    http::ask,
};

pub fn trials() -> Vec<Trial> {
    trials![
        a_token_of_the_node_is_a_password_and_a_bearer_token_for_its_repositories,
        tokens_are_listed_revoked_and_kept_hashed_over_a_restart,
        tokens_work_without_rules_and_beside_local_pushes,
        a_token_of_the_token_endpoint_is_for_its_scopes_only,
        removed_users_and_revoked_tokens_lose_the_tokens_of_the_token_endpoint,
    ]
}

/// Makes a token with these flags.
fn token(node: &Serve, name: &str, flags: &[&str]) -> String {
    node.ask(&[&["-q", "token", "create", name], flags].concat())
}

async fn a_token_of_the_node_is_a_password_and_a_bearer_token_for_its_repositories() {
    let ruled = Ruled::start(&["--find-timeout", "1s"]);
    let secret = token(&ruled.node, "ci", &["--repo", "ci/*", "--actions", "pull,push"]);
    assert!(secret.starts_with("ocipfs_") && secret.len() > 60, "{secret}");
    ruled.of("alice").push("team/app", "1", b"a secret layer").await;
    let login = Sender { node: &ruled.node, authorization: Some(basic("any", &secret)) };
    for client in [ruled.bearer(&secret), login] {
        client.push("ci/app", "1", b"layer").await;
        assert_eq!(client.get("/v2/ci/app/manifests/1").await.status, 200);
        client.ask("DELETE", "/v2/ci/app/manifests/1").await.refused(403, "DENIED", &["ci", "delete ci/app"]);
        assert_eq!(client.get("/v2/team/app/manifests/1").await.status, 403);
        assert_eq!(client.get("/v2/_catalog").await.json()["repositories"], serde_json::json!(["ci/app"]));
        // The same ways around as for users.
        let digest = Digest::sha256_of(b"a secret layer");
        for from in ["", "&from=team/app"] {
            let path = format!("/v2/ci/app/blobs/uploads/?mount={digest}{from}");
            assert_eq!(client.ask("POST", &path).await.status, 202, "{from}");
        }
        let path = format!("/v2/layer/{}/manifests/latest", cid_of(b"a secret layer"));
        assert_eq!(client.get(&path).await.status, 404);
    }
    assert_eq!(ruled.bearer("ocipfs_0").get("/v2/").await.status, 401);
    let expired = token(&ruled.node, "old", &["--repo", "*", "--expires", "1ms"]);
    assert_eq!(ruled.bearer(&expired).get("/v2/").await.status, 401);
    let log = ruled.node.log();
    assert!(log.lines().any(|line| line.contains("pushed") && line.contains("user=\"ci\"")), "{log}");
    assert!(!log.contains(&secret), "{log}");
}

async fn tokens_are_listed_revoked_and_kept_hashed_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let offline = |arguments: &[&str]| finish(ocipfs(dir.path()).args(arguments));
    let said = offline(&[
        "--json",
        "token",
        "create",
        "b",
        "--repo",
        "a,b/*",
        "--actions",
        "pull",
        "--expires",
        "1d",
    ]);
    let made: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|e| panic!("{e}: {said:?}"));
    let secret = made["token"].as_str().unwrap();
    assert_eq!(made["repositories"], serde_json::json!(["a", "b/*"]));
    offline(&["token", "create", "b", "--repo", "x"]).failed(1, &["\"b\" exists", "hint: "]);
    offline(&["token", "create", "b c", "--repo", "x"]).failed(1, &["invalid token name"]);
    offline(&["token", "create", "c", "--repo", "x", "--actions", "write"])
        .failed(2, &["pull, push, delete"]);
    offline(&["token", "revoke", "c"]).failed(1, &["\"c\" not found", "token ls"]);
    let stored = fs::read_to_string(dir.path().join("tokens.json")).unwrap();
    assert!(!stored.contains(secret) && stored.contains("sha256:"), "{stored}");

    let node = Serve::start_in(dir.path(), &["--pull", "everybody"]);
    token(&node, "a", &["--repo", "x"]);
    let listed: Value = serde_json::from_str(&node.command(&["--json", "token", "ls"]).stdout).unwrap();
    let names: Vec<&str> =
        listed.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "b"]);
    assert!(listed[1]["expires"].is_u64() && listed[0]["expires"].is_null(), "{listed}");
    assert_eq!(node.command(&["-q", "token", "ls"]).stdout, "a\nb\n");
    let authorization = format!("Bearer {secret}");
    let greeted = async || ask("GET", &node.url("/v2/"), &[("authorization", &authorization)]).await.status;
    assert_eq!(greeted().await, 200);
    assert_eq!(node.ask(&["token", "revoke", "b"]), "b");
    assert_eq!(greeted().await, 401);
}

async fn tokens_work_without_rules_and_beside_local_pushes() {
    let node = Serve::start(&[]);
    let secret = token(&node, "ci", &["--repo", "ci/*", "--actions", "pull,push"]);
    let client = Sender { node: &node, authorization: Some(format!("Bearer {secret}")) };
    client.push("ci/app", "1", b"layer").await;
    assert_eq!(client.upload("other", b"layer").await.status, 403);
    // Programs on this machine still push without a login.
    Sender { node: &node, authorization: None }.push("other", "1", b"layer").await;
    // Where others connect, a token lets them push, and nothing else does.
    let open = Serve::start(&["--listen", "0.0.0.0:0"]);
    let secret = token(&open, "ci", &["--repo", "ci/*", "--actions", "push"]);
    assert_eq!(Sender { node: &open, authorization: None }.upload("ci/app", b"layer").await.status, 401);
    let client = Sender { node: &open, authorization: Some(format!("Bearer {secret}")) };
    assert_eq!(client.upload("ci/app", b"layer").await.status, 201);
}

/// Fetches a token for these scopes.
async fn scoped(node: &Serve, login: &str, scopes: &[&str]) -> String {
    let scopes: String = scopes.iter().map(|scope| format!("&scope={scope}")).collect();
    let url = node.url(&format!("/token?service=ocipfs{scopes}"));
    let answer = ask("GET", &url, &[("authorization", login)]).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["token"].as_str().expect("a token").into()
}

async fn a_token_of_the_token_endpoint_is_for_its_scopes_only() {
    let ruled = Ruled::start(&[]);
    ruled.of("alice").push("team/app", "1", b"layer").await;
    let challenge = ruled.of("anonymous").get("/v2/team/app/manifests/1").await;
    let challenge = challenge.header("www-authenticate");
    let expected = format!(
        "Bearer realm=\"{}\",service=\"ocipfs\",scope=\"repository:team/app:pull\"",
        ruled.node.url("/token")
    );
    assert_eq!(challenge, expected);
    let pull = scoped(&ruled.node, &basic("alice", "alice"), &["repository:team/app:pull"]).await;
    let client = ruled.bearer(&pull);
    assert_eq!(client.get("/v2/team/app/manifests/1").await.status, 200);
    let refused = client.upload("team/app", b"more").await;
    assert_eq!(refused.status, 401);
    let challenge = refused.header("www-authenticate");
    assert!(
        challenge.contains("repository:team/app:pull,push") && challenge.contains("error="),
        "{challenge}"
    );
    assert_eq!(client.get("/v2/team/other/tags/list").await.status, 401);
    let both = ["repository:team/app:pull,push", "repository:team/other:pull"];
    let client = scoped(&ruled.node, &basic("alice", "alice"), &both).await;
    let client = ruled.bearer(&client);
    assert_eq!(client.upload("team/app", b"more").await.status, 201);
    assert_eq!(client.get("/v2/team/other/tags/list").await.status, 404);
    // A scope gives nothing that the rules do not.
    let stolen = scoped(&ruled.node, &basic("bob", "bob"), &["repository:team/app:pull,push"]).await;
    assert_eq!(ruled.bearer(&stolen).get("/v2/team/app/manifests/1").await.status, 403);
    // Without a login it is for what clients without a login may.
    let anonymous = ask("GET", &ruled.node.url("/token?scope=repository:team/app:pull"), &[]).await;
    let anonymous = anonymous.json()["token"].as_str().unwrap().to_owned();
    let client = ruled.bearer(&anonymous);
    assert_eq!(client.get("/v2/").await.status, 200);
    assert_eq!(client.get("/v2/public/app/tags/list").await.status, 404);
    assert_eq!(client.get("/v2/team/app/manifests/1").await.status, 401);
}

async fn removed_users_and_revoked_tokens_lose_the_tokens_of_the_token_endpoint() {
    let ruled = Ruled::start(&[]);
    let secret = token(&ruled.node, "ci", &["--repo", "team/*"]);
    let of_token = scoped(&ruled.node, &basic("x", &secret), &["repository:team/app:pull"]).await;
    let client = ruled.bearer(&of_token);
    assert_eq!(client.get("/v2/team/app/tags/list").await.status, 404);
    ruled.node.ask(&["token", "revoke", "ci"]);
    assert_eq!(client.get("/v2/team/app/tags/list").await.status, 401);
    let of_user = scoped(&ruled.node, &basic("alice", "alice"), &["repository:team/app:pull"]).await;
    let client = ruled.bearer(&of_user);
    assert_eq!(client.get("/v2/team/app/tags/list").await.status, 404);
    crate::exposed::users(&ruled.dir.path().join("users"), &[("bob", "bob")]);
    ruled.node.signal("HUP");
    crate::harness::within(std::time::Duration::from_secs(10), async {
        while client.get("/v2/team/app/tags/list").await.status != 401 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
}
