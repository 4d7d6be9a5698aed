//! BuildKit: images of several platforms with attestations, and caches in the registry.

use std::{fs, path::Path};

use libtest_mimic::Trial;
use serde_json::Value;

use super::{Nodes, SAYS, blob, manifest, wait, whole};
use crate::{
    clients::{BuildKit, Podman, static_program},
    following::push,
    harness::{Serve, blocking, trials},
    names::image::Image,
};

pub fn trials() -> Vec<Trial> {
    trials![needs BuildKit::available();
        buildkit_pushes_a_multi_platform_image_with_provenance_and_an_sbom,
        buildkit_builds_on_an_image_of_a_follower,
        a_cache_of_buildkit_is_imported_from_a_follower_without_its_publisher,
    ]
}

const DOCKERFILE: &str = "FROM scratch AS one\nCOPY hello /hello\nFROM scratch AS two\nCOPY --from=one /hello /copied\n\
     FROM scratch\nCOPY --from=two /copied /hello\nENTRYPOINT [\"/hello\"]\n";

/// A directory with a Dockerfile of three stages.
pub fn context(dir: &Path) -> std::path::PathBuf {
    let context = dir.join("context");
    fs::create_dir_all(&context).unwrap();
    static_program(&context, SAYS);
    fs::write(context.join("Dockerfile"), DOCKERFILE).unwrap();
    context
}

/// Returns the digest that BuildKit reports for what it wrote.
pub fn reported(metadata: &str) -> String {
    let metadata: Value = serde_json::from_slice(&fs::read(metadata).unwrap()).unwrap();
    metadata["containerimage.digest"].as_str().unwrap_or_else(|| panic!("{metadata}")).into()
}

/// Pushes an image of a scanner, which BuildKit runs to make an SBOM: it writes an in-toto statement to where it is told.
pub fn push_scanner(node: &Serve, dir: &Path) -> String {
    let statement = r#"{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"https://spdx.dev/Document","subject":[],"predicate":{"spdxVersion":"SPDX-2.3"}}"#;
    let code = format!(
        "#include <stdio.h>\n#include <stdlib.h>\nint main(void) {{ char path[4096]; \
         snprintf(path, sizeof path, \"%s/scan.spdx.json\", getenv(\"BUILDKIT_SCAN_DESTINATION\")); \
         FILE *out = fopen(path, \"w\"); return !out || fputs({statement:?}, out) < 0 || fclose(out); }}\n"
    );
    let (source, program) = (dir.join("scan.c"), dir.join("scan"));
    fs::write(&source, code).unwrap();
    let done = std::process::Command::new("gcc")
        .args(["-static", "-Os", "-s", "-o"])
        .args([&program, &source])
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_path_with_name(&program, "hello").unwrap();
    wait(push(node, "scanner", "1", &Image::with_layer("scanner", tar.into_inner().unwrap())));
    format!("{}/scanner:1", node.registry())
}

/// Flags of a build for two platforms, each with its attestations.
pub fn attested(scanner: &str) -> [String; 6] {
    let sbom = format!("attest:sbom=generator={scanner}");
    ["--opt", "platform=linux/amd64,linux/arm64", "--opt", "attest:provenance=mode=max", "--opt", &sbom]
        .map(Into::into)
}

/// Holds that an index has two images and an attestation of each, with these predicates.
pub fn holds_attestations(node: &Serve, name: &str, reference: &str) {
    let (_, index) = manifest(node, name, reference);
    let entries = index["manifests"].as_array().unwrap();
    assert_eq!(entries.len(), 4, "{index}");
    let kind = |entry: &Value| entry["annotations"]["vnd.docker.reference.type"] == "attestation-manifest";
    for entry in entries.iter().filter(|entry| kind(entry)) {
        let (_, attestation) = manifest(node, name, entry["digest"].as_str().unwrap());
        let layers = attestation["layers"].as_array().unwrap();
        let predicates: Vec<_> = layers
            .iter()
            .map(|layer| {
                serde_json::from_slice::<Value>(&blob(node, name, layer)).unwrap()["predicateType"].clone()
            })
            .collect();
        assert!(predicates.contains(&"https://spdx.dev/Document".into()), "{predicates:?}");
        let is_provenance =
            |kind: &Value| kind.as_str().is_some_and(|kind| kind.contains("slsa.dev/provenance"));
        assert!(predicates.iter().any(is_provenance), "{predicates:?}");
    }
    assert_eq!(entries.iter().filter(|entry| kind(entry)).count(), 2);
}

