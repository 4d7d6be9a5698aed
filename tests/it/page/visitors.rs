//! Who sees what of the page, over HTTP: repositories by the access check of the registry, the node by those who may push.

use std::fs;

use libtest_mimic::Trial;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    admin::Watched,
    exposed::{basic, users},
    harness::{Serve, trials},
    http::{Answer, ask, get},
    push::Repository,
};

const OF_NODE: [&str; 5] = ["swarm", "status", "store", "garbage", "images"];

pub fn trials() -> Vec<Trial> {
    trials![
        the_page_is_served_on_loopback_with_data_of_the_node,
        the_page_of_a_registry_that_others_reach_hides_the_node,
        the_page_asks_for_a_login_where_only_users_pull,
        the_page_shows_only_repositories_that_access_rules_allow,
        the_admin_address_shows_the_whole_page_but_not_to_other_sites,
        the_page_lists_repositories_and_tags_in_pages,
        the_page_is_off_with_page_false,
    ]
}

async fn data(node: &Serve, path: &str, headers: &[(&str, &str)]) -> Answer {
    ask("GET", &node.url(&format!("/page/data/{path}")), headers).await
}

fn names(answer: &Answer) -> Vec<String> {
    let json = answer.json();
    let name = |repository: &Value| repository["name"].as_str().expect("a name").to_owned();
    json["repositories"].as_array().expect("a list").iter().map(name).collect()
}

async fn the_page_is_served_on_loopback_with_data_of_the_node() {
    let node = Serve::start(&[]);
    Repository::new(&node, "app").push_image("1", b"layer").await;
    let page = get(&node.url("/")).await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    assert!(page.header("content-security-policy").starts_with("default-src 'none'"));
    for path in OF_NODE {
        let answer = data(&node, &format!("{path}.json"), &[]).await;
        assert_eq!((answer.status, answer.header("cache-control")), (200, "no-store"), "{path}: {answer:?}");
    }
    let tags = data(&node, "tags.json?name=app", &[]).await.json();
    assert_eq!(tags["tags"][0]["tag"], "1");
    let image = data(&node, "image.json?name=app&reference=1", &[]).await.json();
    assert_eq!(image["image"]["parts"][0]["layers"][0]["bytes"], 5, "{image}");
    assert_eq!(data(&node, "image.json?name=app&reference=2", &[]).await.status, 404);
    // It only reads.
    for method in ["POST", "PUT", "DELETE"] {
        let answer = ask(method, &node.url("/page/data/store.json"), &[]).await;
        assert_eq!(answer.status, 405, "{method}");
    }
    // A page of another site gets nothing, nor does a name that was made to lead here.
    assert_eq!(data(&node, "swarm.json", &[("sec-fetch-site", "cross-site")]).await.status, 403);
    assert_eq!(data(&node, "swarm.json", &[("host", "evil.example")]).await.status, 421);
    // A proxy may ask for another machine.
    assert_eq!(data(&node, "swarm.json", &[("x-forwarded-for", "192.0.2.1")]).await.status, 403);
}

async fn the_page_of_a_registry_that_others_reach_hides_the_node() {
    let node = Serve::start(&["--listen", "0.0.0.0:0"]);
    assert_eq!(get(&node.url("/")).await.status, 200);
    assert_eq!(data(&node, "repositories.json", &[]).await.status, 200);
    let session = data(&node, "session.json", &[]).await.json();
    assert_eq!((&session["node"], &session["login"]), (&Value::Null, &Value::Null));
    for path in OF_NODE {
        assert_eq!(data(&node, &format!("{path}.json"), &[]).await.status, 403, "{path}");
    }
}

async fn the_page_asks_for_a_login_where_only_users_pull() {
    let dir = TempDir::new().unwrap();
    let file = users(&dir.path().join("users"), &[("me", "secret")]);
    let node = Serve::start(&["--htpasswd", &file, "--pull", "users"]);
    let (right, wrong) = (basic("me", "secret"), basic("me", "wrong"));
    for credentials in [&[][..], &[("authorization", wrong.as_str())]] {
        for path in ["repositories.json", "tags.json?name=app", "swarm.json", "login"] {
            let answer = data(&node, path, credentials).await;
            assert_eq!(answer.status, 401, "{path}: {answer:?}");
            assert!(answer.header("www-authenticate").starts_with("Basic "), "{path}: {answer:?}");
        }
    }
    let login = [("authorization", right.as_str())];
    for path in ["repositories.json", "swarm.json"] {
        assert_eq!(data(&node, path, &login).await.status, 200, "{path}");
    }
    let session = data(&node, "session.json", &login).await.json();
    assert_eq!((&session["user"], &session["login"]), (&"me".into(), &Value::Null));
    // The page itself says nothing, and is what a login leads back to.
    assert_eq!(get(&node.url("/")).await.status, 200);
}

