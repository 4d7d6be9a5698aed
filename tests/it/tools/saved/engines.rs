//! What the engines save: docker, podman and containerd.

use libtest_mimic::Trial;

use super::{super::Imported, Image, Nodes, SAYS, content, indexed, manifest, push, wait, whole};
use crate::{
    clients::{CRANE, Containerd, Docker, Podman},
    harness::{blocking, trials},
    names::program_layer,
};

pub fn trials() -> Vec<Trial> {
    [
        trials![needs Docker::available(); what_docker_save_writes_has_the_images_that_docker_has],
        trials![needs Podman::available(); what_podman_save_writes_has_the_images_that_podman_has],
        trials![needs Containerd::available().and(CRANE.available()); what_ctr_image_export_writes_is_imported],
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Pushes two images that share a layer, and returns the references that are pulled, and the digests of their configs.
fn two(nodes: &Nodes) -> ([String; 2], [String; 2]) {
    let images = ["app", "other"].map(|name| {
        let image = Image::with_layer(name, program_layer(nodes.dir.path(), SAYS));
        wait(push(&nodes.publisher, name, "1", &image));
        (format!("{}/{name}:1", nodes.publisher.registry()), content(&nodes.publisher, name, "1")[0].clone())
    });
    let [(one, its), (other, others)] = images;
    ([one, other], [its, others])
}

fn called(imported: &[Imported]) -> Vec<String> {
    let mut called: Vec<_> = imported.iter().map(Imported::called).collect();
    called.sort();
    called
}

async fn what_docker_save_writes_has_the_images_that_docker_has() {
    blocking(|| {
        let (nodes, docker) = (Nodes::start(), Docker::start().unwrap());
        let ([one, other], configs) = two(&nodes);
        docker.pull(&one).unwrap();
        docker.pull(&other).unwrap();
        docker.tag(&one, "docker.io/library/named:2").unwrap();
        let archive = nodes.dir.path().join("saved.tar");
        let path = archive.display().to_string();
        let import = |images: &[&str]| {
            docker.save_all(images, &archive).unwrap();
            nodes.import(&path)
        };
        let imported = import(&[&one, &other, "named:2"]);
        assert_eq!(called(&imported), ["app:1", "named:2", "other:1"]);
        for (name, config) in [("app", &configs[0]), ("other", &configs[1]), ("named", &configs[0])] {
            let image = imported.iter().find(|image| image.called().starts_with(name)).unwrap();
            // What docker calls the image's ID.
            assert_eq!(content(&nodes.follower, &image.name, &image.tag)[0], *config, "{name}");
        }
        // By ID there is no name.
        let imported = import(&[&configs[1]]);
        assert_eq!(content(&nodes.follower, &imported[0].name, &imported[0].tag)[0], configs[1]);
        assert_eq!(import(&configs.each_ref().map(String::as_str)).len(), 2);
    })
    .await;
}

async fn what_podman_save_writes_has_the_images_that_podman_has() {
    blocking(|| {
        let (nodes, podman) = (Nodes::start(), Podman::new().unwrap());
        let ([one, other], configs) = two(&nodes);
        podman.pull(&one).unwrap();
        podman.pull(&other).unwrap();
        let archive = |name: &str| nodes.dir.path().join(name);
        podman.save_all(&[&one, &other], &archive("multi.tar")).unwrap();
        let imported = nodes.import(&nodes.path("multi.tar"));
        assert_eq!(called(&imported), ["app:1", "other:1"]);
        for (image, config) in imported.iter().zip(&configs) {
            assert_eq!(content(&nodes.follower, &image.name, &image.tag)[0], *config);
        }
        // Of an archive of the specification, the digest is that of its index.json, which is the whole image's.
        for format in ["oci-archive", "oci-dir"] {
            podman.save(&one, format, &archive(format)).unwrap();
            let imported = nodes.import(&nodes.path(format));
            assert_eq!(imported.len(), 1, "{format}");
            assert_eq!(
                content(&nodes.follower, &imported[0].name, &imported[0].tag)[0],
                configs[0],
                "{format}"
            );
        }
        podman.save(&one, "docker-dir", &archive("docker-dir")).unwrap();
        let said = nodes.publisher.command(&["image", "import", &nodes.path("docker-dir")]);
        said.failed(1, &["`dir:` directory of skopeo", "hint: "]);
    })
    .await;
}

async fn what_ctr_image_export_writes_is_imported() {
    blocking(|| {
        let (nodes, _crane, index) = indexed();
        let containerd = Containerd::start().unwrap();
        let app = format!("{}/app:1", nodes.publisher.registry());
        containerd.pull_all_platforms(&app).unwrap();
        let archive = nodes.dir.path().join("exported.tar");
        containerd.export(&["--all-platforms"], &archive, &[&app]).unwrap();
        let imported = nodes.import(&nodes.path("exported.tar"));
        assert_eq!((imported.len(), imported[0].called(), &imported[0].digest), (1, "app:1".into(), &index));
        // Of one platform only, the index is whole and its other image is not there.
        let one = whole(&nodes.publisher, "app", "amd64");
        containerd.export(&["--platform", "linux/amd64"], &archive, &[&app]).unwrap();
        let imported = nodes.publisher.json(&["image", "import", &nodes.path("exported.tar")]);
        assert_eq!(imported[0]["digest"], index);
        let (_, path) = imported[0]["reference"].as_str().unwrap().split_once('/').unwrap();
        let (name, tag) = path.rsplit_once(':').unwrap();
        assert_eq!(manifest(&nodes.follower, name, tag).0, index);
        assert_eq!(whole(&nodes.follower, name, &one), one);
        let second = format!("{}/app:arm64", nodes.publisher.registry());
        containerd.pull_all_platforms(&second).unwrap();
        containerd.export(&["--all-platforms", "--skip-manifest-json"], &archive, &[&app, &second]).unwrap();
        assert_eq!(called(&nodes.import(&nodes.path("exported.tar"))), ["app:1", "app:arm64"]);
    })
    .await;
}
