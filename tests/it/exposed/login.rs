//! `--pull users`: reads need a login as well.

use std::fs;

use libtest_mimic::Trial;

use super::{basic, users};
use crate::{
    clients::{Docker, Podman, Skopeo},
    harness::{Serve, blocking, finish, ocipfs, trials},
    http::{ask, get, send},
    push::{Repository, program},
};

pub fn trials() -> Vec<Trial> {
    [
        trials![
            pulls_need_a_login_or_token_with_pull_users,
            pull_users_requires_htpasswd_and_is_read_from_flag_and_environment
        ],
        trials![needs Docker::available(); docker_pulls_only_after_a_login],
        trials![needs Podman::available(); podman_pulls_only_after_a_login],
        trials![needs Skopeo::available(); skopeo_inspects_and_copies_only_with_a_login],
    ]
    .into_iter()
    .flatten()
    .collect()
}

struct Private {
    node: Serve,
    dir: tempfile::TempDir,
}

impl Private {
    /// A node that only `me` with the password `secret` reads.
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let users = users(&dir.path().join("users"), &[("me", "secret")]);
        let node = Serve::start(&["--htpasswd", &users, "--pull", "users"]);
        Self { node, dir }
    }
}

async fn pulls_need_a_login_or_token_with_pull_users() {
    let Private { node, dir: _dir } = Private::start();
    let a = Repository::new(&node, "a");
    let login = basic("me", "secret");
    let digest = ocipfs_oci::Digest::sha256_of(b"blob");
    let url = a.url(&format!("blobs/uploads/?digest={digest}"));
    assert_eq!(send("POST", &url, &[("authorization", &login)], "blob").await.status, 201);
    let token = async |headers: &[(&str, &str)]| {
        let answer = ask("GET", &node.url("/token?service=ocipfs&scope=repository:a:pull"), headers).await;
        format!("Bearer {}", answer.json()["token"].as_str().expect("a token"))
    };
    let (mine, anybody) = (token(&[("authorization", &login)]).await, token(&[]).await);
    let begun = ask("POST", &a.url("blobs/uploads/"), &[("authorization", &login)]).await;
    let pull = "scope=\"repository:a:pull\"";
    for (url, status, scope) in [
        (a.url(&format!("blobs/{digest}")), 200, pull),
        (a.url("manifests/x"), 404, pull),
        (a.url("tags/list"), 404, pull),
        (a.url(&format!("referrers/{digest}")), 200, pull),
        (a.at(&begun), 204, pull),
        (node.url("/v2/_catalog"), 200, "scope=\"registry:catalog:*\""),
    ] {
        for method in ["GET", "HEAD"] {
            for shown in [None, Some(&anybody), Some(&basic("me", "other"))] {
                let headers: Vec<_> = shown.iter().map(|shown| ("authorization", shown.as_str())).collect();
                let answer = ask(method, &url, &headers).await;
                assert_eq!(answer.status, 401, "{method} {url} {shown:?}");
                let challenge = answer.header("www-authenticate");
                assert!(challenge.starts_with("Bearer realm=") && challenge.contains(scope), "{answer:?}");
            }
            for shown in [&mine, &login] {
                let answer = ask(method, &url, &[("authorization", shown)]).await;
                assert_eq!(answer.status, status, "{method} {url}");
            }
        }
    }
    // Docker asks here whether to log in.
    assert_eq!(get(&node.url("/v2/")).await.status, 401);
    assert_eq!(ask("GET", &node.url("/v2/"), &[("authorization", &mine)]).await.status, 200);
}

