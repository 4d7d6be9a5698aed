//! crane: images made without a builder, and copies.

use std::fs;

use libtest_mimic::Trial;

use super::{Nodes, SAYS, manifest, whole};
use crate::{
    clients::{CRANE, Client, Podman},
    harness::{Serve, blocking, trials},
    names::program_layer,
};

pub fn trials() -> Vec<Trial> {
    trials![needs CRANE.available(); images_and_indexes_of_crane_are_pulled_from_a_follower]
}

/// Pushes `app:1`, an index of an image for each of two platforms.
pub fn push_index(crane: &Client, node: &Serve, layer: &[u8]) {
    let (file, at) = (crane.path("layer.tar"), |name: &str| format!("{}/{name}", node.registry()));
    fs::write(&file, layer).unwrap();
    let mut index: Vec<String> = ["index", "append", "--tag", &at("app:1")].map(Into::into).into();
    for arch in ["amd64", "arm64"] {
        let image = at(&format!("app:{arch}"));
        crane.run(&["append", "--oci-empty-base", "--new_layer", &file, "--new_tag", &image]).unwrap();
        let platform = format!("linux/{arch}");
        crane
            .run(&["mutate", &image, "--set-platform", &platform, "--entrypoint", "/hello", "--tag", &image])
            .unwrap();
        index.extend(["--manifest".into(), image]);
    }
    crane.run(&index.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
}

async fn images_and_indexes_of_crane_are_pulled_from_a_follower() {
    blocking(|| {
        let (nodes, crane) = (Nodes::start(), CRANE.start().unwrap());
        push_index(&crane, &nodes.publisher, &program_layer(nodes.dir.path(), SAYS));
        let (digest, _) = manifest(&nodes.publisher, "app", "1");
        let at = |name: &str| format!("{}/{name}", nodes.publisher.registry());
        crane.run(&["copy", &at("app:1"), &at("copy:1")]).unwrap();
        // Of docker's media types, on the image of one platform.
        let file = crane.path("layer.tar");
        crane.run(&["append", "--new_layer", &file, "--new_tag", &at("docker:1")]).unwrap();
        crane
            .run(&["append", "--base", &at("app:amd64"), "--new_layer", &file, "--new_tag", &at("app:more")])
            .unwrap();
        crane.run(&["flatten", &at("app:more"), "--tag", &at("app:flat")]).unwrap();
        // From a folder and from an archive to the registry.
        let (layout, archive) = (nodes.path("layout"), nodes.path("app.tar"));
        crane.run(&["pull", "--format", "oci", &at("app:1"), &layout]).unwrap();
        crane.run(&["push", "--index", &layout, &at("pushed:1")]).unwrap();
        crane.run(&["pull", &at("app:amd64"), &archive]).unwrap();
        crane.run(&["push", &archive, &at("pushed:amd64")]).unwrap();
        let (follower, _dir) = nodes.orphan();
        assert_eq!(whole(&follower, "app", "1"), digest);
        assert_eq!(whole(&follower, "copy", "1"), digest);
        whole(&follower, "pushed", "1");
        let at = |name: &str| format!("{}/{name}", follower.registry());
        for name in ["app:1", "docker:1", "app:more", "app:flat", "pushed:amd64"] {
            crane.run(&["validate", "--remote", &at(name)]).unwrap();
        }
        assert_eq!(crane.run(&["ls", &at("app")]).unwrap(), "1\namd64\narm64\nflat\nmore\n");
        assert_eq!(crane.run(&["catalog", follower.registry()]).unwrap(), "app\ncopy\ndocker\npushed\n");
        assert_eq!(crane.run(&["digest", &at("app:1")]).unwrap().trim(), digest);
        if Podman::available().is_ok() {
            assert_eq!(Podman::new().unwrap().run(&at("app:1"), &[]).unwrap(), SAYS);
        }
    })
    .await;
}
