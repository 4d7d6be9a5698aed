//! The page under signature policies: it shows no image that the registry withholds from the visitor, and says why.

use libtest_mimic::Trial;
use serde_json::Value;

use crate::{
    access::Sender,
    harness::{Serve, trials},
    http::Answer,
    names::image::Image,
    policy::{Policed, write_layout},
};

pub fn trials() -> Vec<Trial> {
    trials![
        an_unsigned_image_is_shown_only_to_visitors_who_may_sign_it,
        an_imported_unsigned_image_is_not_shown_where_a_policy_is_about_it,
    ]
}

async fn data(visitor: &Sender<'_>, path: &str) -> Answer {
    visitor.get(&format!("/page/data/{path}")).await
}

/// Holds that an image is not shown, neither alone nor in the list of tags.
async fn hidden(visitor: &Sender<'_>, name: &str, references: &[&str]) {
    for reference in references {
        let answer = data(visitor, &format!("image.json?name={name}&reference={reference}")).await;
        assert_eq!(answer.status, 403, "{answer:?}");
        let error = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(error.starts_with("not signed: ") && error.contains("\"release\""), "{error}");
    }
    let tags = data(visitor, &format!("tags.json?name={name}")).await.json();
    assert_eq!((&tags["tags"][0]["tag"], &tags["tags"][0]["image"]), (&"1".into(), &Value::Null), "{tags}");
    assert!(tags["tags"][0]["missing"].as_str().unwrap().starts_with("not signed: "), "{tags}");
}

async fn shown(visitor: &Sender<'_>, name: &str, references: &[&str]) {
    for reference in references {
        let answer = data(visitor, &format!("image.json?name={name}&reference={reference}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json()["image"]["parts"][0]["missing"], Value::Null, "{answer:?}");
    }
    let tags = data(visitor, &format!("tags.json?name={name}")).await.json();
    assert!(tags["tags"][0]["image"].is_object(), "{tags}");
}

/// Holds that nothing was searched for among peers, and nothing failed.
fn is_quiet(node: &Serve) {
    let log = node.log();
    for wrong in ["ERROR", "no provider"] {
        assert!(!log.contains(wrong), "{wrong}: {log}");
    }
}

async fn an_unsigned_image_is_shown_only_to_visitors_who_may_sign_it() {
    let node = Policed::start(&[]);
    let image = node.of("alice").push("team/app", "1", b"a layer").await;
    let references = ["1", image.as_str()];
    for user in ["anonymous", "alice"] {
        hidden(&node.of(user), "team/app", &references).await;
    }
    for user in ["carol", "root"] {
        shown(&node.of(user), "team/app", &references).await;
    }
    node.sign("carol", "team/app", &image).await;
    for user in ["anonymous", "alice", "carol"] {
        shown(&node.of(user), "team/app", &references).await;
    }
    is_quiet(node.node());
}

async fn an_imported_unsigned_image_is_not_shown_where_a_policy_is_about_it() {
    let dir = tempfile::tempdir().unwrap();
    write_layout(dir.path(), &Image::of("imported", 1000));
    let node = Policed::about("ipfs/*", &[]);
    let import = ["-q", "image", "import", dir.path().to_str().unwrap(), "--name", "app:1"];
    let reference = node.node().ask(&import);
    let (_, name) = reference.split_once('/').unwrap();
    let name = name.strip_suffix(":1").unwrap();
    // The registry refuses it, too; a login might help.
    assert_eq!(node.of("alice").get(&format!("/v2/{name}/manifests/1")).await.status, 403);
    hidden(&node.of("anonymous"), name, &["1"]).await;
    shown(&node.of("root"), name, &["1"]).await;
    is_quiet(node.node());
}
