use std::{fs, os::unix::fs::symlink};

use super::{super::*, *};

fn both(bed: &Bed, files: &Files) -> [Images; 2] {
    [bed.stream(super::super::tar(files)).unwrap(), folder(bed, files).unwrap()]
}

fn tags(images: &Images) -> Vec<(Option<&str>, Option<&str>)> {
    let name = |picture| {
        let ArchivedImage { name, .. }: &ArchivedImage = picture;
        (name.repository.as_ref().map(|name| name.as_str()), name.tag.as_ref().map(|tag| tag.as_str()))
    };
    images.pictures.iter().map(name).collect()
}

#[test]
fn archives_compressed_with_xz_and_bzip2_are_the_same_image() {
    let bed = Bed::new();
    let plain = super::super::tar(&classic(&[layer("a", 3 << 20), layer("b", 100)], &["foo:1.0"]));
    let expected = bed.stream(plain.clone()).unwrap().pictures[0].top.clone();
    let two = [xz(&plain[..100_000], 1), xz(&plain[100_000..], 1)].concat();
    let parts = [bzip2(&plain[..100_000]), bzip2(&plain[100_000..])].concat();
    // `xz -9` has the largest dictionary of all levels.
    for compressed in [xz(&plain, 6), xz(&plain, 9), two, bzip2(&plain), parts] {
        for images in [bed.file(&compressed).unwrap(), bed.stream(compressed).unwrap()] {
            assert_eq!(images.pictures[0].top, expected);
        }
    }
    bed.is_empty();
}

#[test]
fn damaged_xz_and_bzip2_archives_are_rejected_and_leave_no_files() {
    let bed = Bed::new();
    let plain = super::super::tar(&classic(&[layer("a", 300_000)], &["foo:1.0"]));
    for (compressed, name) in [(xz(&plain, 1), "as xz"), (bzip2(&plain), "as bzip2")] {
        bed.refuses(compressed[..compressed.len() / 2].to_vec(), "truncated");
        let mut changed = compressed.clone();
        changed[100_000] ^= 0x40;
        bed.refuses(changed, name);
    }
    // Only the checksum after the tar is wrong.
    let mut changed = xz(&plain, 1);
    let end = changed.len() - 40;
    changed[end] ^= 1;
    bed.refuses(changed, "as xz");
    bed.refuses(xz(b"no tar at all", 1), "not a docker archive or");
    bed.refuses(bzip2(b"no tar at all"), "not a docker archive or");
}

#[test]
fn an_xz_dictionary_beyond_the_memory_limit_is_rejected() {
    let bed = Bed::new();
    let mut options = lzma_rust2::XzOptions::with_preset(0);
    options.lzma_options.dict_size = 256 << 20;
    let mut writer = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
    let plain = super::super::tar(&classic(&[layer("a", 1000)], &["foo:1.0"]));
    std::io::Write::write_all(&mut writer, &plain).unwrap();
    bed.refuses(writer.finish().unwrap(), "as xz");
}

#[test]
fn an_index_that_knows_fewer_images_than_manifest_json_loses_none() {
    let bed = Bed::new();
    for images in both(&bed, &docker_by_digest([None, None])) {
        assert_eq!(tags(&images), [(None, None), (None, None)]);
        assert_ne!(images.pictures[0].top.digest, images.pictures[1].top.digest);
        assert_eq!(images.below(&images.pictures[1].top).unwrap().len(), 4);
    }
    let [images, unpacked] = both(&bed, &docker_by_digest([Some("foo:1"), Some("bar:2")]));
    assert_eq!(tags(&images), [(Some("foo"), Some("1")), (Some("bar"), Some("2"))]);
    let tops = |images: &Images| images.pictures.iter().map(|it| it.top.clone()).collect::<Vec<_>>();
    assert_eq!(tops(&images), tops(&unpacked), "a folder is read like its tar");
}

#[test]
fn an_image_that_only_manifest_json_lists_must_be_complete() {
    let bed = Bed::new();
    let files = docker_by_digest([None, None]);
    let second = blob(&layer("second", 500));
    let without: Files = files.iter().filter(|(path, _)| *path != second).cloned().collect();
    bed.refuses(super::super::tar(&without), &format!("has no {second}, which manifest.json references"));
    let mut malformed = files;
    malformed.iter_mut().find(|(path, _)| path == "manifest.json").unwrap().1 = br#"[{"Config":7}]"#.to_vec();
    bed.refuses(super::super::tar(&malformed), "manifest.json: invalid type: integer `7`");
}

#[test]
fn archives_with_compressed_layers_of_crane_kaniko_and_jib_are_read() {
    let bed = Bed::new();
    let layers = [layer("a", 3000), layer("b", 100)];
    let kaniko = format!("sha256:{}", hex(&config(&layers)));
    for (config_path, tags) in [
        (kaniko.as_str(), json!(["index.docker.io/org/app:i-was-a-digest"])),
        ("config.json", json!(["localhost:5000/org/app:1"])),
    ] {
        for images in both(&bed, &gzipped_layers(config_path, &layers, tags)) {
            assert_eq!(images.pictures[0].name.repository.as_ref().unwrap().as_str(), "org/app");
            assert!(images.pieces.contains_key(&Digest::sha256_of(&gzip(&layers[0]))));
        }
    }
}

