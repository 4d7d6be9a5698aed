//! Certificates and settings that cannot be served.

use std::{fs, path::Path};

use libtest_mimic::Trial;

use crate::{
    authority::Authority,
    harness::{Said, finish, ocipfs, trials},
};

pub fn trials() -> Vec<Trial> {
    trials![
        certificates_that_cannot_be_served_are_usage_errors_that_name_the_file,
        tls_settings_that_make_no_sense_together_are_usage_errors,
    ]
}

/// Runs a `serve` that does not come up.
fn serve(arguments: &[&str]) -> Said {
    let dir = tempfile::tempdir().unwrap();
    let free = ["--listen", "127.0.0.1:0", "--swarm-listen", "/ip4/127.0.0.1/tcp/0"];
    finish(ocipfs(dir.path()).arg("serve").args(free).args(arguments))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

async fn certificates_that_cannot_be_served_are_usage_errors_that_name_the_file() {
    let authority = Authority::new();
    let (one, two) = (authority.server("one", &["localhost"]), authority.server("two", &["localhost"]));
    let dir = tempfile::tempdir().unwrap();
    let [empty, encrypted] = ["empty", "encrypted"].map(|name| dir.path().join(name));
    fs::write(&empty, "").unwrap();
    let text_of_key = fs::read_to_string(&one.key).unwrap().replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    fs::write(&encrypted, text_of_key).unwrap();
    let nowhere = dir.path().join("nowhere");
    for (certificate, key, told) in [
        (one.certificate(), two.key(), "does not belong to the certificate in"),
        (text(&nowhere), one.key(), "cannot read"),
        (one.certificate(), text(dir.path()), "cannot read"),
        (text(&empty), one.key(), "has no certificate in PEM"),
        (one.certificate(), text(&encrypted), "has no private key"),
    ] {
        let said = serve(&["--tls-cert", certificate, "--tls-key", key]);
        said.failed(2, &["error: ", told, "hint: "]);
    }
    let tls = ["--tls-cert", one.certificate(), "--tls-key", one.key()];
    for ca in [text(&nowhere), text(&empty), one.key()] {
        serve(&[&tls[..], &["--client-ca", ca]].concat()).failed(2, &["error: ", ca, "hint: "]);
    }
    let audit = dir.path().join("nowhere/audit");
    serve(&["--audit-log", text(&audit)]).failed(2, &["cannot write the audit log", text(&audit), "hint: "]);
    let hook = ["--webhook", "http://127.0.0.1:9"];
    serve(&[&hook[..], &["--webhook-secret", text(&empty)]].concat())
        .failed(2, &["is not a secret", "hint: "]);
}

async fn tls_settings_that_make_no_sense_together_are_usage_errors() {
    let authority = Authority::new();
    let pair = authority.server("one", &["localhost"]);
    for (arguments, told) in [
        (&["--tls-cert", pair.certificate()][..], "come in pairs, and there are 1 and 0"),
        (&["--tls-key", pair.key()], "come in pairs, and there are 0 and 1"),
        (&["--client-ca", pair.certificate()], "--client-ca needs TLS"),
        (&["--client-cert", "required"], "--client-cert needs --client-ca"),
        (&["--client-cert", "maybe"], "invalid value 'maybe'"),
        (&["--acme", "*.example"], "expected the name of one host"),
        (&["--acme-directory", "https://127.0.0.1:9/dir"], "--acme-directory needs --acme"),
        (&["--acme-directory", "127.0.0.1"], "invalid ACME directory"),
        (&["--acme", "a.localhost", "--acme-ca", "/nowhere"], "/nowhere"),
        (&["--webhook", "hooks.example"], "invalid webhook"),
        (&["--webhook-secret", pair.key()], "--webhook-secret needs --webhook"),
    ] {
        serve(arguments).failed(2, &["error: ", told]);
    }
}
