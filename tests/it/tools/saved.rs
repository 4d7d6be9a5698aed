//! Files that tools write, imported: each image has the digest that it has in the registry, and is pulled through another
//! node by its CID.

mod engines;

use std::fs;

use libtest_mimic::Trial;

use super::{Nodes, SAYS, buildkit, cosign, crane, manifest, referrers, regctl, wait, whole};
use crate::{
    clients::{BuildKit, COSIGN, CRANE, Client, ORAS, REGCTL, Skopeo},
    following::push,
    harness::{Serve, blocking, trials},
    names::{image::Image, program_layer},
};

pub fn trials() -> Vec<Trial> {
    [
        trials![needs CRANE.available(); what_crane_pull_writes_is_imported],
        trials![needs REGCTL.available(); what_regctl_image_export_and_copy_write_is_imported],
        trials![needs ORAS.available(); what_oras_cp_and_backup_write_is_imported_with_referrers],
        trials![needs COSIGN.available(); what_cosign_save_writes_is_imported_and_verified],
        trials![needs BuildKit::available(); what_buildctl_writes_is_imported_with_attestations],
        trials![needs Skopeo::available().and(CRANE.available()); what_skopeo_copy_writes_is_imported],
        engines::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Nodes with `app:1`, an index of images for two platforms, `app:amd64` and `app:arm64`, made by crane.
fn indexed() -> (Nodes, Client, String) {
    let (nodes, crane) = (Nodes::start(), CRANE.start().unwrap());
    crane::push_index(&crane, &nodes.publisher, &program_layer(nodes.dir.path(), SAYS));
    let digest = whole(&nodes.publisher, "app", "1");
    (nodes, crane, digest)
}

/// Returns the digests of a manifest's config and layers.
fn content(node: &Serve, name: &str, reference: &str) -> Vec<String> {
    let (_, manifest) = manifest(node, name, reference);
    let layers = manifest["layers"].as_array().unwrap_or_else(|| panic!("{manifest}"));
    let all = [&manifest["config"]].into_iter().chain(layers);
    all.map(|one| one["digest"].as_str().unwrap().to_owned()).collect()
}

async fn what_crane_pull_writes_is_imported() {
    blocking(|| {
        let (nodes, crane, digest) = indexed();
        let at = |name: &str| format!("{}/{name}", nodes.publisher.registry());
        let single = whole(&nodes.publisher, "app", "amd64");
        let layout = nodes.path("layout");
        crane.run(&["pull", "--format", "oci", &at("app:1"), &layout]).unwrap();
        let imported = nodes.import(&layout);
        assert_eq!((imported.len(), &imported[0].digest), (1, &digest));
        // A second image in the same folder, with the name that it was pulled by.
        crane.run(&["pull", "--format", "oci", "--annotate-ref", &at("app:amd64"), &layout]).unwrap();
        let imported = nodes.import(&layout);
        let named = imported.iter().find(|image| image.digest == single).unwrap();
        assert_eq!((imported.len(), named.called()), (2, "app:amd64".into()));
        // An archive of docker's has the config and the layers, which stay as they are compressed.
        let archive = nodes.path("app.tar");
        for (format, is_compressed) in [("tarball", true), ("legacy", false)] {
            crane.run(&["pull", "--format", format, &at("app:amd64"), &at("app:arm64"), &archive]).unwrap();
            // In any order.
            let imported = nodes.import(&archive);
            let image = imported.iter().find(|image| image.called() == "app:amd64").unwrap();
            assert!(imported.len() == 2 && imported.iter().any(|image| image.called() == "app:arm64"));
            let [saved, pushed] =
                [image.name.as_str(), "app"].map(|name| content(&nodes.publisher, name, "amd64"));
            assert_eq!((&saved[0], saved[1] == pushed[1]), (&pushed[0], is_compressed), "{format}");
        }
        // By digest there is no tag to write.
        crane.run(&["pull", &at(&format!("app@{single}")), &archive]).unwrap();
        assert_eq!(content(&nodes.publisher, &nodes.import(&archive)[0].name, "i-was-a-digest").len(), 2);
    })
    .await;
}

async fn what_regctl_image_export_and_copy_write_is_imported() {
    blocking(|| {
        let nodes = Nodes::start();
        let regctl = regctl::speaking_to(&[&nodes.publisher]);
        let digest = nodes.push("app", "1").digest();
        let app = format!("{}/app:1", nodes.publisher.registry());
        let file = regctl.write("sbom.json", "{}").unwrap();
        let put = [
            "artifact",
            "put",
            "--artifact-type",
            "application/vnd.sbom",
            "--file",
            &file,
            "--subject",
            &app,
        ];
        regctl.run(&put).unwrap();
        let archive = nodes.path("app.tar");
        for (more, called) in [
            (&[][..], "app:1"),
            (&["--compress"], "app:1"),
            (&["--name", "registry.example/team/other:2"], "team/other:2"),
        ] {
            regctl.run(&[&["image", "export", &app, &archive], more].concat()).unwrap();
            let imported = nodes.import(&archive);
            assert_eq!((imported.len(), &imported[0].digest), (1, &digest));
            assert_eq!(imported[0].called(), called);
        }
        let layout = nodes.path("layout");
        let to = format!("ocidir://{layout}:v1");
        regctl.run(&["image", "copy", "--referrers", "--digest-tags", &app, &to]).unwrap();
        let imported = nodes.import(&layout);
        assert_eq!((imported.len(), &imported[0].digest, &*imported[0].tag), (1, &digest, "v1"));
        assert_eq!(referrers(&nodes.follower, &imported[0].name, &digest), ["application/vnd.sbom"]);
    })
    .await;
}

async fn what_oras_cp_and_backup_write_is_imported_with_referrers() {
    blocking(|| {
        let (nodes, oras) = (Nodes::start(), ORAS.start().unwrap());
        let digest = nodes.push("app", "1").digest();
        let app = format!("{}/app:1", nodes.publisher.registry());
        let sbom = oras.write("sbom.json", "{}").unwrap();
        let attach = [
            "attach",
            "--plain-http",
            "--disable-path-validation",
            "--artifact-type",
            "application/vnd.sbom",
        ];
        oras.run(&[&attach[..], &[&app, &sbom]].concat()).unwrap();
        let (layout, folder, archive) =
            (nodes.path("layout"), nodes.path("backup"), nodes.path("backup.tar"));
        oras.run(&["cp", "-r", "--from-plain-http", "--to-oci-layout", &app, &format!("{layout}:v1")])
            .unwrap();
        for to in [&folder, &archive] {
            oras.run(&["backup", "--plain-http", "--include-referrers", "--output", to, &app]).unwrap();
        }
        for (written, tag) in [(layout, "v1"), (folder, "1"), (archive, "1")] {
            let imported = nodes.import(&written);
            assert_eq!((imported.len(), &imported[0].digest, &*imported[0].tag), (1, &digest, tag));
            assert_eq!(referrers(&nodes.follower, &imported[0].name, &digest), ["application/vnd.sbom"]);
        }
        // An artifact is imported as an image is.
        let file = format!("{}/file:1", nodes.publisher.registry());
        oras.run(&["push", "--plain-http", "--disable-path-validation", &file, &sbom]).unwrap();
        oras.run(&["backup", "--plain-http", "--output", &nodes.path("file"), &file]).unwrap();
        assert_eq!(nodes.import(&nodes.path("file"))[0].digest, whole(&nodes.publisher, "file", "1"));
    })
    .await;
}

async fn what_cosign_save_writes_is_imported_and_verified() {
    blocking(|| {
        let (nodes, cosign) = (Nodes::start(), cosign::keyed());
        let digest = nodes.push("app", "1").digest();
        let app = format!("{}/app@{digest}", nodes.publisher.registry());
        cosign::sign(&cosign, &app, &[]);
        cosign::sign(&cosign, &app, &["--new-bundle-format"]);
        let saved = nodes.path("saved");
        cosign.run(&["save", "--allow-http-registry", "--dir", &saved, &app]).unwrap();
        let imported = nodes.import(&saved);
        assert_eq!((imported.len(), &imported[0].digest), (1, &digest));
        cosign::verify(&cosign, &imported[0].reference, &[]).unwrap();
    })
    .await;
}

async fn what_buildctl_writes_is_imported_with_attestations() {
    blocking(|| {
        let (nodes, buildkit) = (Nodes::start(), BuildKit::start().unwrap());
        let (context, metadata) = (buildkit::context(nodes.dir.path()), nodes.path("metadata"));
        let attested = buildkit::attested(&buildkit::push_scanner(&nodes.publisher, nodes.dir.path()));
        let attested: Vec<_> = attested.iter().map(String::as_str).collect();
        let written = nodes.path("written");
        for (output, flags) in [
            ("type=oci,name=docker.io/org/app:1.0", &attested[..]),
            ("type=oci,name=docker.io/org/app:1.0,compression=zstd", &attested),
            ("type=oci,name=docker.io/org/app:1.0,tar=false", &attested),
            ("type=docker,name=docker.io/org/app:1.0", &[]),
            ("type=docker,name=docker.io/org/app:1.0,tar=false", &[]),
        ] {
            let _ = fs::remove_dir_all(&written).or_else(|_| fs::remove_file(&written));
            let to = format!("{output},dest={written}");
            let flags = [flags, &["--output", &to, "--metadata-file", &metadata]].concat();
            buildkit.build(&context, &flags).unwrap();
            let imported = nodes.import(&written);
            assert_eq!((imported.len(), imported[0].called()), (1, "org/app:1.0".into()), "{output}");
            assert_eq!(imported[0].digest, buildkit::reported(&metadata), "{output}");
            if !attested.is_empty() && output.starts_with("type=oci") {
                buildkit::holds_attestations(&nodes.follower, &imported[0].name, "1.0");
            }
        }
    })
    .await;
}

async fn what_skopeo_copy_writes_is_imported() {
    blocking(|| {
        let (nodes, _crane, _) = indexed();
        let skopeo = Skopeo::new().unwrap();
        let single = whole(&nodes.publisher, "app", "amd64");
        let copy = |from: &str, to: &str, more: &[&str]| {
            let from = format!("docker://{}/{from}", nodes.publisher.registry());
            skopeo.convert_as(&[&["--src-tls-verify=false"], more].concat(), &from, to).unwrap();
        };
        // skopeo rewrites an index, without the fields that it does not know.
        copy("app:1", &format!("oci:{}:1.0", nodes.path("index")), &["--all"]);
        let index = fs::read(nodes.dir.path().join("index/index.json")).unwrap();
        let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
        let index = index["manifests"][0]["digest"].as_str().unwrap().to_owned();
        assert_eq!(nodes.import(&nodes.path("index"))[0].digest, index);
        for (n, (kind, tag, from, more, digest)) in [
            ("oci", "1.0", "app:amd64", &[][..], Some(&single)),
            ("oci-archive", "1.0", "app:amd64", &[], Some(&single)),
            ("oci-archive", "1.0", "app:1", &["--all"], Some(&index)),
            // Compressed again, so it is another image.
            ("oci", "1.0", "app:amd64", &["--dest-compress-format", "zstd", "--dest-compress"], None),
            ("docker-archive", "image:1.0", "app:amd64", &[], None),
            ("docker-archive", "image:1.0", "app:amd64", &["--additional-tag", "image:2.0"], None),
        ]
        .into_iter()
        .enumerate()
        {
            let written = nodes.path(&format!("written{n}"));
            copy(from, &format!("{kind}:{written}:{tag}"), more);
            let imported = nodes.import(&written);
            assert_eq!(imported[0].called(), "image:1.0", "{kind}");
            assert_eq!(imported.len(), if more.contains(&"--additional-tag") { 2 } else { 1 });
            assert!(digest.is_none_or(|digest| *digest == imported[0].digest), "{kind} {more:?}");
            if digest.is_none() {
                let [saved, pushed] = [(&*imported[0].name, "1.0"), ("app", "amd64")]
                    .map(|(name, tag)| content(&nodes.publisher, name, tag)[0].clone());
                assert_eq!(saved, pushed, "{kind} {more:?}");
            }
        }
        // Two images in one folder.
        let (layout, dir) = (nodes.path("written0"), nodes.path("dir"));
        copy("app:arm64", &format!("oci:{layout}:arm"), &[]);
        let mut tags: Vec<_> = nodes.import(&layout).into_iter().map(|image| image.tag).collect();
        tags.sort();
        assert_eq!(tags, ["1.0", "arm"]);
        copy("app:1", &format!("dir:{dir}"), &["--all"]);
        let said = nodes.publisher.command(&["image", "import", &dir]);
        said.failed(1, &["`dir:` directory of skopeo", "hint: "]);
        // As the hint says.
        skopeo
            .convert_as(&["--all"], &format!("dir:{dir}"), &format!("oci:{}:1", nodes.path("converted")))
            .unwrap();
        assert_eq!(nodes.import(&nodes.path("converted"))[0].digest, index);
    })
    .await;
}
