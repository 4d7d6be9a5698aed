//! Real clients pull each kind of name.

use std::{fs, path::Path};

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
    clients::{Buildah, Containerd, Docker, Podman, Skopeo},
    dns::Dns,
    harness::{blocking, trials},
    http::get,
    offline::{Offline, layer_manifest},
};

const SAYS: &str = "hello by any name\n";

pub fn trials() -> Vec<Trial> {
    [
        trials![needs Skopeo::available(); skopeo_copies_images_of_every_name_kind],
        trials![needs Podman::available(); podman_pulls_and_runs_images_of_every_name_kind],
        trials![needs Buildah::available(); buildah_from_runs_images_of_every_name_kind],
        trials![needs Containerd::available(); containerd_pulls_and_runs_images_of_every_name_kind],
        trials![needs Docker::available(); docker_builds_on_and_runs_images_of_every_name_kind],
        trials![needs Docker::compose_available(); docker_compose_runs_images_of_every_name_kind],
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Reference that a client pulls, and the digest of its manifest.
struct Named {
    reference: String,
    digest: String,
}

impl Named {
    /// Returns the command to run: a layer has no command of its own.
    fn command(&self) -> &'static [&'static str] {
        if self.reference.contains("/layer/") { &["/hello"] } else { &[] }
    }
}

/// Serves the same program under a name of each kind; also returns the DNS server that is used.
async fn named() -> ((Pair, Dns), Vec<Named>) {
    let dir = tempfile::tempdir().unwrap();
    let layer = program_layer(dir.path(), SAYS);
    let (image, docker) = (Image::with_layer("oci", layer.clone()), dockerized::docker_image(layer));
    let (mut pair, (folder, mut names)) = Pair::new(async |offline| {
        let files = layout("hello/", &[tagged(image.descriptor(), "1.0")], &[&image], &[]);
        let folder = folder::put(offline, &files, Shape::Sharded).await;
        let files = dockerized::directory("hello", &docker);
        let [base32, hex] = dockerized::hashes(folder::put(offline, &files, Shape::Plain(Legacy)).await);
        let names = vec![
            (format!("ipfs/{folder}/hello:1.0"), image.digest()),
            put_descriptor(offline, &image).await,
            (format!("{base32}/hello"), docker.digest()),
            (format!("{hex}/hello:latest"), docker.digest()),
        ];
        let at = offline.put(&image.layer, UnixfsV1).await;
        let manifest = layer_manifest(&image.layer, at).to_string();
        (folder, [names, vec![(format!("layer/{}", offline.put(manifest, UnixfsV1).await), String::new())]])
    })
    .await;
    let dns = Dns::start().await;
    pair.ask_dns(&dns).await;
    let source = pair.source.as_ref().expect("it runs");
    // Of a layer the registry makes the manifest.
    let (layer, digest) = &mut names[1][0];
    let answer = get(&source.url(&format!("/v2/{layer}/manifests/latest"))).await;
    *digest = answer.header("docker-content-digest").into();
    let key = source.ask(&["-q", "name", "publish", "--key", "releases", &folder.to_string()]);
    dns.set("_dnslink.images.example.org", 1, &[&format!("dnslink=/ipns/{key}")]);
    let pointers = [key.as_str(), "images.example.org"].map(|pointer| format!("ipns/{pointer}/hello:1.0"));
    let pointers = pointers.map(|name| (name, image.digest()));
    let registry = pair.reader.registry().to_string();
    let named = names.into_iter().flatten().chain(pointers);
    let named = named.map(|(name, digest)| Named { reference: format!("{registry}/{name}"), digest });
    let named = named.collect();
    assert_eq!(pair.reader.stored("blobs"), 0);
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

async fn skopeo_copies_images_of_every_name_kind() {
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

async fn podman_pulls_and_runs_images_of_every_name_kind() {
    let (_running, named) = named().await;
    blocking(move || {
        let podman = Podman::new().unwrap();
        for named in &named {
            podman.pull(&named.reference).unwrap();
            assert_eq!(podman.run(&named.reference, named.command()).unwrap(), SAYS, "{}", named.reference);
        }
    })
    .await;
}

async fn buildah_from_runs_images_of_every_name_kind() {
    let (_running, named) = named().await;
    blocking(move || {
        let buildah = Buildah::new().unwrap();
        for Named { reference, .. } in &named {
            let container = buildah.from(reference).unwrap();
            assert_eq!(buildah.run(&container, &["/hello"]).unwrap(), SAYS, "{reference}");
        }
    })
    .await;
}

async fn containerd_pulls_and_runs_images_of_every_name_kind() {
    let (_running, named) = named().await;
    blocking(move || {
        let containerd = Containerd::start().unwrap();
        for named in &named {
            containerd.pull(&named.reference).unwrap();
            let said = containerd.run(&named.reference, named.command()).unwrap();
            assert_eq!(said, SAYS, "{}", named.reference);
        }
    })
    .await;
}

/// A build that begins with every kind of name, and is of the first.
fn build_from_all(dir: &Path, named: &[Named]) {
    let stages = named.iter().enumerate().rev();
    let stages = stages.map(|(n, named)| format!("FROM {} AS stage{n}\n", named.reference));
    let copies = (1..named.len()).map(|n| format!("COPY --from=stage{n} /hello /hello{n}\n"));
    fs::write(dir.join("Dockerfile"), stages.chain(copies).collect::<String>()).unwrap();
}

async fn docker_builds_on_and_runs_images_of_every_name_kind() {
    let (_running, named) = named().await;
    blocking(move || {
        let docker = Docker::start().unwrap();
        let dir = tempfile::tempdir().unwrap();
        build_from_all(dir.path(), &named);
        for buildkit in [false, true] {
            docker.build(dir.path(), "built", buildkit).unwrap();
            assert_eq!(docker.run("built", &[]).unwrap(), SAYS, "buildkit: {buildkit}");
            docker.forget_images().unwrap();
        }
        for named in &named {
            let said = docker.pull(&named.reference).unwrap();
            assert!(said.contains(&named.digest), "{said}");
            assert_eq!(docker.run(&named.reference, named.command()).unwrap(), SAYS, "{}", named.reference);
        }
    })
    .await;
}

async fn docker_compose_runs_images_of_every_name_kind() {
    let (_running, named) = named().await;
    blocking(move || {
        let docker = Docker::start().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let services = named.iter().enumerate().map(|(n, named)| {
            let service =
                json!({ "image": named.reference, "network_mode": "none", "command": named.command() });
            (format!("service{n}"), service)
        });
        let services: serde_json::Map<_, _> = services.collect();
        let file = json!({ "version": "2.4", "services": services }).to_string();
        fs::write(dir.path().join("docker-compose.yml"), file).unwrap();
        let said = docker.compose(dir.path()).unwrap();
        assert_eq!(said.matches(SAYS.trim_end()).count(), named.len(), "{said}");
    })
    .await;
}
