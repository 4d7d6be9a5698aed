//! Many generated images, unsigned or wrongly signed, of which none is served: over HTTP, by tag and by digest.

use std::{fs, time::Duration};

use futures::{StreamExt, stream};
use libtest_mimic::Trial;
use ocipfs_oci::media_type;
use serde_json::{Value, json};

use super::{
    Policed,
    forged::{Defect, FORMS, Form, Signers},
    signing::Key,
};
use crate::{
    harness::trial_within,
    killing::chance::Chance,
    push::{descriptor, manifest},
};

pub fn trials() -> Vec<Trial> {
    let name = concat!(module_path!(), "::generated_images_are_served_only_if_they_are_rightly_signed");
    vec![trial_within(
        name,
        Duration::from_secs(900),
        generated_images_are_served_only_if_they_are_rightly_signed,
    )]
}

const COSIGN: &str = "team/cosign";
const NOTATION: &str = "team/notation";
const LAYER: &[u8] = b"a layer of all images";
/// Images at one time.
const CONCURRENT: usize = 8;
/// One image of so many is rightly signed.
const RIGHT: usize = 11;

const POLICIES: &str = r#"
[keys.release]
cosign = "release.pub"

[keys.acme]
notation = ["acme.pem"]

[[policy]]
repositories = ["team/cosign*"]
keys = ["release"]

[[policy]]
repositories = ["team/notation*"]
keys = ["acme"]
"#;

/// Images without a right signature: 1,000 where `OCIPFS_TEST_FULL_SIZE=1`, else 200.
fn wrong_images() -> usize {
    if std::env::var_os("OCIPFS_TEST_FULL_SIZE").is_some_and(|value| value == "1") { 1_000 } else { 200 }
}

/// An image, and how it is signed.
#[derive(Clone, Copy, Debug)]
struct Case {
    number: usize,
    form: Form,
    defect: Defect,
}

/// Each form with each defect, then random ones, and among them some that are right.
fn cases() -> Vec<Case> {
    let mut chance = Chance::new("generated signatures");
    let pairs = FORMS.iter().flat_map(|form| form.defects().into_iter().map(|defect| (*form, defect)));
    let pairs: Vec<(Form, Defect)> = pairs.collect();
    let mut cases: Vec<Case> = Vec::new();
    for number in 0..wrong_images() {
        let at = if number < pairs.len() { number } else { chance.below(pairs.len() as u64) as usize };
        let (form, defect) = pairs[at];
        cases.push(Case { number: cases.len(), form, defect });
        if number % (RIGHT - 1) == 0 {
            let form = FORMS[number / (RIGHT - 1) % FORMS.len()];
            cases.push(Case { number: cases.len(), form, defect: Defect::Nothing });
        }
    }
    cases
}

/// An image of this number, which has a manifest of its own.
fn image(number: impl ToString) -> Value {
    let mut image = manifest(b"{}", &[LAYER]);
    image["annotations"] = json!({ "org.example.number": number.to_string() });
    image
}

struct World {
    node: Policed,
    signers: Signers,
}

impl World {
    async fn start() -> Self {
        let (signers, dir) = (Signers::make(), tempfile::tempdir().unwrap());
        fs::write(dir.path().join("release.pub"), signers.cosign.pem()).unwrap();
        fs::write(dir.path().join("acme.pem"), &signers.authority).unwrap();
        let node = Policed::with(Key::make(), dir, POLICIES, &[]);
        for name in [COSIGN, NOTATION] {
            for (name, blob) in [
                (name.to_owned(), LAYER),
                (name.to_owned(), b"{}".as_slice()),
                (elsewhere(name), b"{}".as_slice()),
            ] {
                assert_eq!(node.of("alice").upload(&name, blob).await.status, 201);
            }
        }
        Self { node, signers }
    }

    /// Pushes an image and its signature. Returns what is wrong with the answers to one who may not sign.
    async fn run(&self, case: Case) -> Option<String> {
        let Case { number, form, defect } = case;
        let (needed, other) = if form.is_of_notation() { (NOTATION, COSIGN) } else { (COSIGN, NOTATION) };
        let name = if defect == Defect::OtherPolicy { other } else { needed };
        let (alice, pushed, tag) = (self.node.of("alice"), image(number), format!("t{number}"));
        let put = alice.put(name, &tag, &pushed).await;
        assert_eq!(put.status, 201, "{put:?}");
        let digest = put.header("docker-content-digest");
        if defect != Defect::Missing {
            self.sign(name, case, &pushed).await;
        }
        let mut statuses = Vec::new();
        for reference in [tag.as_str(), digest] {
            let path = format!("/v2/{name}/manifests/{reference}");
            statuses.push(self.node.of("bob").get(&path).await.status);
        }
        let expected = if defect == Defect::Nothing { 200 } else { 403 };
        (statuses != [expected; 2]).then(|| format!("{case:?}: {statuses:?}"))
    }

    async fn sign(&self, name: &str, Case { number, form, defect }: Case, pushed: &Value) {
        let described = |image: &Value| descriptor(media_type::OCI_MANIFEST, image.to_string().as_bytes());
        let other = described(&image(format!("other than {number}")));
        let signature = self.signers.sign(form, defect, &described(pushed), &other);
        let place = if defect == Defect::Elsewhere { elsewhere(name) } else { name.into() };
        let alice = self.node.of("alice");
        assert_eq!(alice.upload(&place, &signature.layer).await.status, 201);
        let put = alice.put(&place, &signature.reference, &signature.manifest).await;
        assert_eq!(put.status, 201, "{form:?} {defect:?}: {put:?}");
    }
}

fn elsewhere(name: &str) -> String {
    format!("{name}-elsewhere")
}

async fn generated_images_are_served_only_if_they_are_rightly_signed() {
    let (world, cases) = (World::start().await, cases());
    let count = |defect: Defect| cases.iter().filter(|case| case.defect == defect).count();
    let right = count(Defect::Nothing);
    assert!(right >= 20 && cases.len() - right >= 200, "{right} of {}", cases.len());
    let running = stream::iter(cases).map(|case| world.run(case)).buffer_unordered(CONCURRENT);
    let failed: Vec<String> = running.filter_map(async |failed| failed).collect().await;
    assert!(failed.is_empty(), "{}: {failed:#?}", failed.len());
}
