//! What oras, cosign and skopeo write: imported, then pulled by tag and by digest, with its referrers.

use std::{fs, path::Path};

use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::{archive, hex, image, name, since_25, with_input, write};
use crate::{
    harness::{Serve, trials},
    http,
};

pub fn trials() -> Vec<Trial> {
    trials![
        referrers_of_an_imported_layout_are_pulled_and_are_not_printed_as_images,
        an_archive_has_the_same_references_by_path_and_by_stdin,
        a_dir_directory_of_skopeo_is_refused_with_the_command_to_convert_it,
    ]
}

const REF_NAME: &str = "org.opencontainers.image.ref.name";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn descriptor(kind: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": kind, "digest": format!("sha256:{}", hex(bytes)), "size": bytes.len() })
}

type Files = Vec<(String, Vec<u8>)>;

/// Returns a layout as `oras cp -r` writes it, to which a cosign signature was added; also its image and its referrer.
fn signed(dir: &Path) -> (Files, Vec<u8>, Vec<u8>) {
    let (layer, config) = image(dir);
    let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)] });
    let manifest = manifest.to_string().into_bytes();
    let sbom = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/vnd.sbom",
        "config": descriptor("application/vnd.oci.empty.v1+json", b"{}"), "layers": [],
        "subject": descriptor(MANIFEST, &manifest) });
    let sbom = sbom.to_string().into_bytes();
    let mut tagged = descriptor(MANIFEST, &manifest);
    tagged["annotations"] = json!({ REF_NAME: "v1", "kind": "dev.cosignproject.cosign/image" });
    let mut signature = descriptor(MANIFEST, &sbom);
    signature["annotations"] = json!({ REF_NAME: "v1", "kind": "dev.cosignproject.cosign/sigs" });
    let index = json!({ "schemaVersion": 2,
        "manifests": [descriptor(MANIFEST, &sbom), signature, tagged] });
    let blobs = [layer, config, manifest.clone(), sbom.clone(), b"{}".to_vec()];
    let mut files: Files =
        blobs.map(|bytes| (format!("blobs/sha256/{}", hex(&bytes)), bytes)).into_iter().collect();
    files.push(("index.json".into(), index.to_string().into_bytes()));
    files.push(("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
    (files, manifest, sbom)
}

async fn referrers_of_an_imported_layout_are_pulled_and_are_not_printed_as_images() {
    let source = Serve::start(&[]);
    let reader = Serve::start(&["--peer", source.address()]);
    let (files, manifest, sbom) = signed(source.data_dir());
    let folder = source.data_dir().join("lay");
    for (path, bytes) in &files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, bytes).expect("a file");
    }
    let said = source.command(&["-q", "image", "import", folder.to_str().expect("UTF-8")]);
    assert_eq!((said.code, said.stdout.lines().count()), (Some(0), 1), "{said:?}");
    let repository = name(said.last_line()).strip_suffix("/image:v1").expect("the only image").to_string();
    let url = |rest: &str| reader.url(&format!("/v2/{repository}/image/{rest}"));
    let (image, referrer) = (format!("sha256:{}", hex(&manifest)), format!("sha256:{}", hex(&sbom)));
    for (reference, bytes) in [
        ("v1".to_string(), &manifest),
        (image.clone(), &manifest),
        (referrer.clone(), &sbom),
        (format!("sha256-{}.sig", hex(&manifest)), &sbom),
    ] {
        let answer = http::get(&url(&format!("manifests/{reference}"))).await;
        assert_eq!((answer.status, &answer.body[..]), (200, &bytes[..]), "{reference}");
    }
    let referrers = http::get(&url(&format!("referrers/{image}"))).await.json();
    assert_eq!(referrers["manifests"].as_array().map(Vec::len), Some(1), "{referrers}");
    assert_eq!(referrers["manifests"][0]["digest"], json!(referrer));
}

async fn an_archive_has_the_same_references_by_path_and_by_stdin() {
    let node = Serve::start(&[]);
    let (files, _, _) = signed(node.data_dir());
    for (file, files) in [("huge.oci.tar", files), ("foo.tar", since_25(node.data_dir()))] {
        let bytes = archive(&files);
        let by_path = node.ask(&["image", "import", &write(node.data_dir(), file, &bytes)]);
        let by_stdin = with_input(node.data_dir(), &["-q", "image", "import", "-"], &bytes);
        assert_eq!(by_stdin.last_line(), by_path);
    }
}

async fn a_dir_directory_of_skopeo_is_refused_with_the_command_to_convert_it() {
    let node = Serve::start(&[]);
    let folder = node.data_dir().join("dir");
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("version"), "Directory Transport Version: 1.1\n").expect("a file");
    let manifest = json!({ "schemaVersion": 2, "config": {}, "layers": [] }).to_string();
    fs::write(folder.join("manifest.json"), manifest).expect("a file");
    let said = node.command(&["image", "import", folder.to_str().expect("UTF-8")]);
    said.failed(1, &["`dir:` directory of skopeo", "hint: ", "skopeo copy dir:DIR oci:LAYOUT:TAG"]);
    assert_eq!((node.stored("blobs"), files_incoming(&node)), (0, 0));
}

fn files_incoming(node: &Serve) -> usize {
    crate::harness::files_below(node.data_dir(), "incoming")
}