#[test]
fn what_rules_oci_writes_is_read() {
    let bed = Bed::new();
    let layers = [layer("a", 3000), layer("b", 100)];
    let compressed = layers.each_ref().map(|layer| gzip(layer));
    let reference = json!(["registry.example/team/app:latest"]);
    let expected = [(Some("team/app"), Some("latest"))];
    let mut tops = Vec::new();
    for stored in [&compressed, &layers] {
        for images in both(&bed, &rules_oci(&layers, stored, reference.clone())) {
            assert_eq!(tags(&images), expected);
            assert!(images.pieces.contains_key(&Digest::sha256_of(&compressed[0])));
            tops.push(images.pictures[0].top.clone());
        }
    }
    assert!(tops.iter().all(|top| *top == tops[0]), "a layer that is not compressed is, here");
    for images in both(&bed, &rules_oci_layout()) {
        assert_eq!(tags(&images), expected);
    }
    let mut malformed = rules_oci(&layers, &compressed, reference);
    malformed.remove(0);
    bed.refuses(super::super::tar(&malformed), "which manifest.json references");
}

#[test]
fn a_layer_tar_without_its_final_padding_is_kept_as_it_is() {
    let bed = Bed::new();
    let files = gzipped_layers("config.json", &[unpadded()], json!(["foo:1"]));
    for images in both(&bed, &files) {
        assert!(images.pieces.contains_key(&Digest::sha256_of(&gzip(&unpadded()))));
    }
    bed.stream(super::super::tar(&classic(&[unpadded()], &["foo:1"]))).unwrap();
    // What is shorter than a header is not a layer.
    let short = gzipped_layers("config.json", &[unpadded()[..100].to_vec()], json!(["foo:1"]));
    bed.refuses(super::super::tar(&short), "is not a tar");
}

#[test]
fn blobs_that_are_links_out_of_a_folder_are_followed_and_verified() {
    let bed = Bed::new();
    let files = named(json!({ REF_NAME: "1.0" }));
    let expected = folder(&bed, &files).unwrap().pictures[0].top.clone();
    let outside = bed.dir.path().join("bazel-out");
    let dir = bed.dir.path().join("folder");
    fs::create_dir_all(&outside).unwrap();
    for (path, _) in files.iter().filter(|(path, _)| path.starts_with("blobs/")) {
        let elsewhere = outside.join(path.rsplit('/').next().unwrap());
        fs::rename(dir.join(path), &elsewhere).unwrap();
        let name = elsewhere.file_name().unwrap();
        symlink(std::path::Path::new("../../../bazel-out").join(name), dir.join(path)).unwrap();
    }
    let read_folder = || read(ArchiveSource::open(&dir).unwrap(), bed.options(None));
    assert_eq!(read_folder().unwrap().pictures[0].top, expected);
    // Other bytes than the name says, a device, and a file that no digest verifies.
    let path = dir.join(&files[0].0);
    let link_to = |path: &std::path::Path, target: &str| {
        let _ = fs::remove_file(path);
        symlink(target, path).unwrap();
        let error = read_folder().map(drop).unwrap_err();
        bed.is_empty();
        error.to_string()
    };
    fs::write(outside.join("secret"), b"a secret").unwrap();
    assert!(link_to(&path, "../../../bazel-out/secret").contains("does not match its name"));
    assert!(link_to(&path, "/dev/zero").contains("not a file"));
    assert!(link_to(&path, "nowhere").contains("the archive has no blobs/"));
    fs::remove_file(&path).unwrap();
    fs::write(&path, &files[0].1).unwrap();
    assert!(link_to(&dir.join("index.json"), "../bazel-out/secret").contains("leads out of the archive"));
}

#[test]
fn a_dir_directory_of_skopeo_is_rejected_by_name() {
    let bed = Bed::new();
    bed.refuses(super::super::tar(&skopeo_dir()), "`dir:` directory of skopeo");
    let error = folder(&bed, &skopeo_dir()).map(drop).unwrap_err();
    assert!(matches!(error, Error::SkopeoDir), "{error}");
}

#[test]
fn a_referrer_that_no_index_lists_is_found() {
    let bed = Bed::new();
    let (files, manifest) = cosign_bundle();
    for images in both(&bed, &files) {
        assert_eq!(images.pictures[1].subject, Some(Digest::sha256_of(&manifest)));
        assert_eq!(images.below(&images.pictures[1].top).unwrap().len(), 3);
    }
    // Without its blobs it is only a blob that nothing lists.
    let sbom = files.iter().position(|(_, bytes)| bytes.starts_with(b"an SBOM")).unwrap();
    let mut files = files;
    files.remove(sbom);
    for images in both(&bed, &files) {
        assert_eq!(images.pictures.len(), 1);
    }
}

#[test]
fn a_referrer_without_its_blobs_is_rejected() {
    let bed = Bed::new();
    let (files, _) = oras(1);
    let without: Files = files.into_iter().filter(|(_, bytes)| !bytes.starts_with(b"an SBOM")).collect();
    bed.refuses(super::super::tar(&without), "the archive has no blobs/sha256/");
}