async fn the_page_shows_only_repositories_that_access_rules_allow() {
    const RULES: &str = r#"
[[rule]]
users = ["anonymous"]
repositories = ["public/*"]
actions = ["pull"]

[[rule]]
users = ["alice"]
repositories = ["team/*"]
actions = ["pull", "push"]

[[rule]]
users = ["root"]
repositories = ["*"]
actions = ["admin"]
"#;
    let dir = TempDir::new().unwrap();
    let file = users(&dir.path().join("users"), &[("alice", "a"), ("root", "r")]);
    let rules = dir.path().join("access.toml");
    fs::write(&rules, RULES).unwrap();
    let node = Serve::start(&["--htpasswd", &file, "--access-rules", rules.to_str().unwrap()]);
    let (alice, root) = (basic("alice", "a"), basic("root", "r"));
    let of = |user: &str| match user {
        "alice" => vec![("authorization", alice.as_str())],
        "root" => vec![("authorization", root.as_str())],
        _ => Vec::new(),
    };
    for name in ["public/app", "secret/app", "team/app"] {
        push_as(&node, name, &root).await;
    }
    let all = ["public/app", "secret/app", "team/app"];
    for (user, seen, sees_node) in
        [("anonymous", &all[..1], false), ("alice", &[all[0], all[2]], false), ("root", &all, true)]
    {
        let listed = data(&node, "repositories.json", &of(user)).await;
        assert_eq!(names(&listed), seen, "{user}");
        for name in all {
            let status = match (seen.contains(&name), user) {
                (true, _) => 200,
                (false, "anonymous") => 401,
                (false, _) => 403,
            };
            for path in [format!("tags.json?name={name}"), format!("image.json?name={name}&reference=1")] {
                assert_eq!(data(&node, &path, &of(user)).await.status, status, "{user} {path}");
            }
        }
        for path in OF_NODE {
            let answer = data(&node, &format!("{path}.json"), &of(user)).await;
            assert_eq!(answer.status == 200, sees_node, "{user} {path}: {answer:?}");
        }
    }
    let wrong = data(&node, "repositories.json", &[("authorization", &basic("alice", "x"))]).await;
    assert!(wrong.status == 401 && wrong.header("www-authenticate").starts_with("Basic "), "{wrong:?}");
}

pub async fn push_as(node: &Serve, name: &str, authorization: &str) {
    let headers = |kind| [("authorization", authorization), ("content-type", kind)];
    for blob in [&b"{}"[..], b"layer"] {
        let digest = ocipfs_oci::Digest::sha256_of(blob);
        let url = node.url(&format!("/v2/{name}/blobs/uploads/?digest={digest}"));
        let answer =
            crate::http::send("POST", &url, &headers("application/octet-stream"), blob.to_vec()).await;
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    let manifest = crate::push::manifest(b"{}", &[b"layer"]);
    let kind = manifest["mediaType"].as_str().unwrap();
    let url = node.url(&format!("/v2/{name}/manifests/1"));
    assert_eq!(crate::http::send("PUT", &url, &headers(kind), manifest.to_string()).await.status, 201);
}

async fn the_admin_address_shows_the_whole_page_but_not_to_other_sites() {
    let dir = TempDir::new().unwrap();
    let file = users(&dir.path().join("users"), &[("me", "secret")]);
    let watched = Watched::start(&["--htpasswd", &file, "--pull", "users"]);
    push_as(&watched.node, "app", &basic("me", "secret")).await;
    let at = |path: &str| format!("{}{path}", watched.admin);
    assert_eq!(get(&at("/")).await.status, 200);
    assert_eq!(names(&get(&at("/page/data/repositories.json")).await), ["app"]);
    for path in OF_NODE {
        assert_eq!(get(&at(&format!("/page/data/{path}.json"))).await.status, 200, "{path}");
    }
    let session = get(&at("/page/data/session.json")).await.json();
    assert_eq!(session["pull_from"], watched.node.registry());
    let page = [("sec-fetch-site", "cross-site")];
    assert_eq!(ask("GET", &at("/page/data/repositories.json"), &page).await.status, 403);
    let rebound = [("host", "evil.example")];
    assert_eq!(ask("GET", &at("/page/data/repositories.json"), &rebound).await.status, 421);
    // Scrapers are not browsers.
    assert_eq!(ask("GET", &at("/livez"), &rebound).await.status, 200);
}

async fn the_page_lists_repositories_and_tags_in_pages() {
    let node = Serve::start(&[]);
    for number in 0..60 {
        Repository::new(&node, &format!("r{number:02}")).push_image("1", b"layer").await;
    }
    let first = data(&node, "repositories.json", &[]).await;
    let listed = names(&first);
    assert_eq!((listed.len(), first.json()["next"].as_str()), (50, Some("r49")));
    let second = data(&node, "repositories.json?last=r49", &[]).await;
    assert_eq!((names(&second).len(), &second.json()["next"]), (10, &Value::Null));
    let filtered = data(&node, "repositories.json?filter=5", &[]).await;
    assert_eq!(names(&filtered).len(), 15);
    let repository = Repository::new(&node, "tags");
    for number in 0..30 {
        repository.push_image(&format!("t{number:02}"), b"layer").await;
    }
    let first = data(&node, "tags.json?name=tags", &[]).await.json();
    assert_eq!((first["tags"].as_array().unwrap().len(), first["next"].as_str()), (25, Some("t24")));
    let second = data(&node, "tags.json?name=tags&last=t24", &[]).await.json();
    assert_eq!((second["tags"].as_array().unwrap().len(), &second["next"]), (5, &Value::Null));
}

async fn the_page_is_off_with_page_false() {
    let watched = Watched::start(&["--page", "false"]);
    get(&watched.node.url("/")).await.refused(404, "UNSUPPORTED", &["/v2/"]);
    get(&watched.node.url("/page/data/session.json")).await.refused(404, "UNSUPPORTED", &["/v2/"]);
    assert_eq!(get(&format!("{}/", watched.admin)).await.status, 404);
    assert_eq!(watched.probe("/livez").await, 200);
}
