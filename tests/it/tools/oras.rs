//! oras: artifacts of files, and what is attached to them.

use std::fs;

use libtest_mimic::Trial;
use serde_json::Value;

use super::{Nodes, referrers, whole};
use crate::{
    clients::ORAS,
    harness::{blocking, trials},
};

pub fn trials() -> Vec<Trial> {
    trials![needs ORAS.available();
        artifacts_of_oras_are_pushed_and_pulled_from_a_follower,
        oras_copies_an_image_with_all_its_referrers,
    ]
}

async fn artifacts_of_oras_are_pushed_and_pulled_from_a_follower() {
    blocking(|| {
        let (nodes, oras) = (Nodes::start(), ORAS.start().unwrap());
        let registry = nodes.publisher.registry().to_owned();
        let (text, config) =
            (oras.write("file.txt", "a file\n").unwrap(), oras.write("c.json", "{}").unwrap());
        let push = |name: &str, more: &[&str], file: &str| {
            let reference = format!("{registry}/{name}");
            let flags = ["push", "--plain-http", "--disable-path-validation", &reference];
            oras.run(&[&flags, more, &[file]].concat()).unwrap();
        };
        push("file:1", &[], &text);
        push("typed:1", &["--artifact-type", "application/vnd.example.typed"], &format!("{text}:text/plain"));
        push("tags:1,2", &[], &format!("{text}:text/plain"));
        push("parameter:1", &[], &format!("{text}:text/plain; charset=utf-8"));
        // As the specification was before artifact types.
        let config = format!("{config}:application/vnd.example.config");
        push("old:1", &["--image-spec", "v1.0", "--config", &config], &text);
        oras.run(&["tag", "--plain-http", &format!("{registry}/file:1"), "stable", "latest"]).unwrap();
        let (follower, dir) = nodes.orphan();
        for name in ["file:1", "file:stable", "typed:1", "tags:1", "tags:2", "parameter:1", "old:1"] {
            let (repository, tag) = name.split_once(':').unwrap();
            whole(&follower, repository, tag);
            let (reference, to) = (format!("{}/{name}", follower.registry()), dir.path().join("pulled"));
            // It goes back to where it was pushed from.
            fs::remove_file(&text).unwrap();
            let pull = ["pull", "--plain-http", "--allow-path-traversal", &reference, "--output"];
            oras.run(&[&pull[..], &[&to.display().to_string()]].concat()).unwrap();
            assert_eq!(fs::read_to_string(&text).unwrap(), "a file\n", "{name}");
        }
        let tags =
            oras.run(&["repo", "tags", "--plain-http", &format!("{}/file", follower.registry())]).unwrap();
        assert_eq!(tags.lines().collect::<Vec<_>>(), ["1", "latest", "stable"]);
        let repositories = oras.run(&["repo", "ls", "--plain-http", follower.registry()]).unwrap();
        assert_eq!(repositories.lines().collect::<Vec<_>>(), ["file", "old", "parameter", "tags", "typed"]);
    })
    .await;
}

/// The artifact types in a tree of `oras discover`, from the top.
fn kinds(tree: &Value, found: &mut Vec<String>) {
    for one in tree["referrers"].as_array().or(tree["manifests"].as_array()).into_iter().flatten() {
        found.push(one["artifactType"].as_str().unwrap().into());
        kinds(one, found);
    }
}

async fn oras_copies_an_image_with_all_its_referrers() {
    blocking(|| {
        let (nodes, oras) = (Nodes::start(), ORAS.start().unwrap());
        let digest = nodes.push("app", "1").digest();
        let registry = nodes.publisher.registry().to_owned();
        let sbom = oras.write("sbom.json", "{}").unwrap();
        let attach = |of: &str, kind: &str| {
            let of = format!("{registry}/{of}");
            let flags = [
                "attach",
                "--plain-http",
                "--disable-path-validation",
                "--format",
                "json",
                "--artifact-type",
            ];
            let said = oras.run(&[&flags[..], &[kind, &of, &sbom]].concat()).unwrap();
            serde_json::from_str::<Value>(&said).unwrap()["digest"].as_str().unwrap().to_owned()
        };
        let attached = attach("app:1", "application/vnd.sbom");
        // A signature of the SBOM: a referrer of a referrer.
        attach(&format!("app@{attached}"), "application/vnd.signature");
        let expected = ["application/vnd.sbom", "application/vnd.signature"];
        // By a registry that knows no referrers they would be an index under a tag.
        let forced = ["--to-distribution-spec", "v1.1-referrers-tag"];
        for (name, more) in [("copy", &[][..]), ("tagged", &forced)] {
            let (from, to) = (format!("{registry}/app:1"), format!("{registry}/{name}:1"));
            let copy = ["cp", "-r", "--from-plain-http", "--to-plain-http", &from, &to];
            oras.run(&[&copy, more].concat()).unwrap();
        }
        let (follower, dir) = nodes.orphan();
        for name in ["app", "copy", "tagged"] {
            assert_eq!(whole(&follower, name, "1"), digest);
            assert_eq!(referrers(&follower, name, &digest), expected[..1], "{name}");
            assert_eq!(referrers(&follower, name, &attached), expected[1..], "{name}");
            let discover = [
                "discover",
                "--plain-http",
                "--format",
                "json",
                &format!("{}/{name}:1", follower.registry()),
            ];
            let mut found = Vec::new();
            kinds(&serde_json::from_str(&oras.run(&discover).unwrap()).unwrap(), &mut found);
            assert_eq!(found, expected, "{name}");
        }
        // From the follower to a node that has nothing.
        let (other, to) =
            (crate::harness::Serve::start(&[]), dir.path().join("backup.tar").display().to_string());
        let (from, again) = (format!("{}/app", follower.registry()), format!("{}/again", other.registry()));
        oras.run(&["backup", "--plain-http", "--include-referrers", "--output", &to, &from]).unwrap();
        oras.run(&["restore", "--plain-http", "--input", &to, &again]).unwrap();
        assert_eq!(whole(&other, "again", "1"), digest);
        assert_eq!(referrers(&other, "again", &attached), expected[1..]);
    })
    .await;
}
