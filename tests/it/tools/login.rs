//! Each tool logs in to a node that lets users push and everyone pull.

use std::fs;

use libtest_mimic::Trial;

use super::{SAYS, cosign, manifest, notation, regctl};
use crate::{
    clients::{COSIGN, CRANE, Client, HELM, NOTATION, ORAS, REGCTL},
    harness::{Serve, blocking, trials},
    names::program_layer,
};

pub fn trials() -> Vec<Trial> {
    [
        trials![needs CRANE.available(); crane_pushes_after_a_login],
        trials![needs ORAS.available(); oras_pushes_after_a_login],
        trials![needs REGCTL.available(); regctl_pushes_after_a_login],
        trials![needs HELM.available(); helm_pushes_after_a_login],
        trials![needs COSIGN.available().and(CRANE.available()); cosign_signs_after_a_login],
        trials![needs NOTATION.available().and(CRANE.available()); notation_signs_with_a_password],
    ]
    .into_iter()
    .flatten()
    .collect()
}

const PASSWORD: &str = "a password";

/// A node whose user `me` may push.
fn node() -> Serve {
    let dir = tempfile::tempdir().unwrap();
    let users = dir.path().join("users");
    fs::write(&users, format!("me:{}\n", bcrypt::hash(PASSWORD, 5).unwrap())).unwrap();
    Serve::start(&["--htpasswd", users.to_str().unwrap()])
}

/// Holds that a command is denied, also after a login with a wrong password, and then is not.
fn after_a_login(client: &Client, login: &[&str], command: &[&str]) {
    let denied = client.run(command).unwrap_err();
    assert!(denied.contains("UNAUTHORIZED") || denied.to_lowercase().contains("unauthorized"), "{denied}");
    let wrong: Vec<_> =
        login.iter().map(|word| if *word == PASSWORD { "another one" } else { word }).collect();
    // Some look at the password only when it is used.
    let _ = client.run(&wrong);
    client.run(command).unwrap_err();
    client.run(login).unwrap();
    client.run(command).unwrap();
}

/// Pushes an image after a login of crane.
fn push(node: &Serve, crane: &Client) -> String {
    let (layer, image) = (crane.path("layer.tar"), format!("{}/app:1", node.registry()));
    let dir = tempfile::tempdir().unwrap();
    fs::write(&layer, program_layer(dir.path(), SAYS)).unwrap();
    let login = ["auth", "login", node.registry(), "--username", "me", "--password", PASSWORD];
    after_a_login(crane, &login, &["append", "--new_layer", &layer, "--new_tag", &image]);
    let (digest, _) = manifest(node, "app", "1");
    format!("{}/app@{digest}", node.registry())
}

async fn crane_pushes_after_a_login() {
    blocking(|| {
        let (node, crane) = (node(), CRANE.start().unwrap());
        push(&node, &crane);
        crane
            .run(&["copy", &format!("{}/app:1", node.registry()), &format!("{}/copy:1", node.registry())])
            .unwrap();
        crane.run(&["auth", "logout", node.registry()]).unwrap();
        crane.run(&["validate", "--remote", &format!("{}/copy:1", node.registry())]).unwrap();
    })
    .await;
}

async fn oras_pushes_after_a_login() {
    blocking(|| {
        let (node, oras) = (node(), ORAS.start().unwrap());
        let (file, to) = (oras.write("file", "a file\n").unwrap(), format!("{}/file:1", node.registry()));
        let login = ["login", "--plain-http", node.registry(), "--username", "me", "--password", PASSWORD];
        after_a_login(&oras, &login, &["push", "--plain-http", "--disable-path-validation", &to, &file]);
    })
    .await;
}

async fn regctl_pushes_after_a_login() {
    blocking(|| {
        let node = node();
        let regctl = regctl::speaking_to(&[&node]);
        let (file, to) = (regctl.write("file", "a file\n").unwrap(), format!("{}/file:1", node.registry()));
        let login = ["registry", "login", node.registry(), "--user", "me", "--pass", PASSWORD];
        let put = ["artifact", "put", "--artifact-type", "application/vnd.example", "--file", &file, &to];
        after_a_login(&regctl, &login, &put);
    })
    .await;
}

async fn helm_pushes_after_a_login() {
    blocking(|| {
        let (node, helm) = (node(), HELM.start().unwrap());
        let chart = super::helm::package(&helm, "0.1.0");
        let login = [
            "registry",
            "login",
            "--plain-http",
            node.registry(),
            "--username",
            "me",
            "--password",
            PASSWORD,
        ];
        let push = ["push", "--plain-http", &chart, &format!("oci://{}/charts", node.registry())];
        after_a_login(&helm, &login, &push);
    })
    .await;
}

async fn cosign_signs_after_a_login() {
    blocking(|| {
        let (node, cosign) = (node(), cosign::keyed());
        let image = push(&node, &CRANE.start().unwrap());
        let key = cosign.path("cosign.key");
        let login = ["login", node.registry(), "--username", "me", "--password", PASSWORD];
        let sign = ["sign", "--yes", "--tlog-upload=false", "--allow-http-registry", "--key", &key, &image];
        after_a_login(&cosign, &login, &sign);
    })
    .await;
}

async fn notation_signs_with_a_password() {
    blocking(|| {
        let (node, notation) = (node(), notation::keyed());
        let image = push(&node, &CRANE.start().unwrap());
        let sign = ["sign", "--insecure-registry", "--force-referrers-tag=false", &image];
        notation.run(&sign).unwrap_err();
        // Without a store for passwords on the machine it cannot log in.
        notation.run(&[&sign[..], &["--username", "me", "--password", PASSWORD]].concat()).unwrap();
        notation.run(&["verify", "--insecure-registry", &image]).unwrap();
    })
    .await;
}
