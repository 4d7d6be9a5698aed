mod fuzz;
mod hostile;
mod malformed;
pub(crate) mod tools;

use std::{fs, io::Cursor, path::Path};

use serde_json::json;

use super::*;

/// A tar of these files, in this order.
pub fn tar(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, &bytes[..]).unwrap();
    }
    builder.into_inner().unwrap()
}

/// An uncompressed layer of one file, which no encoder makes shorter.
pub fn layer(name: &str, length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    tar(&[(name.into(), (0..length).map(|_| next()).collect())])
}

fn config(layers: &[Vec<u8>]) -> Vec<u8> {
    let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::sha256_of(layer).to_string()).collect();
    json!({ "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": diff_ids } })
        .to_string()
        .into_bytes()
}

fn hex(bytes: &[u8]) -> String {
    Digest::sha256_of(bytes).hex()
}

/// Returns the files of an archive as `docker save` wrote it before Docker 25.
pub fn classic(layers: &[Vec<u8>], tags: &[&str]) -> Vec<(String, Vec<u8>)> {
    let config = config(layers);
    let path = |layer: &Vec<u8>| format!("{}/layer.tar", hex(layer));
    let mut files: Vec<_> = Vec::new();
    for layer in layers {
        files.push((format!("{}/VERSION", hex(layer)), b"1.0".to_vec()));
        files.push((path(layer), layer.clone()));
    }
    let name = format!("{}.json", hex(&config));
    let layers: Vec<_> = layers.iter().map(path).collect();
    let manifest = json!([{ "Config": name, "RepoTags": tags, "Layers": layers }]);
    files.push((name, config));
    files.push(("manifest.json".into(), manifest.to_string().into_bytes()));
    files
}

fn descriptor(media_type: &str, bytes: &[u8]) -> serde_json::Value {
    json!({ "mediaType": media_type, "digest": Digest::sha256_of(bytes).to_string(), "size": bytes.len() })
}

/// The blobs of an image and its manifest.
pub fn image(layers: &[Vec<u8>], layer_type: &str) -> (Vec<(String, Vec<u8>)>, Vec<u8>) {
    let config = config(layers);
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": ocipfs_oci::media_type::OCI_MANIFEST,
        "config": descriptor(ocipfs_oci::media_type::OCI_CONFIG, &config),
        "layers": layers.iter().map(|layer| descriptor(layer_type, layer)).collect::<Vec<_>>(),
    });
    let manifest = manifest.to_string().into_bytes();
    let blobs = layers.iter().cloned().chain([config, manifest.clone()]);
    (blobs.map(|bytes| (format!("blobs/sha256/{}", hex(&bytes)), bytes)).collect(), manifest)
}