async fn pull_users_requires_htpasswd_and_is_read_from_flag_and_environment() {
    let dir = tempfile::tempdir().unwrap();
    let node_dir = dir.path().join("node");
    let serve =
        |flags: &[&str]| finish(ocipfs(&node_dir).args(["serve", "--listen", "127.0.0.1:0"]).args(flags));
    serve(&["--pull", "users"]).failed(2, &["--pull users needs a file of users", "hint: ", "--htpasswd"]);
    serve(&["--pull", "nobody"]).failed(2, &["--pull", "`everybody` or `users`"]);
    let users = users(&dir.path().join("users"), &[("me", "secret")]);
    let environment = [("OCIPFS_PULL", "users"), ("OCIPFS_HTPASSWD", users.as_str())];
    let node = Serve::start_with(&node_dir, &[], &environment.into_iter().collect());
    assert_eq!(get(&node.url("/v2/_catalog")).await.status, 401);
    node.kill();
    let other = dir.path().join("other");
    fs::create_dir(&other).unwrap();
    let config =
        format!("swarm-listen = [\"/ip4/127.0.0.1/tcp/0\"]\nhtpasswd = \"{users}\"\npull = \"users\"\n");
    fs::write(other.join("config.toml"), config).unwrap();
    assert_eq!(get(&Serve::start_in(&other, &[]).url("/v2/_catalog")).await.status, 401);
    assert_eq!(get(&Serve::start_in(&other, &["--pull", "everybody"]).url("/v2/_catalog")).await.status, 200);
}

async fn docker_pulls_only_after_a_login() {
    let Private { node, dir } = Private::start();
    program(dir.path());
    blocking(move || {
        let docker = Docker::start().unwrap();
        let reference = format!("{}/app:1", node.registry());
        docker.build(dir.path(), &reference, false).unwrap();
        docker.login(node.registry(), "me", "secret").unwrap();
        docker.push(&reference).unwrap();
        docker.forget_images().unwrap();
        docker.pull(&reference).unwrap();
        docker.logout(node.registry()).unwrap();
        docker.forget_images().unwrap();
        docker.pull(&reference).unwrap_err();
    })
    .await;
}

async fn podman_pulls_only_after_a_login() {
    let Private { node, dir } = Private::start();
    program(dir.path());
    blocking(move || {
        let podman = Podman::new().unwrap();
        let reference = format!("{}/app:1", node.registry());
        podman.build(dir.path(), &reference).unwrap();
        podman.push(&reference).unwrap_err();
        podman.login(node.registry(), "me", "other").unwrap_err();
        podman.login(node.registry(), "me", "secret").unwrap();
        podman.push(&reference).unwrap();
        podman.forget_images().unwrap();
        podman.pull(&reference).unwrap();
        podman.forget_images().unwrap();
        podman.logout(node.registry()).unwrap();
        podman.pull(&reference).unwrap_err();
    })
    .await;
}

async fn skopeo_inspects_and_copies_only_with_a_login() {
    let Private { node, dir: _dir } = Private::start();
    let login = basic("me", "secret");
    let (a, config) = (Repository::new(&node, "a"), b"{}");
    let authorization = [("authorization", login.as_str())];
    let digest = ocipfs_oci::Digest::sha256_of(config);
    let url = a.url(&format!("blobs/uploads/?digest={digest}"));
    assert_eq!(send("POST", &url, &authorization, config.as_slice()).await.status, 201);
    let image = crate::push::manifest(config, &[]);
    let kind = image["mediaType"].as_str().unwrap();
    let headers = [authorization[0], ("content-type", kind)];
    assert_eq!(send("PUT", &a.url("manifests/x"), &headers, image.to_string()).await.status, 201);
    blocking(move || {
        let skopeo = Skopeo::new().unwrap();
        let reference = format!("{}/a:x", node.registry());
        skopeo.inspect_raw(&reference).unwrap_err();
        skopeo.login(node.registry(), "me", "secret").unwrap();
        assert_eq!(skopeo.inspect_raw(&reference).unwrap(), image.to_string());
        assert!(skopeo.list_tags(&format!("{}/a", node.registry())).unwrap().contains("\"x\""));
        let copy = format!("{}/b:x", node.registry());
        skopeo.push(&format!("docker://{reference}"), &copy).unwrap();
    })
    .await;
}
