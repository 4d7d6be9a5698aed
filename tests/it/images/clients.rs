//! Archives that real clients write, in each form, pulled through a node that had none of it, and exported again.

use std::{
    fs,
    path::{Path, PathBuf},
};

use libtest_mimic::Trial;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    clients::{Buildah, Containerd, Docker, Podman, Skopeo, Umoci, static_program},
    harness::{Layer, Serve, blocking, noise, trials},
};

pub fn trials() -> Vec<Trial> {
    [
        trials![needs Docker::available(); docker_save_is_imported_and_an_export_is_loaded_by_docker],
        trials![needs Podman::available(); podman_save_is_imported_and_an_export_is_loaded_by_podman],
        trials![needs Buildah::available(); archives_of_buildah_are_imported_and_pulled],
        trials![needs Skopeo::available(); archives_of_skopeo_are_imported_and_pulled],
        trials![needs Containerd::remote_available(); an_estargz_archive_of_containerd_is_imported_and_pulled],
        trials![needs Umoci::available().and(Skopeo::available()); an_image_layout_of_umoci_is_imported_and_pulled],
    ]
    .into_iter()
    .flatten()
    .collect()
}

const SAYS: &str = "hello from an archive\n";

/// A node that imports, another that has nothing, and a folder for what clients write.
struct Pair {
    source: Serve,
    reader: Serve,
    dir: TempDir,
}

