//! The check of a signature, from the bytes of its manifest and its layer.
//!
//! `cargo bench --bench signatures`

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use ocipfs::signatures::{Policies, SignatureManifest};

const POLICY: &str = r#"
[keys.release]
cosign = "cosign.pub"

[keys.acme]
notation = ["notation.crt"]
"#;
/// When the signatures were made; the certificate was valid for a day.
const SIGNED_AT: u64 = 1_795_959_914;

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("../src/signatures/fixtures/", $name))
    };
}

fn load(file: &str) -> Result<Vec<u8>, String> {
    Ok(match file {
        "cosign.pub" => fixture!("cosign.pub").to_vec(),
        _ => fixture!("notation.crt").to_vec(),
    })
}

fn benches(c: &mut Criterion) {
    let policies = Policies::parse(POLICY, load).expect("a policy");
    let mut group = c.benchmark_group("signatures");
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    let made: [(&str, &[u8], &[u8]); 4] = [
        ("cosign", fixture!("cosign.manifest.json"), fixture!("cosign.layer.json")),
        ("cosign bundle", fixture!("bundle.manifest.json"), fixture!("bundle.layer.json")),
        ("notation JWS", fixture!("jws.manifest.json"), fixture!("jws.layer.json")),
        ("notation COSE", fixture!("cose.manifest.json"), fixture!("cose.layer")),
    ];
    for (name, manifest, layer) in made {
        let check = || {
            let manifest = SignatureManifest::parse(manifest).expect("a signature");
            manifest
                .check(policies.keys(), b"{}", &[layer.to_vec()], SIGNED_AT)
                .expect("a subject")
                .signers
                .len()
        };
        assert_eq!(check(), 1, "{name}");
        group.bench_function(name, |b| b.iter(|| black_box(check())));
    }
}

criterion_group!(all, benches);
criterion_main!(all);
