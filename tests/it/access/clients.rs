//! Docker, podman and skopeo with scoped tokens; cosign with the action `sign`.

use libtest_mimic::Trial;
use tempfile::TempDir;

use super::{NAMES, RULES, Ruled};
use crate::{
    clients::{COSIGN, Docker, Podman, Skopeo},
    harness::{blocking, trials},
    push::program,
    tools::cosign,
};

pub fn trials() -> Vec<Trial> {
    [
        trials![needs Docker::available(); docker_pushes_and_pulls_with_a_scoped_token],
        trials![needs Podman::available(); podman_pushes_and_pulls_with_a_scoped_token],
        trials![needs Skopeo::available(); skopeo_copies_with_a_scoped_token],
        trials![needs COSIGN.available(); cosign_signs_with_the_action_sign_alone],
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A node, a token for `ci/*`, and a folder with a program to make an image of.
fn prepared() -> (Ruled, String, TempDir) {
    let ruled = Ruled::start(&[]);
    let arguments = ["-q", "token", "create", "ci", "--repo", "ci/*", "--actions", "pull,push"];
    let token = ruled.node.ask(&arguments);
    let dir = tempfile::tempdir().unwrap();
    program(dir.path());
    (ruled, token, dir)
}

async fn docker_pushes_and_pulls_with_a_scoped_token() {
    let (ruled, token, dir) = prepared();
    blocking(move || {
        let docker = Docker::start().unwrap();
        let registry = ruled.node.registry();
        let (own, other) = (format!("{registry}/ci/app:1"), format!("{registry}/team/app:1"));
        docker.build(dir.path(), &own, false).unwrap();
        docker.tag(&own, &other).unwrap();
        docker.push(&own).unwrap_err();
        docker.login(registry, "ci", &token).unwrap();
        docker.push(&own).unwrap();
        let refused = docker.push(&other).unwrap_err();
        assert!(refused.contains("denied") || refused.contains("ci may not push team/app"), "{refused}");
        docker.forget_images().unwrap();
        docker.pull(&own).unwrap();
        // What is revoked works no longer.
        ruled.node.ask(&["token", "revoke", "ci"]);
        docker.forget_images().unwrap();
        docker.pull(&own).unwrap_err();
    })
    .await;
}

async fn podman_pushes_and_pulls_with_a_scoped_token() {
    let (ruled, token, dir) = prepared();
    blocking(move || {
        let podman = Podman::new().unwrap();
        let registry = ruled.node.registry();
        let (own, other) = (format!("{registry}/ci/app:1"), format!("{registry}/team/app:1"));
        podman.build(dir.path(), &own).unwrap();
        podman.login(registry, "ci", "ocipfs_wrong").unwrap_err();
        podman.login(registry, "ci", &token).unwrap();
        podman.push(&own).unwrap();
        podman.build(dir.path(), &other).unwrap();
        podman.push(&other).unwrap_err();
        podman.forget_images().unwrap();
        podman.pull(&own).unwrap();
        podman.logout(registry).unwrap();
        podman.forget_images().unwrap();
        podman.pull(&own).unwrap_err();
    })
    .await;
}

async fn skopeo_copies_with_a_scoped_token() {
    let (ruled, token, _dir) = prepared();
    ruled.of("root").push("ci/app", "1", b"layer").await;
    ruled.of("alice").push("team/app", "1", b"a secret layer").await;
    blocking(move || {
        let skopeo = Skopeo::new().unwrap();
        let registry = ruled.node.registry();
        let reference = format!("{registry}/ci/app:1");
        skopeo.inspect_raw(&reference).unwrap_err();
        skopeo.login(registry, "ci", &token).unwrap();
        skopeo.inspect_raw(&reference).unwrap();
        // Within the registry, by mounts.
        skopeo.push(&format!("docker://{reference}"), &format!("{registry}/ci/copy:1")).unwrap();
        skopeo.push(&format!("docker://{reference}"), &format!("{registry}/team/copy:1")).unwrap_err();
        skopeo.inspect_raw(&format!("{registry}/team/app:1")).unwrap_err();
    })
    .await;
}

async fn cosign_signs_with_the_action_sign_alone() {
    assert!(NAMES.contains(&"carol") && RULES.contains("\"sign\""));
    let ruled = Ruled::start(&[]);
    let image = ruled.of("alice").push("team/app", "1", b"layer").await;
    blocking(move || {
        let cosign = cosign::keyed();
        let registry = ruled.node.registry();
        let reference = format!("{registry}/team/app@{image}");
        cosign.run(&["login", registry, "--username", "carol", "--password", "carol"]).unwrap();
        cosign::sign(&cosign, &reference, &[]);
        cosign::verify(&cosign, &reference, &[]).unwrap();
    })
    .await;
}
