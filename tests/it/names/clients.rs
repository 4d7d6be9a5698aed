//! Real clients pull each kind of name.

use std::fs;

use libtest_mimic::Trial;
use ocipfs::content::Profile::{Legacy, UnixfsV1};
use ocipfs_oci::media_type;
use serde_json::{Value, json};

use super::{
    Pair, dockerized,
    folder::{self, Shape},
    image::{Image, descriptor, layout, tagged, with},
    program_layer,
};
use crate::{
    clients::{Docker, Podman, Skopeo},
    dns::Dns,
    harness::trials,
    offline::Offline,
};

const SAYS: &str = "hello by any name\n";

pub fn trials() -> Vec<Trial> {
    [
        trials![needs Skopeo::available(); skopeo_copies_every_kind_of_name],
        trials![needs Podman::available(); podman_runs_every_kind_of_name],
        trials![needs Docker::available(); docker_pulls_and_runs_every_kind_of_name],
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What a client pulls, and the digest of its manifest.
struct Named {
    reference: String,
    digest: String,
}

/// The same program under a name of each kind but `layer/`, which has stories of its own; and the DNS server that is asked.
async fn named() -> ((Pair, Dns), Vec<Named>) {
    let dir = tempfile::tempdir().unwrap();
    let layer = program_layer(dir.path(), SAYS);
    let (image, docker) = (Image::with_layer("oci", layer.clone()), dockerized::docker_image(layer));
    let (mut pair, (top, names)) = Pair::new(async |offline| {
        let files = layout("hello/", &[tagged(image.descriptor(), "1.0")], &[&image], &[]);
        let layout = folder::put(offline, &files, Shape::Sharded).await;
        let files = dockerized::directory("hello", &docker);
        let [base32, hex] = dockerized::hashes(folder::put(offline, &files, Shape::Plain(Legacy)).await);
        let (name, digest) = put_descriptor(offline, &image).await;
        let names = [
            (format!("ipfs/{layout}/hello:1.0"), image.digest()),
            (name, digest),
            (format!("{base32}/hello"), docker.digest()),
            (format!("{hex}/hello:latest"), docker.digest()),
        ];
        (layout, names)
    })
    .await;
    let dns = Dns::start().await;
    pair.ask_dns(&dns).await;
    let source = pair.source.as_ref().expect("it runs");
    let key = source.ask(&["-q", "name", "publish", "--key", "releases", &top.to_string()]);
    dns.set("_dnslink.images.example.org", 1, &[&format!("dnslink=/ipns/{key}")]);
    let pointers = [key.as_str(), "images.example.org"].map(|pointer| format!("ipns/{pointer}/hello:1.0"));
    let names = names.into_iter().chain(pointers.map(|name| (name, image.digest())));
    let registry = pair.reader.registry().to_string();
    let named = names.map(|(name, digest)| Named { reference: format!("{registry}/{name}"), digest });
    let named = named.collect();
    ((pair, dns), named)
}

async fn put_descriptor(offline: &Offline, image: &Image) -> (String, String) {
    let mut manifest: Value = serde_json::from_slice(&image.manifest).unwrap();
    let url = async |bytes: &[u8]| json!([format!("ipfs://{}", offline.put(bytes, UnixfsV1).await)]);
    manifest["config"]["urls"] = url(&image.config).await;
    manifest["layers"][0]["urls"] = url(&image.layer).await;
    let manifest = manifest.to_string().into_bytes();
    let top = descriptor(media_type::OCI_MANIFEST, &manifest);
    let digest = top["digest"].as_str().unwrap().to_string();
    let top = with(top, "urls", url(&manifest).await);
    (format!("ipfs/{}", offline.put(top.to_string(), UnixfsV1).await), digest)
}

/// Runs what blocks beside the runtime, so that a story's deadline still holds.
async fn blocking<T: Send + 'static>(story: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(story).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

async fn skopeo_copies_every_kind_of_name() {
    let (_running, named) = named().await;
    blocking(move || {
        let dir = tempfile::tempdir().unwrap();
        let skopeo = Skopeo::new().unwrap();
        for (n, Named { reference, digest }) in named.iter().enumerate() {
            let files = dir.path().join(n.to_string());
            skopeo.copy(reference, &format!("dir:{}", files.display())).unwrap();
            let manifest = fs::read(files.join("manifest.json")).unwrap();
            assert_eq!(ocipfs_oci::Digest::sha256_of(&manifest).to_string(), *digest, "{reference}");
            let inspected: Value = serde_json::from_str(&skopeo.inspect(reference).unwrap()).unwrap();
            assert_eq!(inspected["Digest"], digest.as_str());
        }
    })
    .await;
}

async fn podman_runs_every_kind_of_name() {
    let (_running, named) = named().await;
    blocking(move || {
        let podman = Podman::new().unwrap();
        for Named { reference, .. } in &named {
            assert_eq!(podman.run(reference, &[]).unwrap(), SAYS, "{reference}");
        }
    })
    .await;
}

async fn docker_pulls_and_runs_every_kind_of_name() {
    let (_running, named) = named().await;
    blocking(move || {
        let docker = Docker::start().unwrap();
        for Named { reference, digest } in &named {
            let said = docker.pull(reference).unwrap();
            assert!(said.contains(digest), "{said}");
            assert_eq!(docker.run(reference).unwrap(), SAYS, "{reference}");
        }
    })
    .await;
}
