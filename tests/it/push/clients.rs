//! Real clients push, and others pull what they pushed.

use std::{fs, path::Path};

use libtest_mimic::Trial;
use serde_json::Value;

use crate::{
    clients::{Buildah, Containerd, Docker, Podman, Skopeo, static_program},
    harness::{Serve, trials},
};

const SAYS: &str = "hello from a push\n";

pub fn trials() -> Vec<Trial> {
    [
        trials![needs Docker::available(); docker_pushes_an_image_that_podman_runs],
        trials![needs Docker::available(); docker_pushes_after_a_login],
        trials![needs Podman::available(); podman_pushes_an_image_and_containerd_pushes_it_again],
        trials![needs Buildah::available(); buildah_pushes_a_multi_platform_index_and_skopeo_copies_all_of_it],
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A Dockerfile of a program that says hello.
pub fn program(dir: &Path) {
    static_program(dir, SAYS);
    fs::write(dir.join("Dockerfile"), "FROM scratch\nCOPY hello /hello\nENTRYPOINT [\"/hello\"]\n").unwrap();
}

/// Runs blocking code outside the runtime, so that a story's deadline still holds.
async fn blocking<T: Send + 'static>(story: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(story).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

async fn docker_pushes_an_image_that_podman_runs() {
    let node = Serve::start(&[]);
    blocking(move || {
        let dir = tempfile::tempdir().unwrap();
        program(dir.path());
        let docker = Docker::start().unwrap();
        let registry = node.registry();
        for tag in ["app:1", "org/app:2"] {
            let reference = format!("{registry}/{tag}");
            docker.build(dir.path(), &reference, false).unwrap();
            docker.push(&reference).unwrap();
            let again = docker.push(&reference).unwrap();
            assert!(again.contains("Layer already exists") || again.contains("Mounted from"), "{again}");
        }
        let reference = format!("{registry}/app:1");
        assert!(docker.pull(&reference).unwrap().contains("up to date"));
        if Podman::available().is_ok() {
            assert_eq!(Podman::new().unwrap().run(&reference, &[]).unwrap(), SAYS);
        }
    })
    .await;
}

async fn docker_pushes_after_a_login() {
    let dir = tempfile::tempdir().unwrap();
    program(dir.path());
    let users = dir.path().join("users");
    fs::write(&users, format!("me:{}\n", bcrypt::hash("secret", 5).unwrap())).unwrap();
    let node = Serve::start(&["--htpasswd", users.to_str().unwrap()]);
    blocking(move || {
        let docker = Docker::start().unwrap();
        let reference = format!("{}/app:1", node.registry());
        docker.build(dir.path(), &reference, false).unwrap();
        docker.push(&reference).unwrap_err();
        docker.login(node.registry(), "me", "other").unwrap_err();
        docker.login(node.registry(), "me", "secret").unwrap();
        docker.push(&reference).unwrap();
        // A client that is not logged in pulls.
        docker.logout(node.registry()).unwrap();
        docker.forget_images().unwrap();
        docker.pull(&reference).unwrap();
        docker.push(&reference).unwrap_err();
        if Podman::available().is_ok() {
            Podman::new().unwrap().pull(&reference).unwrap();
        }
        if Skopeo::available().is_ok() {
            let skopeo = Skopeo::new().unwrap();
            skopeo.inspect(&reference).unwrap();
            let copy = format!("{}/copy:1", node.registry());
            skopeo.push(&format!("docker://{reference}"), &copy).unwrap_err();
            skopeo.push_as(&["--dest-creds", "me:secret"], &format!("docker://{reference}"), &copy).unwrap();
        }
    })
    .await;
}

async fn podman_pushes_an_image_and_containerd_pushes_it_again() {
    let node = Serve::start(&[]);
    blocking(move || {
        let dir = tempfile::tempdir().unwrap();
        program(dir.path());
        let podman = Podman::new().unwrap();
        let reference = format!("{}/podman/app:1", node.registry());
        podman.build(dir.path(), &reference).unwrap();
        podman.push(&reference).unwrap();
        if Containerd::available().is_ok() {
            let containerd = Containerd::start().unwrap();
            containerd.pull(&reference).unwrap();
            let passed_on = format!("{}/containerd/app:1", node.registry());
            containerd.push(&passed_on, &reference).unwrap();
            assert_eq!(podman.run(&passed_on, &[]).unwrap(), SAYS);
        }
    })
    .await;
}

async fn buildah_pushes_a_multi_platform_index_and_skopeo_copies_all_of_it() {
    let node = Serve::start(&[]);
    blocking(move || {
        let dir = tempfile::tempdir().unwrap();
        program(dir.path());
        let buildah = Buildah::new().unwrap();
        let image = |arch: &str| format!("{}/app:{arch}", node.registry());
        let (one, two) = (image("amd64"), image("arm64"));
        for reference in [&one, &two] {
            buildah.build(dir.path(), reference).unwrap();
            buildah.push(reference).unwrap();
        }
        let list = format!("{}/app:all", node.registry());
        buildah.push_list("list", &[(&one, "amd64"), (&two, "arm64")], &list).unwrap();
        let skopeo = Skopeo::new().unwrap();
        let copy = format!("{}/copy/app:all", node.registry());
        skopeo.push(&format!("docker://{list}"), &copy).unwrap();
        let raw = |reference: &str| skopeo.inspect_raw(reference).unwrap();
        assert_eq!(raw(&list), raw(&copy));
        let index: Value = serde_json::from_str(&raw(&copy)).unwrap();
        assert!(index["manifests"].as_array().is_some_and(|all| !all.is_empty()), "{index}");
        assert_eq!(Podman::new().unwrap().run(&copy, &[]).unwrap(), SAYS);
    })
    .await;
}