impl Pair {
    fn new() -> Self {
        let source = Serve::start(&[]);
        let reader = Serve::start(&["--peer", source.address()]);
        Self { source, reader, dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A folder whose Dockerfile makes an image of one program.
    fn build_dir(&self) -> PathBuf {
        let dir = self.path("build");
        fs::create_dir_all(&dir).unwrap();
        static_program(&dir, SAYS);
        let text = "FROM scratch\nCOPY hello /hello\nENTRYPOINT [\"/hello\"]\n";
        fs::write(dir.join("Dockerfile"), text).unwrap();
        dir
    }

    /// Imports an archive in each form; what is pulled through the reader.
    fn import(&self, archive: &Path) -> [String; 3] {
        let (archive, registry) = (archive.to_str().unwrap(), self.reader.registry());
        ["layout", "descriptor", "dockerized"].map(|form| {
            self.source.ask(&["-q", "image", "import", archive, "--as", form, "--registry", registry])
        })
    }

    /// Exports what a reference means from the reader.
    fn export(&self, reference: &str, name: &str) -> PathBuf {
        let dest = self.path(name);
        self.reader.ask(&["image", "export", reference, dest.to_str().unwrap()]);
        dest
    }
}

/// Returns the image name that a client reports as loaded.
fn loaded(said: &str) -> &str {
    said.trim().rsplit_once(": ").expect("the name of an image").1
}

async fn docker_save_is_imported_and_an_export_is_loaded_by_docker() {
    blocking(|| {
        let (pair, docker) = (Pair::new(), Docker::start().unwrap());
        let archive = pair.path("saved.tar");
        docker.build(&pair.build_dir(), "hello:1.0", false).unwrap();
        docker.save("hello:1.0", &archive).unwrap();
        docker.forget_images().unwrap();
        let references = pair.import(&archive);
        for reference in &references {
            docker.pull(reference).unwrap();
            assert_eq!(docker.run(reference, &[]).unwrap(), SAYS, "{reference}");
        }
        docker.forget_images().unwrap();
        let said = docker.load(&pair.export(&references[0], "exported.tar")).unwrap();
        assert_eq!(loaded(&said), "hello:1.0");
        assert_eq!(docker.run("hello:1.0", &[]).unwrap(), SAYS);
    })
    .await;
}

async fn podman_save_is_imported_and_an_export_is_loaded_by_podman() {
    blocking(|| {
        let (pair, podman) = (Pair::new(), Podman::new().unwrap());
        podman.build(&pair.build_dir(), "hello:1.0").unwrap();
        let archives = ["docker-archive", "oci-archive", "oci-dir"].map(|format| {
            podman.save("hello:1.0", format, &pair.path(format)).unwrap();
            pair.path(format)
        });
        podman.forget_images().unwrap();
        let references = archives.map(|archive| pair.import(&archive));
        for reference in references.iter().flatten() {
            assert_eq!(podman.run(reference, &[]).unwrap(), SAYS, "{reference}");
        }
        for name in ["exported.tar", "exported.oci.tar"] {
            podman.forget_images().unwrap();
            let said = podman.load(&pair.export(&references[0][0], name)).unwrap();
            assert_eq!(podman.run(loaded(&said), &[]).unwrap(), SAYS, "{name}: {said}");
        }
    })
    .await;
}

async fn archives_of_buildah_are_imported_and_pulled() {
    blocking(|| {
        let (pair, buildah) = (Pair::new(), Buildah::new().unwrap());
        buildah.build(&pair.build_dir(), "hello:1.0").unwrap();
        for (kind, name) in [("docker-archive", "hello:1.0"), ("oci-archive", "1.0")] {
            let archive = pair.path(kind);
            buildah.save("hello:1.0", &format!("{kind}:{}:{name}", archive.display())).unwrap();
            for reference in pair.import(&archive) {
                let container = buildah.from(&reference).unwrap();
                assert_eq!(buildah.run(&container, &["/hello"]).unwrap(), SAYS, "{reference}");
            }
        }
    })
    .await;
}

async fn archives_of_skopeo_are_imported_and_pulled() {
    blocking(|| {
        let (pair, skopeo) = (Pair::new(), Skopeo::new().unwrap());
        let layer = Layer::add(&pair.source, &noise(3 << 20)).reference(&pair.source);
        let mut digests: Vec<Value> = Vec::new();
        for (kind, name) in [("oci", "1.0"), ("oci-archive", "1.0"), ("docker-archive", "hello:1.0")] {
            let archive = pair.path(kind);
            skopeo.copy(&layer, &format!("{kind}:{}:{name}", archive.display())).unwrap();
            for reference in pair.import(&archive) {
                // It holds what it copies against the digests.
                skopeo.copy(&reference, &format!("dir:{}", pair.path("copy").display())).unwrap();
            }
            let archive = archive.to_str().unwrap();
            digests.push(pair.source.json(&["image", "import", archive])[0]["digest"].clone());
        }
        assert_eq!(digests[0], digests[1]);
        // Of docker's archive it makes a layout.
        let (archive, layout) = (pair.path("docker-archive"), pair.path("again"));
        let to = format!("oci:{}:1", layout.display());
        skopeo.convert(&format!("docker-archive:{}", archive.display()), &to).unwrap();
        assert!(pair.import(&layout)[0].ends_with("/image:1"));
    })
    .await;
}

async fn an_image_layout_of_umoci_is_imported_and_pulled() {
    blocking(|| {
        let (pair, skopeo, umoci) = (Pair::new(), Skopeo::new().unwrap(), Umoci::new().unwrap());
        let layout = pair.path("hello");
        umoci.make(&layout, "1.0", &pair.build_dir().join("hello")).unwrap();
        let [by_path, by_descriptor, dockerized] = pair.import(&layout);
        for (name, reference) in [("by-path", by_path), ("dockerized", dockerized)] {
            let copy = pair.path(name);
            skopeo.copy(&reference, &format!("oci:{}:1.0", copy.display())).unwrap();
            assert_eq!(umoci.image_files(&copy, "1.0").unwrap(), ["hello"], "{reference}");
        }
        // Into a layout skopeo copies no layer that says where else it is.
        skopeo.copy(&by_descriptor, &format!("dir:{}", pair.path("copy").display())).unwrap();
    })
    .await;
}

async fn an_estargz_archive_of_containerd_is_imported_and_pulled() {
    blocking(|| {
        let (pair, containerd) = (Pair::new(), Containerd::start().unwrap());
        let folder = pair.build_dir();
        let layer = pair.source.ask(&["-q", "layer", "add", folder.to_str().unwrap()]);
        let archive = pair.path("exported.tar");
        containerd.pull(&layer).unwrap();
        containerd.export_estargz(&layer, "localhost/hello:1.0", &archive).unwrap();
        let references = pair.import(&archive);
        for reference in &references {
            containerd.pull(reference).unwrap();
            assert_eq!(containerd.run(reference, &["/hello"]).unwrap(), SAYS, "{reference}");
        }
        // By this a snapshotter finds the files of a layer without the layer.
        let inspected = pair.reader.json(&["image", "inspect", &references[0]]);
        let annotations = &inspected["manifest"]["layers"][0]["annotations"];
        assert!(annotations["containerd.io/snapshot/stargz/toc.digest"].is_string(), "{inspected}");
    })
    .await;
}
