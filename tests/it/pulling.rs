//! Real clients pull a layer through a node that had none of it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use libtest_mimic::Trial;
use ocipfs_oci::Digest;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    clients::{self, Buildah, Containerd, Docker, Podman, Skopeo},
    harness::{Serve, blocking, trials},
};

pub fn trials() -> Vec<Trial> {
    [
        trials![needs Docker::available();
            docker_pulls_the_layer,
            docker_builds_on_the_layer_with_its_classic_builder,
            docker_builds_on_the_layer_with_buildkit,
            docker_shows_the_expected_tag_after_a_pull_by_a_wrong_tag,
        ],
        trials![needs Podman::available();
            podman_pulls_and_runs_the_layer,
            podman_pulls_uncompressed_and_zstd_layers,
        ],
        trials![needs Buildah::available(); buildah_from_runs_the_layer, buildah_builds_on_the_layer],
        trials![needs Containerd::available();
            containerd_pulls_and_runs_the_layer,
            containerd_pulls_with_a_hosts_toml,
        ],
        trials![needs Skopeo::available();
            skopeo_inspect_shows_tags_and_digest_of_the_layer,
            skopeo_copies_the_layer_byte_for_byte,
            skopeo_shows_the_expected_tag_after_an_inspect_of_a_wrong_tag,
        ],
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Output of the layer's program.
const SAYS: &str = "hello through IPFS\n";

/// The paths in the layer.
const FILES: [&str; 4] = ["hello", "share", "share/hello.txt", "share/link"];

/// A layer at one node, and another node that knows of it but has none of it.
struct Pair {
    _source: Serve,
    reader: Serve,
    /// Reference that a client pulls through the reader.
    reference: String,
    dir: TempDir,
}

impl Pair {
    /// The layer is a folder that ocipfs packs.
    fn new() -> Self {
        Self::with(Path::to_path_buf)
    }

    /// The layer is what `pack` makes of the folder.
    fn with(pack: impl FnOnce(&Path) -> PathBuf) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("hello-0.1.0");
        fs::create_dir_all(folder.join("share")).unwrap();
        clients::static_program(&folder, SAYS);
        fs::write(folder.join("share/hello.txt"), SAYS).unwrap();
        std::os::unix::fs::symlink("hello.txt", folder.join("share/link")).unwrap();
        let source = Serve::start(&[]);
        let reader = Serve::start(&["--peer", source.address()]);
        let added = source.ask(&["-q", "layer", "add", pack(&folder).to_str().unwrap()]);
        let (_, name) = added.split_once('/').unwrap();
        let reference = format!("{}/{name}", reader.registry());
        assert_eq!(reader.status()["cached_layers"], 0);
        Self { _source: source, reader, reference, dir }
    }

    fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A folder whose Dockerfile copies from the layer.
    fn build_dir(&self) -> &Path {
        clients::dockerfile(self.dir(), &self.reference, "/hello");
        self.dir()
    }

    /// The layer's reference with a tag that names another file.
    fn wrong_reference(&self) -> String {
        let (name, _) = self.reference.rsplit_once(':').unwrap();
        format!("{name}:hello-0.2.0.tar.gz")
    }

    /// Holds that the client's bytes came through the reader, from the source.
    #[track_caller]
    fn was_read(&self) {
        assert_eq!(self.reader.status()["cached_layers"], 1);
    }

    /// Returns the manifest's digest as the registry reports it.
    async fn digest(&self) -> String {
        let (name, tag) = self.reference.rsplit_once(':').unwrap();
        let name = name.trim_start_matches(self.reader.registry());
        let url = self.reader.url(&format!("/v2{name}/manifests/{tag}"));
        let head = reqwest::Client::new().head(url).send().await.unwrap();
        head.headers()["docker-content-digest"].to_str().unwrap().to_string()
    }
}

async fn docker_pulls_the_layer() {
    blocking(|| {
        let pair = Pair::new();
        let docker = Docker::start().unwrap();
        docker.pull(&pair.reference).unwrap();
        pair.was_read();
        assert_eq!(docker.image_files(&pair.reference).unwrap(), FILES);
    })
    .await;
}

async fn docker_builds_on_the_layer_with_its_classic_builder() {
    blocking(|| docker_builds(false)).await;
}

async fn docker_builds_on_the_layer_with_buildkit() {
    blocking(|| docker_builds(true)).await;
}

fn docker_builds(buildkit: bool) {
    let pair = Pair::new();
    let docker = Docker::start().unwrap();
    docker.build(pair.build_dir(), "hello:built", buildkit).unwrap();
    pair.was_read();
    assert_eq!(docker.run("hello:built", &[]).unwrap(), SAYS);
}

async fn docker_shows_the_expected_tag_after_a_pull_by_a_wrong_tag() {
    blocking(|| {
        let pair = Pair::new();
        let refused = Docker::start().unwrap().pull(&pair.wrong_reference()).unwrap_err();
        assert!(refused.contains("expected hello-0.1.0.tar.gz"), "{refused}");
    })
    .await;
}

async fn podman_pulls_and_runs_the_layer() {
    blocking(|| {
        let pair = Pair::new();
        let podman = Podman::new().unwrap();
        podman.pull(&pair.reference).unwrap();
        pair.was_read();
        assert_eq!(podman.image_files(&pair.reference).unwrap(), FILES);
        assert_eq!(podman.run(&pair.reference, &["/hello"]).unwrap(), SAYS);
    })
    .await;
}

async fn podman_pulls_uncompressed_and_zstd_layers() {
    blocking(|| {
        for zstd in [false, true] {
            let pair = Pair::with(|folder| tar(folder, zstd));
            let podman = Podman::new().unwrap();
            podman.pull(&pair.reference).unwrap();
            pair.was_read();
            assert_eq!(podman.image_files(&pair.reference).unwrap(), FILES);
        }
    })
    .await;
}

fn tar(folder: &Path, zstd: bool) -> PathBuf {
    let mut builder = tar::Builder::new(Vec::new());
    builder.follow_symlinks(false);
    builder.append_dir_all("", folder).unwrap();
    let bytes = builder.into_inner().unwrap();
    let (name, bytes) =
        if zstd { ("hello.tar.zst", zstd::encode_all(&bytes[..], 0).unwrap()) } else { ("hello.tar", bytes) };
    let path = folder.with_file_name(name);
    fs::write(&path, bytes).unwrap();
    path
}

async fn buildah_from_runs_the_layer() {
    blocking(|| {
        let pair = Pair::new();
        let buildah = Buildah::new().unwrap();
        let container = buildah.from(&pair.reference).unwrap();
        pair.was_read();
        assert_eq!(buildah.files(&container).unwrap(), FILES);
        assert_eq!(buildah.run(&container, &["/hello"]).unwrap(), SAYS);
    })
    .await;
}

async fn buildah_builds_on_the_layer() {
    blocking(|| {
        let pair = Pair::new();
        let buildah = Buildah::new().unwrap();
        buildah.build(pair.build_dir(), "hello:built").unwrap();
        pair.was_read();
        let container = buildah.from("localhost/hello:built").unwrap();
        assert_eq!(buildah.files(&container).unwrap(), FILES);
    })
    .await;
}

async fn containerd_pulls_and_runs_the_layer() {
    blocking(|| {
        let pair = Pair::new();
        let containerd = Containerd::start().unwrap();
        containerd.pull(&pair.reference).unwrap();
        pair.was_read();
        assert_eq!(containerd.image_files(&pair.reference).unwrap(), FILES);
        assert_eq!(containerd.run(&pair.reference, &["/hello"]).unwrap(), SAYS);
    })
    .await;
}

async fn containerd_pulls_with_a_hosts_toml() {
    blocking(|| {
        let pair = Pair::new();
        let containerd = Containerd::start().unwrap();
        containerd.pull_by_hosts_toml(pair.reader.registry(), &pair.reference).unwrap();
        pair.was_read();
        assert_eq!(containerd.image_files(&pair.reference).unwrap(), FILES);
    })
    .await;
}

async fn skopeo_inspect_shows_tags_and_digest_of_the_layer() {
    let pair = Pair::new();
    let reference = pair.reference.clone();
    let (told, raw) = blocking(move || {
        let skopeo = Skopeo::new().unwrap();
        (skopeo.inspect(&reference).unwrap(), skopeo.inspect_raw(&reference).unwrap())
    })
    .await;
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["RepoTags"], serde_json::json!(["hello-0.1.0.tar.gz", "latest"]));
    let digest = pair.digest().await;
    assert_eq!(told["Digest"], digest.as_str());
    assert_eq!(Digest::sha256_of(raw.as_bytes()).to_string(), digest);
}

async fn skopeo_copies_the_layer_byte_for_byte() {
    let pair = Pair::new();
    let [layout, files] = ["layout", "files"].map(|name| pair.dir().join(name));
    let copies = [format!("oci:{}:hello", layout.display()), format!("dir:{}", files.display())];
    let reference = pair.reference.clone();
    blocking(move || {
        let skopeo = Skopeo::new().unwrap();
        for copy in copies {
            skopeo.copy(&reference, &copy).unwrap();
        }
    })
    .await;
    pair.was_read();
    let digest = pair.digest().await;
    let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    assert_eq!(index["manifests"][0]["digest"], digest.as_str());
    let manifest = fs::read(files.join("manifest.json")).unwrap();
    assert_eq!(Digest::sha256_of(&manifest).to_string(), digest);
}

async fn skopeo_shows_the_expected_tag_after_an_inspect_of_a_wrong_tag() {
    blocking(|| {
        let pair = Pair::new();
        let refused = Skopeo::new().unwrap().inspect(&pair.wrong_reference()).unwrap_err();
        assert!(refused.contains("expected hello-0.1.0.tar.gz"), "{refused}");
    })
    .await;
}
