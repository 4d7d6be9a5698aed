//! The malformed twins of what is accepted: each error names the file, and the field or the place in it.

use serde_json::Value;

use super::{
    tools::{self, Files, REF_NAME},
    *,
};

/// A layout of one image whose manifest is changed.
fn changed(change: impl Fn(&mut Value)) -> (Files, String) {
    let (blobs, manifest) = tools::small("malformed");
    let mut json: Value = serde_json::from_slice(&manifest).unwrap();
    change(&mut json);
    let bytes = json.to_string().into_bytes();
    let mut blobs: Files = blobs.into_iter().filter(|(_, blob)| *blob != manifest).collect();
    blobs.push((tools::blob(&bytes), bytes.clone()));
    let digest = Digest::sha256_of(&bytes).to_string();
    (tools::layout(blobs, &[tools::entry(&bytes, json!({ REF_NAME: "1.0" }))]), digest)
}

#[test]
fn a_malformed_manifest_is_rejected_with_its_digest_and_the_field() {
    let bed = Bed::new();
    for (pointer, value, told) in [
        ("/config/size", json!(-1), "size"),
        ("/layers/0/size", json!(1.5), "size"),
        ("/layers/0/digest", json!("sha256:0"), "digest"),
        ("/layers/0/digest", json!("md5:d41d8cd98f00b204e9800998ecf8427e"), "md5"),
        ("/layers/0/mediaType", json!(7), "invalid type: integer `7`"),
        ("/layers", json!({}), "invalid type: map"),
        ("/config", json!(null), "invalid type: null"),
        ("/mediaType", json!(ocipfs_oci::media_type::OCI_INDEX), "is that of an index"),
        ("/schemaVersion", json!("2"), "schemaVersion"),
    ] {
        let (files, digest) = changed(|json| *json.pointer_mut(pointer).unwrap() = value.clone());
        bed.refuses(tar(&files), &digest);
        bed.refuses(tar(&files), told);
    }
    let (files, digest) = changed(|json| drop(json.as_object_mut().unwrap().remove("config")));
    bed.refuses(tar(&files), &format!("{digest}: invalid image manifest: expected JSON with schemaVersion 2, config and layers: missing field `config`"));
}

#[test]
fn a_malformed_index_is_rejected_with_its_name_and_the_place() {
    let bed = Bed::new();
    for (index, told) in [
        (json!({ "schemaVersion": 2 }), "missing field `manifests`"),
        (json!({ "schemaVersion": 2, "manifests": "x" }), "invalid type: string"),
        (json!({ "schemaVersion": 2, "manifests": [{ "digest": "sha256:0", "size": 1 }] }), "digest"),
        (json!({ "schemaVersion": 2, "manifests": [[]] }), "at line 1 column"),
    ] {
        let mut files = tools::named(json!({}));
        files.iter_mut().find(|(path, _)| path == "index.json").unwrap().1 = index.to_string().into_bytes();
        bed.refuses(tar(&files), "index.json: ");
        bed.refuses(tar(&files), told);
    }
    let mut files = tools::named(json!({}));
    files.iter_mut().find(|(path, _)| path == "oci-layout").unwrap().1 = b"{}".to_vec();
    bed.refuses(tar(&files), "oci-layout: missing field `imageLayoutVersion`");
}

#[test]
fn an_index_entry_without_a_media_type_is_what_its_bytes_are() {
    let bed = Bed::new();
    for stated in [json!(""), json!(null)] {
        let (mut blobs, manifest) = tools::small("unstated");
        let mut child = descriptor("", &manifest);
        child["mediaType"] = stated.clone();
        // A blob that is not a manifest stays a blob.
        let text = b"{\"layers\":[]}".to_vec();
        let mut other = descriptor("", &text);
        other["mediaType"] = stated.clone();
        blobs.push((tools::blob(&text), text));
        let index = json!({ "schemaVersion": 2, "manifests": [child, other] }).to_string().into_bytes();
        blobs.push((tools::blob(&index), index.clone()));
        let mut top = descriptor("", &index);
        top["mediaType"] = stated;
        let files = tools::layout(blobs, &[top]);
        let images = bed.stream(tar(&files)).unwrap();
        // The index, the manifest with its configuration and its layer, and the blob.
        assert_eq!(images.below(&images.pictures[0].top).unwrap().len(), 5);
        let config = tools::blob(&config(&[layer("unstated", 1000)]));
        let without: Files = files.into_iter().filter(|(path, _)| *path != config).collect();
        bed.refuses(tar(&without), &format!("has no {config}"));
    }
}

#[test]
fn a_layer_of_a_docker_archive_that_is_compressed_with_xz_or_bzip2_is_rejected_by_name() {
    let bed = Bed::new();
    let layer = layer("a", 3000);
    for (compressed, name) in [(tools::xz(&layer, 1), "xz"), (tools::bzip2(&layer), "bzip2")] {
        let mut files = classic(std::slice::from_ref(&layer), &["foo:1.0"]);
        let path = format!("{}/layer.tar", hex(&layer));
        files.iter_mut().find(|(other, _)| *other == path).unwrap().1 = compressed;
        let told = format!("{path}: compressed with {name}: a layer is a tar, plain or compressed with gzip");
        bed.refuses(tar(&files), &told);
        let folder = bed.dir.path().join(name);
        tools::unpack(&folder, &files);
        let source = ArchiveSource::open(&folder).unwrap();
        let error = read(source, bed.options(None)).map(drop).unwrap_err().to_string();
        assert!(error.contains(&told), "{error}");
    }
}

#[test]
fn layers_of_an_exported_docker_archive_are_kept_as_they_are() {
    let bed = Bed::new();
    let layers = [layer("a", 3000)];
    let files = oci(&layers, PLAIN, &["foo:1.0"]);
    let plain = Digest::sha256_of(&layers[0]);
    for is_exported in [false, true] {
        let mut files = files.clone();
        let index = files.iter().position(|(path, _)| path == "index.json").unwrap();
        if is_exported {
            let mut json: Value = serde_json::from_slice(&files[index].1).unwrap();
            json["annotations"] = json!({ LAYERS: UNCHANGED });
            files[index].1 = json.to_string().into_bytes();
        }
        // Wherever the index is.
        let mut other = files.clone();
        other.rotate_left(index);
        for files in [files, other] {
            let folder = bed.dir.path().join("folder");
            let _ = fs::remove_dir_all(&folder);
            tools::unpack(&folder, &files);
            let source = ArchiveSource::open(&folder).unwrap();
            let bytes = tar(&files);
            for images in [
                bed.stream(bytes.clone()).unwrap(),
                bed.file(&bytes).unwrap(),
                bed.stream(tools::gzip(&bytes)).unwrap(),
                read(source, bed.options(None)).unwrap(),
            ] {
                assert_eq!(images.pieces.contains_key(&plain), is_exported);
            }
            let compressed =
                read(ArchiveSource::stream("it", Cursor::new(bytes)), bed.options(Some(Compress::Gzip)));
            assert!(!compressed.unwrap().pieces.contains_key(&plain), "it is asked for");
        }
    }
}
