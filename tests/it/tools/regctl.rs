//! regctl: copies, artifacts, indexes and archives.

use std::fs;

use libtest_mimic::Trial;
use serde_json::json;

use super::{Nodes, manifest, referrers, whole};
use crate::{
    clients::{Client, REGCTL},
    harness::{Serve, blocking, trials},
};

pub fn trials() -> Vec<Trial> {
    trials![needs REGCTL.available();
        images_and_artifacts_of_regctl_are_pulled_from_a_follower,
        regctl_deletes_tags_and_lists_what_is_left,
    ]
}

/// A regctl that speaks plain HTTP to these nodes.
pub fn speaking_to(nodes: &[&Serve]) -> Client {
    let regctl = REGCTL.start().unwrap();
    for node in nodes {
        regctl.run(&["registry", "set", "--tls", "disabled", "--skip-check", node.registry()]).unwrap();
    }
    regctl
}

async fn images_and_artifacts_of_regctl_are_pulled_from_a_follower() {
    blocking(|| {
        let nodes = Nodes::start();
        let regctl = speaking_to(&[&nodes.publisher, &nodes.follower]);
        let digest = nodes.push("app", "1").digest();
        let at = |name: &str| format!("{}/{name}", nodes.publisher.registry());
        let file = regctl.write("sbom.json", "{}").unwrap();
        let put = ["artifact", "put", "--artifact-type", "application/vnd.sbom", "--file", &file];
        regctl.run(&[&put[..], &["--subject", &at("app:1")]].concat()).unwrap();
        regctl.run(&[&put[..], &[&at("artifact:1")]].concat()).unwrap();
        regctl.run(&["image", "copy", "--referrers", "--digest-tags", &at("app:1"), &at("copy:1")]).unwrap();
        regctl.run(&["image", "copy", &at("app:1"), &at("app:stable")]).unwrap();
        let create =
            ["index", "create", &at("index:1"), "--ref", &at("app:1"), "--annotation", "a=b", "--referrers"];
        regctl.run(&create).unwrap();
        let labelled = ["image", "mod", &at("app:1"), "--create", "labelled", "--label", "a=b"];
        regctl.run(&labelled).unwrap();
        nodes.follow();
        let registry = nodes.follower.registry().to_owned();
        let (follower, dir) = nodes.orphan();
        for (name, tag) in [("app", "stable"), ("copy", "1")] {
            assert_eq!(whole(&follower, name, tag), digest);
            assert_eq!(referrers(&follower, name, &digest), ["application/vnd.sbom"]);
        }
        let (_, index) = manifest(&follower, "index", "1");
        assert_eq!(index["annotations"], json!({ "a": "b" }));
        for (name, tag) in [("artifact", "1"), ("index", "1"), ("app", "labelled")] {
            whole(&follower, name, tag);
        }
        let at = |name: &str| format!("{registry}/{name}");
        assert_eq!(regctl.run(&["tag", "ls", &at("app")]).unwrap(), "1\nlabelled\nstable\n");
        assert_eq!(regctl.run(&["repo", "ls", &registry]).unwrap(), "app\nartifact\ncopy\nindex\n");
        let subject = ["artifact", "get", "--subject", &at("app:1")];
        let filter = ["--filter-artifact-type", "application/vnd.sbom"];
        assert_eq!(regctl.run(&[&subject[..], &filter].concat()).unwrap(), "{}");
        let tree = regctl.run(&["artifact", "tree", &at("app:1")]).unwrap();
        assert!(tree.contains("application/vnd.sbom"), "{tree}");
        // From the follower by a file to a node that has nothing.
        let (other, file) = (Serve::start(&[]), dir.path().join("exported.tar").display().to_string());
        let regctl = speaking_to(&[&follower, &other]);
        regctl.run(&["image", "export", &at("app:1"), &file]).unwrap();
        regctl.run(&["image", "import", &format!("{}/again:1", other.registry()), &file]).unwrap();
        assert_eq!(whole(&other, "again", "1"), digest);
        assert!(fs::metadata(&file).unwrap().len() > 0);
    })
    .await;
}

async fn regctl_deletes_tags_and_lists_what_is_left() {
    blocking(|| {
        let nodes = Nodes::start();
        let regctl = speaking_to(&[&nodes.publisher, &nodes.follower]);
        nodes.push("app", "1");
        let digest = nodes.push("app", "2").digest();
        let at = |name: &str| format!("{}/{name}", nodes.publisher.registry());
        regctl.run(&["tag", "rm", &at("app:1")]).unwrap();
        assert_eq!(regctl.run(&["tag", "ls", &at("app")]).unwrap(), "2\n");
        nodes.follow();
        let followed = format!("{}/app", nodes.follower.registry());
        assert_eq!(regctl.run(&["tag", "ls", &followed]).unwrap(), "2\n");
        // What is followed is not deleted here. Where deleting a tag is denied, regctl puts another manifest there and deletes that, and
        // reports no error; the followed tag is what it was.
        regctl.run(&["manifest", "rm", &format!("{followed}@{digest}")]).unwrap_err();
        let _ = regctl.run(&["tag", "rm", &format!("{followed}:2")]);
        assert_eq!(whole(&nodes.follower, "app", "2"), digest);
        assert_eq!(regctl.run(&["tag", "ls", &followed]).unwrap(), "2\n");
        regctl.run(&["manifest", "rm", &at(&format!("app@{digest}"))]).unwrap();
        regctl.run(&["manifest", "head", &at("app:2")]).unwrap_err();
    })
    .await;
}