/// An OCI layout of one image; with `tags`, as docker writes it since Docker 25.
pub fn oci(layers: &[Vec<u8>], layer_type: &str, tags: &[&str]) -> Vec<(String, Vec<u8>)> {
    let (mut files, manifest) = image(layers, layer_type);
    let mut entry = descriptor(ocipfs_oci::media_type::OCI_MANIFEST, &manifest);
    entry["annotations"] = json!({ "org.opencontainers.image.ref.name": "1.0" });
    if let Some(tag) = tags.first() {
        entry["annotations"]["io.containerd.image.name"] = format!("docker.io/library/{tag}").into();
    }
    let index = json!({ "schemaVersion": 2, "manifests": [entry] });
    files.push(("index.json".into(), index.to_string().into_bytes()));
    if !tags.is_empty() {
        let paths: Vec<_> = layers.iter().map(|layer| format!("blobs/sha256/{}", hex(layer))).collect();
        let config = format!("blobs/sha256/{}", hex(&config(layers)));
        let manifest = json!([{ "Config": config, "RepoTags": tags, "Layers": paths }]);
        files.push(("manifest.json".into(), manifest.to_string().into_bytes()));
    }
    files.push(("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
    files
}

struct Bed {
    dir: tempfile::TempDir,
    store: Store,
}

impl Bed {
    fn new() -> Self {
        Self::at(tempfile::tempdir().unwrap())
    }

    /// Keeps its files in a directory that need not exist.
    fn below(directory: &Path) -> Self {
        Self::at(tempfile::tempdir_in(directory).or_else(|_| tempfile::tempdir()).unwrap())
    }

    fn at(dir: tempfile::TempDir) -> Self {
        let store = Store::open(&dir.path().join("node")).unwrap();
        Self { dir, store }
    }

    fn options(&self, compress: Option<Compress>) -> Options {
        let progress = Box::new(|_| {});
        Options { store: self.store.clone(), profile: Profile::UnixfsV1, compress, progress }
    }

    fn stream(&self, tar: Vec<u8>) -> Result<Images, Error> {
        read(ArchiveSource::stream("the stream", Cursor::new(tar)), self.options(None))
    }

    fn file(&self, tar: &[u8]) -> Result<Images, Error> {
        let path = self.dir.path().join("archive");
        fs::write(&path, tar).unwrap();
        read(ArchiveSource::open(&path).unwrap(), self.options(None))
    }

    /// Asserts that dropped drafts leave no file.
    fn is_empty(&self) {
        assert_eq!(self.store.stat().unwrap().blobs, 0);
        assert_eq!(fs::read_dir(self.dir.path().join("node/incoming")).unwrap().count(), 0);
    }

    #[track_caller]
    fn refuses(&self, tar: Vec<u8>, text: &str) {
        for outcome in [self.file(&tar), self.stream(tar.clone())] {
            let error = outcome.map(drop).unwrap_err().to_string();
            assert!(error.contains(text), "{error:?} does not say {text:?}");
            self.is_empty();
        }
    }
}

const PLAIN: &str = ocipfs_oci::media_type::OCI_LAYER_TAR;

#[test]
fn all_docker_archive_formats_import_as_the_same_image() {
    let bed = Bed::new();
    let layers = [layer("a", 3 << 20), layer("b", 100)];
    let before = classic(&layers, &["foo:1.0"]);
    let mut sorted = before.clone();
    sorted.sort();
    let since = oci(&layers, PLAIN, &["foo:1.0"]);
    let mut gzipped = crate::images::pack::gzip::GzipWriter::new(Vec::new());
    std::io::Write::write_all(&mut gzipped, &tar(&before)).unwrap();
    let mut digests = BTreeSet::new();
    for bytes in [tar(&before), tar(&sorted), tar(&since), gzipped.finish().unwrap()] {
        for images in [bed.file(&bytes).unwrap(), bed.stream(bytes).unwrap()] {
            let [picture] = &images.pictures[..] else { panic!("{:?}", images.pictures) };
            assert_eq!(picture.name.repository.as_ref().unwrap().as_str(), "foo");
            assert_eq!(picture.name.tag.as_ref().unwrap().as_str(), "1.0");
            digests.insert(picture.top.digest.to_string());
            assert_eq!(images.below(&picture.top).unwrap().len(), 4);
            assert!(images.pieces.values().all(|piece| piece.compression == inspect::Compression::Gzip));
        }
    }
    assert_eq!(digests.len(), 1, "{digests:?}");
    bed.is_empty();
}

#[test]
fn an_imported_layout_is_kept_byte_for_byte_unless_recompressed() {
    let bed = Bed::new();
    let layers = [layer("a", 100_000)];
    let bytes = tar(&oci(&layers, PLAIN, &[]));
    let (_, manifest) = image(&layers, PLAIN);
    for images in [bed.file(&bytes).unwrap(), bed.stream(bytes.clone()).unwrap()] {
        assert_eq!(images.pictures[0].top.digest, Digest::sha256_of(&manifest));
        assert!(images.pieces.contains_key(&Digest::sha256_of(&layers[0])));
        assert_eq!(
            (&images.pictures[0].name.repository, images.pictures[0].name.tag.as_ref().unwrap().as_str()),
            (&None, "1.0")
        );
    }
    for (how, compression) in
        [(Compress::Gzip, inspect::Compression::Gzip), (Compress::Zstd, inspect::Compression::Zstd)]
    {
        let source = ArchiveSource::stream("the stream", Cursor::new(bytes.clone()));
        let images = read(source, bed.options(Some(how))).unwrap();
        assert_ne!(images.pictures[0].top.digest, Digest::sha256_of(&manifest));
        let Some(ManifestOrIndex::Manifest(made)) = images.node(&images.pictures[0].top).unwrap() else {
            panic!()
        };
        assert_eq!(made.layers[0].media_type, compression.media_type());
        assert!(images.pieces.contains_key(&made.layers[0].digest));
    }
}

#[test]
fn a_layout_directory_is_read_like_its_tar() {
    let bed = Bed::new();
    let files = oci(&[layer("a", 100_000)], PLAIN, &[]);
    let folder = bed.dir.path().join("layout");
    for (path, bytes) in &files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let images = read(ArchiveSource::open(&folder).unwrap(), bed.options(None)).unwrap();
    assert_eq!(images.pictures[0].top, bed.file(&tar(&files)).unwrap().pictures[0].top);
    let blob = folder.join(&files[0].0);
    fs::remove_file(&blob).unwrap();
    let error = read(ArchiveSource::open(&folder).unwrap(), bed.options(None)).map(drop).unwrap_err();
    assert!(matches!(error, Error::Missing { .. }), "{error}");
}

#[test]
fn symlinks_within_an_archive_are_followed() {
    let bed = Bed::new();
    let shared = layer("a", 1000);
    let mut files = classic(&[shared.clone(), shared.clone()], &["foo:1.0"]);
    // As docker writes a layer that it has twice.
    files.retain(|(path, _)| !path.contains('/'));
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(0);
    header.set_entry_type(tar::EntryType::Symlink);
    let path = format!("{}/layer.tar", hex(&shared));
    builder.append_link(&mut header, &path, "../real/layer.tar").unwrap();
    let mut bytes = builder.into_inner().unwrap();
    bytes.truncate(512);
    files.push(("real/layer.tar".into(), shared));
    bytes.extend(tar(&files));
    let images = bed.stream(bytes).unwrap();
    assert_eq!(images.below(&images.pictures[0].top).unwrap().len(), 3);
}

#[test]
fn what_a_layout_says_of_its_blobs_is_no_reason_to_reject_it() {
    let (bed, layer) = (Bed::new(), layer("a", 5000));
    let mut odd = descriptor("text/plain; charset=utf-8", &layer);
    odd["annotations"] = json!({ "a": null });
    let config = descriptor("", b"{}");
    let manifest = json!({
        "schemaVersion": 2, "artifactType": "sbom", "annotations": { "a": null }, "config": config, "layers": [odd],
    });
    let manifest = manifest.to_string().into_bytes();
    let mut top = descriptor(&format!("{}; a=b", ocipfs_oci::media_type::OCI_MANIFEST), &manifest);
    top["platform"] = json!({ "os": "linux" });
    let index = json!({ "schemaVersion": 2, "manifests": [top] }).to_string().into_bytes();
    let mut files = vec![
        ("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
        ("index.json".into(), index),
    ];
    files.extend(
        [&manifest[..], b"{}", &layer].map(|blob| (format!("blobs/sha256/{}", hex(blob)), blob.to_vec())),
    );
    let images = bed.stream(tar(&files)).unwrap();
    let top = &images.pictures[0].top;
    assert_eq!(top.digest, Digest::sha256_of(&manifest), "it is kept byte for byte");
    assert_eq!(images.below(top).unwrap().len(), 3);
}

#[test]
fn a_sparse_index_keeps_attestations_and_present_platforms() {
    let bed = Bed::new();
    let (mut files, amd64) = image(&[layer("a", 5000)], PLAIN);
    let (attestation, attested) = image(&[], PLAIN);
    files.extend(attestation);
    let kind = ocipfs_oci::media_type::OCI_MANIFEST;
    let with = |manifest: &[u8], platform: &str, annotations: serde_json::Value| {
        let mut entry = descriptor(kind, manifest);
        entry["platform"] = json!({ "os": platform, "architecture": platform });
        entry["annotations"] = annotations;
        entry
    };
    let about = json!({ "vnd.docker.reference.digest": Digest::sha256_of(&amd64).to_string() });
    let entries = [
        with(&amd64, "linux", json!({})),
        with(b"elsewhere", "plan9", json!({})),
        with(&attested, "unknown", about),
    ];
    let index = json!({ "schemaVersion": 2, "manifests": entries }).to_string().into_bytes();
    let top = descriptor(ocipfs_oci::media_type::OCI_INDEX, &index);
    files.push((format!("blobs/sha256/{}", hex(&index)), index.clone()));
    files.push((
        "index.json".into(),
        json!({ "schemaVersion": 2, "manifests": [top] }).to_string().into_bytes(),
    ));
    files.push(("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
    let images = bed.file(&tar(&files)).unwrap();
    assert_eq!(images.pictures[0].top.digest, Digest::sha256_of(&index));
    assert!(images.warnings[0].contains("plan9/plan9"), "{:?}", images.warnings);
    // Compressed, the image is another, and what attests it says so.
    let images = read(
        ArchiveSource::open(&bed.dir.path().join("archive")).unwrap(),
        bed.options(Some(Compress::Gzip)),
    )
    .unwrap();
    let Some(ManifestOrIndex::Index(made)) = images.node(&images.pictures[0].top).unwrap() else { panic!() };
    assert_ne!(made.manifests[0].digest, Digest::sha256_of(&amd64));
    let about = made.manifests[2].annotation("vnd.docker.reference.digest").unwrap();
    assert_eq!(about, made.manifests[0].digest.to_string());
}
