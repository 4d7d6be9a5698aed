//! Archives as tools write them. Each generator says which tool, and what is special about it.

use serde_json::{Value, json};

use super::{PLAIN, config, descriptor, hex, image, layer};
use crate::images::{
    archive::{ArchiveSource, Error, Images, read},
    pack::gzip::GzipWriter,
};

/// The files of an archive, by path.
pub type Files = Vec<(String, Vec<u8>)>;

const MANIFEST: &str = ocipfs_oci::media_type::OCI_MANIFEST;
const INDEX: &str = ocipfs_oci::media_type::OCI_INDEX;
pub use crate::images::archive::{IMAGE_NAME, REF_NAME};

pub fn blob(bytes: &[u8]) -> String {
    format!("blobs/sha256/{}", hex(bytes))
}

/// An image of one small layer, different for each `seed`: its blobs and its manifest.
pub fn small(seed: &str) -> (Files, Vec<u8>) {
    image(&[layer(seed, 1000)], PLAIN)
}

/// An entry of an index with these annotations.
pub fn entry(manifest: &[u8], annotations: Value) -> Value {
    let mut entry = descriptor(MANIFEST, manifest);
    if annotations != json!({}) {
        entry["annotations"] = annotations;
    }
    entry
}

/// A layout of these blobs and entries.
pub fn layout(mut blobs: Files, entries: &[Value]) -> Files {
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });
    blobs.push(("index.json".into(), index.to_string().into_bytes()));
    blobs.push(("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
    blobs
}

/// An artifact about `subject`, as `oras attach` makes it.
pub fn referrer(subject: &[u8], artifact_type: &str) -> (Files, Vec<u8>) {
    let (empty, sbom) = (b"{}".to_vec(), format!("an SBOM: {artifact_type}").into_bytes());
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": artifact_type,
        "config": descriptor(ocipfs_oci::media_type::OCI_EMPTY, &empty),
        "layers": [descriptor("text/spdx+json", &sbom)],
        "subject": descriptor(MANIFEST, subject),
    });
    let manifest = manifest.to_string().into_bytes();
    (vec![(blob(&empty), empty), (blob(&sbom), sbom), (blob(&manifest), manifest.clone())], manifest)
}

/// `oras cp -r ... --to-oci-layout`: one tagged image, and its referrers as entries without a tag.
pub fn oras(referrers: usize) -> (Files, Vec<u8>) {
    let (mut blobs, manifest) = small("oras");
    let mut entries = vec![entry(&manifest, json!({ REF_NAME: "v1" }))];
    for n in 0..referrers {
        let (files, referrer) = referrer(&manifest, &format!("application/vnd.sbom{n}"));
        blobs.extend(files);
        entries.push(entry(&referrer, json!({})));
    }
    (layout(blobs, &entries), manifest)
}

/// `cosign save` (v1 and v2) of a signed image: told apart by `kind`; v2 gives all of them the same name.
pub fn cosign(name: Option<&str>) -> (Files, Vec<u8>) {
    let (mut blobs, manifest) = small("cosign");
    let (signature, signed) = small("signature");
    let (attestation, attested) = small("attestation");
    blobs.extend(signature.into_iter().chain(attestation));
    let kinds = [("sigs", &signed), ("atts", &attested), ("image", &manifest)];
    let entries = kinds.map(|(kind, manifest)| {
        let mut annotations = json!({ "kind": format!("dev.cosignproject.cosign/{kind}") });
        if let Some(name) = name {
            annotations[REF_NAME] = name.into();
        }
        entry(manifest, annotations)
    });
    (layout(blobs, &entries), manifest)
}

/// `crane pull --format oci`, several times into one layout: entries without annotations.
pub fn crane_oci(images: usize) -> Files {
    let (mut blobs, mut entries) = (Vec::new(), Vec::new());
    for n in 0..images {
        let (files, manifest) = small(&format!("crane{n}"));
        blobs.extend(files);
        entries.push(entry(&manifest, json!({})));
    }
    layout(blobs, &entries)
}

/// A layout of one image with these annotations: `skopeo copy oci:`, `podman save --format oci-archive`, `ctr image export`.
pub fn named(annotations: Value) -> Files {
    let (blobs, manifest) = small("named");
    layout(blobs, &[entry(&manifest, annotations)])
}

/// `regctl image export --referrers --digest-tags`: referrers in an index under the fall-back tag of the distribution spec.
pub fn regctl() -> (Files, Vec<u8>) {
    let (mut blobs, manifest) = small("regctl");
    let (files, referrer) = referrer(&manifest, "application/vnd.sbom");
    blobs.extend(files);
    let mut listed = descriptor(MANIFEST, &referrer);
    listed["artifactType"] = "application/vnd.sbom".into();
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [listed] });
    let index = index.to_string().into_bytes();
    blobs.push((blob(&index), index.clone()));
    let mut fallback = descriptor(INDEX, &index);
    fallback["annotations"] = json!({ REF_NAME: format!("sha256-{}", hex(&manifest)) });
    (layout(blobs, &[entry(&manifest, json!({ REF_NAME: "1.0" })), fallback]), manifest)
}

/// `cosign save` (v3): the bundle is a referrer that index.json does not list.
pub fn cosign_bundle() -> (Files, Vec<u8>) {
    let (mut blobs, manifest) = small("bundle");
    let (files, _) = referrer(&manifest, "application/vnd.dev.sigstore.bundle.v0.3+json");
    blobs.extend(files);
    (layout(blobs, &[entry(&manifest, json!({ REF_NAME: "1.0" }))]), manifest)
}

