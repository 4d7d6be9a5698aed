//! What is exported: patterns, lists, YAML with `image:` keys, platforms.

use std::fs;

use libtest_mimic::Trial;
use serde_json::Value;

use super::{document, import, push_index};
use crate::{
    harness::{Serve, trials},
    push::Repository,
};

pub fn trials() -> Vec<Trial> {
    trials![
        patterns_and_lists_name_the_images_of_a_bundle,
        images_of_kubernetes_manifests_are_exported_and_missing_ones_named,
        other_platforms_are_left_out_of_a_bundle,
    ]
}

fn references(exported: &Value) -> Vec<String> {
    let image = |image: &Value| image["reference"].as_str().unwrap().split_once('/').unwrap().1.to_string();
    let mut all: Vec<String> = exported["images"].as_array().unwrap().iter().map(image).collect();
    all.sort();
    all
}

async fn patterns_and_lists_name_the_images_of_a_bundle() {
    let node = Serve::start(&[]);
    for (name, tags) in [("team/app", &["1.0", "1.1", "2.0"][..]), ("team/db", &["1.0"]), ("other", &["1.0"])]
    {
        let repository = Repository::new(&node, name);
        for tag in tags {
            repository.push_image(tag, format!("{name}{tag}").as_bytes()).await;
        }
        let top = repository.get("manifests/1.0").await.header("docker-content-digest").to_string();
        repository.push_image(&format!("sha256-{}.sig", &top[7..]), b"signature").await;
    }
    let list = node.data_dir().join("list").display().to_string();
    let text = "# what we ship\nteam/app:1.*\nother:1.0 linux/amd64\nregistry.example/team/db:1.0\n";
    fs::write(&list, text).unwrap();
    for (number, (arguments, expected)) in [
        (&["team/app"][..], None),
        (&["team/app:1.*"], Some(vec!["team/app:1.0", "team/app:1.1"])),
        (&["team/*"], Some(vec!["team/app:1.0", "team/app:1.1", "team/app:2.0", "team/db:1.0"])),
        (&["*:1.0"], Some(vec!["other:1.0", "team/app:1.0", "team/db:1.0"])),
        (&["--from-list", &list], Some(vec!["other:1.0", "team/app:1.0", "team/app:1.1", "team/db:1.0"])),
        (&["none/*"], None),
    ]
    .into_iter()
    .enumerate()
    {
        let out = node.data_dir().join(format!("{number}.car")).display().to_string();
        let said = node.command(&[&["--json", "bundle", "export", &out], arguments].concat());
        match expected {
            Some(expected) => assert_eq!(references(&document(&said)), expected, "{arguments:?}"),
            None => assert_eq!(said.code, Some(1), "{said:?}"),
        }
    }
}

async fn images_of_kubernetes_manifests_are_exported_and_missing_ones_named() {
    let node = Serve::start(&[]);
    Repository::new(&node, "library/nginx").push_image("1.27", b"nginx").await;
    Repository::new(&node, "team/app").push_image("1", b"app").await;
    let path = |name: &str| node.data_dir().join(name).display().to_string();
    let (list, out) = (path("pod.yaml"), path("a.car"));
    let yaml = |more: &str| {
        format!(
            "kind: Pod\nspec:\n  containers:\n  - name: web\n    image: nginx:1.27\n  - image: docker.io/team/app:1\n{more}"
        )
    };
    fs::write(&list, yaml("  - image: team/other:1\n  - image: team/app:2\n")).unwrap();
    let said = node.command(&["bundle", "export", &out, "--from-list", &list]);
    said.failed(1, &["2 images of", "team/other:1, team/app:2"]);
    fs::write(&list, yaml("")).unwrap();
    let exported = document(&node.command(&["--json", "bundle", "export", &out, "--from-list", &list]));
    assert_eq!(references(&exported), ["library/nginx:1.27", "team/app:1"]);
    fs::write(&list, "kind: Pod\n").unwrap();
    node.command(&["bundle", "export", &path("b.car"), "--from-list", &list]).failed(1, &["lists no image"]);
}

async fn other_platforms_are_left_out_of_a_bundle() {
    let node = Serve::start(&[]);
    let (index, [amd64, arm64]) = push_index(&Repository::new(&node, "multi"), "1", 1).await;
    let out = node.data_dir().join("a.car").display().to_string();
    let refused = ["bundle", "export", &out, "multi:1", "--platform", "linux/riscv64"];
    node.command(&refused).failed(1, &["has no linux/riscv64", "linux/amd64, linux/arm64"]);
    node.ask(&["bundle", "export", &out, "multi:1", "--platform", "linux/arm64"]);
    let target = Serve::start(&[]);
    document(&import(target.data_dir(), &[&out]));
    let multi = Repository::new(&target, "multi");
    assert_eq!(multi.get("manifests/1").await.header("docker-content-digest"), index);
    assert_eq!(multi.get(&format!("manifests/{arm64}")).await.status, 200);
    assert_eq!(multi.get(&format!("manifests/{amd64}")).await.status, 404);
}
