use std::{fs, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};
use libtest_mimic::Trial;

use super::Repository;
use crate::{
    harness::{Serve, finish, ocipfs, trials},
    http::{ask, get, send},
};

pub fn trials() -> Vec<Trial> {
    trials![
        an_anonymous_push_on_a_public_listener_is_denied_without_htpasswd,
        htpasswd_users_push_and_anonymous_clients_pull,
        requests_with_a_foreign_origin_header_are_denied,
        an_invalid_or_empty_htpasswd_file_is_rejected_at_start,
    ]
}

/// `me`, with the password `secret`.
fn users(dir: &Path) -> String {
    let path = dir.join("users");
    fs::write(&path, format!("me:{}\n", bcrypt::hash("secret", 5).expect("a hash"))).expect("a file");
    path.to_str().expect("UTF-8").into()
}

async fn an_anonymous_push_on_a_public_listener_is_denied_without_htpasswd() {
    let node = Serve::start(&["--listen", "0.0.0.0:0"]);
    let a = Repository::new(&node, "a");
    let answer = ask("POST", &a.url("blobs/uploads/"), &[]).await;
    answer.refused(403, "DENIED", &["--htpasswd"]);
    ask("DELETE", &a.url("manifests/x"), &[]).await.refused(403, "DENIED", &["--htpasswd"]);
    assert_eq!(get(&node.url("/v2/")).await.status, 200);
}

async fn htpasswd_users_push_and_anonymous_clients_pull() {
    let dir = tempfile::tempdir().unwrap();
    let node = Serve::start(&["--listen", "0.0.0.0:0", "--htpasswd", &users(dir.path())]);
    let a = Repository::new(&node, "a");
    let basic = |login: &str| format!("Basic {}", STANDARD.encode(login));
    let digest = ocipfs_oci::Digest::sha256_of(b"blob");
    let url = a.url(&format!("blobs/uploads/?digest={digest}"));
    for headers in
        [vec![], vec![("authorization", basic("me:other"))], vec![("authorization", "Bearer x".into())]]
    {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        for (method, url) in [("POST", &url), ("GET", &node.url("/v2/"))] {
            let answer = send(method, url, &headers, "blob").await;
            answer.refused(401, "UNAUTHORIZED", &["docker login"]);
            let challenge = format!("Bearer realm=\"http://{}/token\",service=\"ocipfs\"", node.registry());
            assert!(answer.header("www-authenticate").starts_with(&challenge), "{answer:?}");
        }
    }
    let login = basic("me:secret");
    for _ in 0..2 {
        assert_eq!(send("POST", &url, &[("authorization", &login)], "blob").await.status, 201);
    }
    assert_eq!(ask("GET", &node.url("/v2/"), &[("authorization", &login)]).await.status, 200);
    a.has(b"blob").await;
    // What docker does: a user's token pushes, anybody's is good for all but that.
    let token = async |headers: &[(&str, &str)]| {
        let answer =
            ask("GET", &node.url("/token?service=ocipfs&scope=repository:a:pull,push"), headers).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        format!("Bearer {}", answer.json()["token"].as_str().expect("a token"))
    };
    let (mine, anybody) = (token(&[("authorization", &login)]).await, token(&[]).await);
    for (token, pushes) in [(mine, 201), (anybody, 401)] {
        let headers = [("authorization", token.as_str())];
        assert_eq!(ask("GET", &node.url("/v2/"), &headers).await.status, 200);
        let answer = send("POST", &url, &headers, "blob").await;
        assert_eq!(answer.status, pushes, "{answer:?}");
        if pushes == 401 {
            let scope = "scope=\"repository:a:pull,push\"";
            let challenge = answer.header("www-authenticate");
            assert!(challenge.contains(scope) && challenge.contains("insufficient_scope"), "{answer:?}");
        }
    }
    let wrong = basic("me:other");
    let refused = ask("GET", &node.url("/token"), &[("authorization", &wrong)]).await;
    refused.refused(401, "UNAUTHORIZED", &["docker login"]);
    get(&Serve::start(&[]).url("/token")).await.refused(404, "UNSUPPORTED", &[]);
}

async fn requests_with_a_foreign_origin_header_are_denied() {
    let node = Serve::start(&[]);
    let a = Repository::new(&node, "a");
    a.push_image("x", b"layer").await;
    let origin = [("origin", "http://localhost:3000")];
    for (method, path) in [
        ("POST", "blobs/uploads/"),
        ("PUT", "manifests/x"),
        ("DELETE", "manifests/x"),
        ("GET", "manifests/x"),
        ("GET", "tags/list"),
    ] {
        ask(method, &a.url(path), &origin).await.refused(403, "DENIED", &["web pages"]);
    }
    assert_eq!(a.get("manifests/x").await.status, 200);
}

async fn an_invalid_or_empty_htpasswd_file_is_rejected_at_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("users");
    for (text, told) in [("me:secret", "line 1"), ("", "no users")] {
        fs::write(&path, text).unwrap();
        let mut serve = ocipfs(&dir.path().join("node"));
        let said = finish(serve.args(["serve", "--htpasswd"]).arg(&path).args(["--listen", "127.0.0.1:0"]));
        said.failed(2, &[told, "hint: `htpasswd -B"]);
    }
}