/// `docker buildx build -o type=oci` with attestations: an index of an image and what attests it.
pub fn buildx() -> (Files, Vec<u8>) {
    let (mut blobs, manifest) = small("buildx");
    let (attestation, attested) = image(&[], PLAIN);
    blobs.extend(attestation);
    let mut one = descriptor(MANIFEST, &manifest);
    one["platform"] = json!({ "os": "linux", "architecture": "amd64" });
    let mut two = descriptor(MANIFEST, &attested);
    two["platform"] = json!({ "os": "unknown", "architecture": "unknown" });
    two["annotations"] = json!({ "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": format!("sha256:{}", hex(&manifest)) });
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [one, two] });
    let index = index.to_string().into_bytes();
    blobs.push((blob(&index), index.clone()));
    let mut top = descriptor(INDEX, &index);
    top["annotations"] = json!({ REF_NAME: "1.0", IMAGE_NAME: "docker.io/org/built:1.0",
        "org.opencontainers.image.created": "2026-01-01T00:00:00Z" });
    (layout(blobs, &[top]), index)
}

/// `docker save` (25 to 29) of two images by digest or ID: index.json has the first one, manifest.json both.
pub fn docker_by_digest(tags: [Option<&str>; 2]) -> Files {
    let layers = [layer("shared", 2000), layer("second", 500)];
    let (blobs, manifest) = image(&layers[..1], PLAIN);
    let (second, _) = image(&layers, PLAIN);
    let docker = [&layers[..1], &layers[..]].into_iter().zip(tags).map(|(layers, tag)| {
        json!({ "Config": blob(&config(layers)), "RepoTags": tag.map(|tag| vec![tag]),
            "Layers": layers.iter().map(|layer| blob(layer)).collect::<Vec<_>>() })
    });
    let docker = Value::from(docker.collect::<Vec<_>>());
    let mut files = blobs;
    // Its manifest is not in the archive.
    files.extend(second.into_iter().take(3).filter(|(path, _)| *path != blob(&layers[0])));
    files.push(("manifest.json".into(), docker.to_string().into_bytes()));
    layout(files, &[entry(&manifest, json!({}))])
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzipWriter::new(Vec::new());
    std::io::Write::write_all(&mut gzip, bytes).unwrap();
    gzip.finish().unwrap()
}

/// `crane pull` (tar), kaniko and jib: `sha256:<hex>` or `config.json`, and layers that are compressed already.
pub fn gzipped_layers(config_path: &str, layers: &[Vec<u8>], tags: Value) -> Files {
    let compressed: Vec<_> = layers.iter().map(|layer| gzip(layer)).collect();
    let paths: Vec<_> = compressed.iter().map(|layer| format!("{}.tar.gz", hex(layer))).collect();
    let manifest = json!([{ "Config": config_path, "RepoTags": tags, "Layers": paths }]);
    let mut files: Files = paths.into_iter().zip(compressed).collect();
    files.push((config_path.into(), config(layers)));
    files.push(("manifest.json".into(), manifest.to_string().into_bytes()));
    files
}

/// The archive of `oci_load` (rules_oci): paths of a layout without an index. Layers are called `.tar.gz` whatever they are.
pub fn rules_oci(layers: &[Vec<u8>], stored: &[Vec<u8>], tags: Value) -> Files {
    let paths: Vec<_> = stored.iter().map(|layer| format!("{}.tar.gz", blob(layer))).collect();
    let config = config(layers);
    let manifest = json!([{ "Config": blob(&config), "RepoTags": tags, "Layers": paths }]);
    let mut files: Files = paths.into_iter().zip(stored.iter().cloned()).collect();
    files.push((blob(&config), config));
    files.push(("manifest.json".into(), manifest.to_string().into_bytes()));
    files
}

/// The layout of `oci_load` with `format = "oci"`: both annotations have the whole reference.
pub fn rules_oci_layout() -> Files {
    let name = "registry.example/team/app:latest";
    named(json!({ REF_NAME: name, IMAGE_NAME: name }))
}

/// A layer as umoci writes it: the tar ends with the last byte of its last file.
pub fn unpadded() -> Vec<u8> {
    let mut tar = layer("umoci", 700);
    tar.truncate(512 + 700);
    tar
}

/// `skopeo copy ... dir:`: blobs under bare digests, and the image's own manifest.
pub fn skopeo_dir() -> Files {
    let (blobs, manifest) = small("dir");
    let mut files: Files =
        blobs.into_iter().map(|(path, bytes)| (path.replace("blobs/sha256/", ""), bytes)).collect();
    files.push(("manifest.json".into(), manifest));
    files.push(("version".into(), b"Directory Transport Version: 1.1\n".to_vec()));
    files
}

pub fn xz(bytes: &[u8], level: u32) -> Vec<u8> {
    let options = lzma_rust2::XzOptions::with_preset(level);
    let mut writer = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
    std::io::Write::write_all(&mut writer, bytes).unwrap();
    writer.finish().unwrap()
}

pub fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut writer = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
    std::io::Write::write_all(&mut writer, bytes).unwrap();
    writer.finish().unwrap()
}

/// Writes the files of an archive as a folder.
pub fn unpack(folder: &std::path::Path, files: &Files) {
    for (path, bytes) in files {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

fn folder(bed: &super::Bed, files: &Files) -> Result<Images, Error> {
    let folder = bed.dir.path().join("folder");
    let _ = std::fs::remove_dir_all(&folder);
    unpack(&folder, files);
    read(ArchiveSource::open(&folder).unwrap(), bed.options(None))
}

mod stories;