async fn buildkit_pushes_a_multi_platform_image_with_provenance_and_an_sbom() {
    blocking(|| {
        let (nodes, buildkit) = (Nodes::start(), BuildKit::start().unwrap());
        let (context, metadata) = (context(nodes.dir.path()), nodes.path("metadata"));
        let flags = attested(&push_scanner(&nodes.publisher, nodes.dir.path()));
        let registry = nodes.publisher.registry();
        let platforms = &flags[..2];
        for (name, more, flags) in [
            ("app", "", &flags[..]),
            ("zstd", ",compression=zstd", &flags),
            // Attestations have no form of docker's media types.
            ("docker", ",oci-mediatypes=false", platforms),
        ] {
            let output = format!("type=image,name={registry}/{name}:1,push=true{more}");
            let output = ["--output", &output, "--metadata-file", &metadata];
            let flags: Vec<_> = flags.iter().map(String::as_str).chain(output).collect();
            buildkit.build(&context, &flags).unwrap();
            assert_eq!(whole(&nodes.publisher, name, "1"), reported(&metadata), "{name}");
        }
        let (follower, _dir) = nodes.orphan();
        for name in ["app", "zstd"] {
            whole(&follower, name, "1");
            holds_attestations(&follower, name, "1");
        }
        whole(&follower, "docker", "1");
        let (_, docker) = manifest(&follower, "docker", "1");
        assert_eq!(docker["mediaType"], ocipfs_oci::media_type::DOCKER_MANIFEST_LIST);
        if Podman::available().is_ok() {
            let reference = format!("{}/app:1", follower.registry());
            assert_eq!(Podman::new().unwrap().run(&reference, &[]).unwrap(), SAYS);
        }
    })
    .await;
}

async fn buildkit_builds_on_an_image_of_a_follower() {
    blocking(|| {
        let nodes = Nodes::start();
        nodes.push("base", "1");
        let (follower, dir) = nodes.orphan();
        let (context, registry) = (context(dir.path()), follower.registry());
        let dockerfile = format!("FROM {registry}/base:1\nCOPY Dockerfile /\n");
        fs::write(context.join("Dockerfile"), dockerfile).unwrap();
        let output = format!("type=image,name={registry}/built:1,push=true");
        BuildKit::start().unwrap().build(&context, &["--output", &output]).unwrap();
        let (_, built) = manifest(&follower, "built", "1");
        assert_eq!(built["layers"].as_array().map(Vec::len), Some(2), "{built}");
        whole(&follower, "built", "1");
    })
    .await;
}

/// Whether a log of a build says that a step was not run: it is cached, or its layer is downloaded since the output needs it.
fn came_from_cache(log: &str, step: &str) -> bool {
    let number = log.lines().find(|line| line.contains(step)).and_then(|line| line.split(' ').next());
    number.is_some_and(|number| {
        ["CACHED", "sha256:"].iter().any(|said| log.contains(&format!("{number} {said}")))
    })
}

async fn a_cache_of_buildkit_is_imported_from_a_follower_without_its_publisher() {
    blocking(|| {
        let nodes = Nodes::start();
        let context = context(nodes.dir.path());
        let registry = nodes.publisher.registry().to_owned();
        let forms = ["true", "false"];
        let first = BuildKit::start().unwrap();
        for form in forms {
            let cache =
                format!("type=registry,ref={registry}/app:cache-{form},mode=max,image-manifest={form}");
            let output = format!("type=image,name={registry}/app:1,push=true");
            first.build(&context, &["--output", &output, "--export-cache", &cache]).unwrap();
            let (_, cache) = manifest(&nodes.publisher, "app", &format!("cache-{form}"));
            assert_eq!(cache["manifests"].is_array(), form == "false", "{cache}");
            whole(&nodes.publisher, "app", &format!("cache-{form}"));
        }
        drop(first);
        let (follower, dir) = nodes.orphan();
        for form in forms {
            let cache = format!("type=registry,ref={}/app:cache-{form}", follower.registry());
            let output = format!("type=oci,dest={}", dir.path().join("built.tar").display());
            // One that has nothing: what it does not build comes from the cache.
            let other = BuildKit::start().unwrap();
            let said = other.build(&context, &["--output", &output, "--import-cache", &cache]).unwrap();
            for step in ["COPY --from=one", "COPY --from=two"] {
                assert!(came_from_cache(&said, step), "{form}: {step}: {said}");
            }
        }
    })
    .await;
}
