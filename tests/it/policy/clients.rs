//! cosign and notation, as they are: push, then sign, then pull.

use std::fs;

use libtest_mimic::Trial;

use super::{Key, Policed, RULES};
use crate::{
    access::Ruled,
    clients::{COSIGN, Client, NOTATION},
    harness::{blocking, trials},
    tools::{cosign, notation},
};

pub fn trials() -> Vec<Trial> {
    [
        trials![needs COSIGN.available();
            an_image_is_served_after_cosign_sign,
            an_image_is_served_after_cosign_sign_with_a_bundle,
        ],
        trials![needs NOTATION.available();
            an_image_is_served_after_notation_sign,
            an_image_is_served_after_notation_sign_with_cose,
        ],
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A node whose images have to be signed by a client.
fn node(keys: &str) -> Policed {
    assert!(RULES.contains("\"sign\""));
    let text = format!("{keys}\n[[policy]]\nrepositories = ['team/*']\nkeys = ['release']\n");
    Policed::with(Key::make(), tempfile::tempdir().unwrap(), &text, &[])
}

/// A node that trusts the key of a cosign.
fn of_cosign(cosign: &Client) -> Policed {
    let key = fs::read_to_string(cosign.path("cosign.pub")).unwrap();
    node(&format!("[keys.release]\ncosign = '''{key}'''"))
}

/// A node that trusts the certificate of a notation.
fn of_notation(notation: &Client) -> Policed {
    let certificate = notation.path(".config/notation/localkeys/test.crt");
    node(&format!(
        "[keys.release]\nnotation = ['{certificate}']\nidentities = ['x509.subject: C=US, ST=WA, O=Notary']"
    ))
}

const LOGIN: [&str; 4] = ["--username", "carol", "--password", "carol"];

/// Has a client sign as carol, and holds that the image is served from then on, and was not before.
async fn served_after(node: Policed, sign: impl FnOnce(&Ruled, &str) + Send + 'static) {
    let image = node.of("alice").push("team/app", "1", b"a layer").await;
    assert_eq!(node.statuses("/v2/team/app/manifests/1").await, [401, 403, 200]);
    let reference = format!("{}/team/app@{image}", node.ruled.node.registry());
    let Policed { ruled, key, dir } = node;
    let ruled = blocking(move || {
        sign(&ruled, &reference);
        ruled
    })
    .await;
    let node = Policed { ruled, key, dir };
    assert_eq!(node.statuses("/v2/team/app/manifests/1").await, [200; 3]);
}

async fn an_image_is_served_after_cosign_sign() {
    let cosign = blocking(cosign::keyed).await;
    let node = of_cosign(&cosign);
    served_after(node, move |ruled, reference| {
        cosign.run(&[&["login", ruled.node.registry()], &LOGIN[..]].concat()).unwrap();
        cosign::sign(&cosign, reference, &[]);
        cosign::verify(&cosign, reference, &[]).unwrap();
    })
    .await;
}

async fn an_image_is_served_after_cosign_sign_with_a_bundle() {
    let cosign = blocking(cosign::keyed).await;
    let node = of_cosign(&cosign);
    served_after(node, move |ruled, reference| {
        cosign.run(&[&["login", ruled.node.registry()], &LOGIN[..]].concat()).unwrap();
        cosign::sign(&cosign, reference, &["--new-bundle-format"]);
    })
    .await;
}

async fn an_image_is_served_after_notation_sign() {
    let notation = blocking(notation::keyed).await;
    let node = of_notation(&notation);
    served_after(node, move |_, reference| {
        let sign = ["sign", "--insecure-registry", "--force-referrers-tag=false"];
        notation.run(&[&sign[..], &LOGIN, &[reference]].concat()).unwrap();
        // The one who verifies needs no login.
        notation.run(&["verify", "--insecure-registry", reference]).unwrap();
    })
    .await;
}

async fn an_image_is_served_after_notation_sign_with_cose() {
    let notation = blocking(notation::keyed).await;
    let node = of_notation(&notation);
    served_after(node, move |_, reference| {
        let sign =
            ["sign", "--insecure-registry", "--force-referrers-tag=false", "--signature-format", "cose"];
        notation.run(&[&sign[..], &LOGIN, &[reference]].concat()).unwrap();
    })
    .await;
}
