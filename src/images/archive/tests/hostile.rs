//! Archives that are made to harm a node.

use super::*;

#[test]
fn import_rejects_input_that_is_not_an_archive_and_leaves_no_files() {
    let bed = Bed::new();
    bed.refuses(vec![], "not a docker archive or");
    bed.refuses(b"no tar at all ".repeat(100), "not a docker archive or");
    bed.refuses(layer("etc/passwd", 1000), "neither index.json nor manifest.json");
    bed.refuses(vec![0x1f, 0x8b, 8, 0, 0], "truncated");
}

#[test]
fn hostile_archives_are_rejected_and_leave_no_files() {
    let bed = Bed::new();
    let layers = [layer("a", 200_000), layer("b", 100)];
    let classic = classic(&layers, &["foo:1.0"]);
    let oci = oci(&layers, PLAIN, &[]);
    let without = |files: &[(String, Vec<u8>)], part: &str| {
        tar(&files.iter().filter(|(path, _)| !path.contains(part)).cloned().collect::<Vec<_>>())
    };
    let changed = |files: &[(String, Vec<u8>)], part: &str, bytes: &[u8]| {
        let change = |(path, old): &(String, Vec<u8>)| {
            (path.clone(), if path.contains(part) { bytes.to_vec() } else { old.clone() })
        };
        tar(&files.iter().map(change).collect::<Vec<_>>())
    };
    let whole = tar(&classic);
    bed.refuses(whole[..100_000].to_vec(), "truncated");
    bed.refuses(without(&classic, &hex(&layers[1])), "has no");
    bed.refuses(without(&oci, &hex(&layers[1])), "has no blobs/sha256/");
    bed.refuses(without(&oci, "oci-layout"), "has no oci-layout");
    bed.refuses(
        changed(&classic, &format!("{}/layer", hex(&layers[0])), &layer("other", 10)),
        "does not match",
    );
    bed.refuses(changed(&oci, &hex(&layers[0]), &layer("other", 200_000)), "does not match its name");
    bed.refuses(changed(&oci, "index.json", b"[]"), "index.json: ");
    bed.refuses(changed(&classic, "manifest.json", b"{}"), "manifest.json: ");
    bed.refuses(changed(&classic, "manifest.json", b"[]"), "lists no image");
    let name = json!([{ "Config": "../../etc/passwd", "RepoTags": ["foo:1"], "Layers": [] }]).to_string();
    bed.refuses(changed(&classic, "manifest.json", name.as_bytes()), "leads out of the archive");
}

#[test]
fn path_traversal_by_paths_and_links_in_an_archive_is_rejected() {
    let bed = Bed::new();
    for (path, target) in [
        ("../out", None),
        ("/etc/out", None),
        ("a/../../out", None),
        ("in", Some("../../out")),
        ("in", Some("/etc")),
    ] {
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_size(0);
        if let Some(target) = target {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_link_name_literal(target).unwrap();
        }
        header.set_cksum();
        let bytes = [header.as_bytes().as_slice(), &tar(&classic(&[], &[]))].concat();
        bed.refuses(bytes, "leads out of the archive");
    }
}

/// A tar whose first entry claims so many bytes, of which spaces follow without end.
fn endless(path: &str, kind: tar::EntryType, size: u64) -> impl io::Read + Send {
    let mut header = tar::Header::new_ustar();
    header.set_path(path).unwrap();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_cksum();
    io::Read::chain(Cursor::new(header.as_bytes().to_vec()), io::Read::take(io::repeat(b'{'), size))
}

#[test]
fn a_gibibyte_of_json_is_rejected_before_it_is_read() {
    let bed = Bed::new();
    let regular = tar::EntryType::Regular;
    for (path, kind) in [("index.json", regular), ("manifest.json", regular), ("x", tar::EntryType::XHeader)]
    {
        let source = ArchiveSource::stream("the stream", endless(path, kind, 1 << 30));
        let error = read(source, bed.options(None)).map(drop).unwrap_err();
        let is_right = matches!(error, Error::TooLarge { .. } | Error::Unknown(_) | Error::Truncated(_));
        assert!(is_right, "{error}");
        bed.is_empty();
    }
    // As a blob it is not read as a manifest.
    let top = json!({ "mediaType": ocipfs_oci::media_type::OCI_MANIFEST, "size": 5 << 20,
        "digest": Digest::sha256_of(&vec![b' '; 5 << 20]).to_string() });
    let index = json!({ "schemaVersion": 2, "manifests": [top] }).to_string().into_bytes();
    let files = [
        (format!("blobs/sha256/{}", hex(&vec![b' '; 5 << 20])), vec![b' '; 5 << 20]),
        ("index.json".into(), index),
        ("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
    ];
    bed.refuses(tar(&files), "too large");
}

#[test]
fn deeply_nested_and_self_referencing_indexes_are_rejected() {
    let bed = Bed::new();
    let kind = ocipfs_oci::media_type::OCI_INDEX;
    let (mut files, manifest) = image(&[], PLAIN);
    let mut top = descriptor(ocipfs_oci::media_type::OCI_MANIFEST, &manifest);
    for _ in 0..20 {
        let index = json!({ "schemaVersion": 2, "manifests": [top] }).to_string().into_bytes();
        top = descriptor(kind, &index);
        files.push((format!("blobs/sha256/{}", hex(&index)), index));
    }
    files.push(("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
    let mut deep = files.clone();
    deep.push((
        "index.json".into(),
        json!({ "schemaVersion": 2, "manifests": [top] }).to_string().into_bytes(),
    ));
    bed.refuses(tar(&deep), "contains itself");
    // One that names itself can only lie about its digest.
    let lie = json!({ "mediaType": kind, "size": 10, "digest": Digest::sha256_of(b"lie").to_string() });
    let index = json!({ "schemaVersion": 2, "manifests": [lie] }).to_string().into_bytes();
    files.push((format!("blobs/sha256/{}", hex(b"lie")), index.clone()));
    files.push(("index.json".into(), index));
    bed.refuses(tar(&files), "does not match its name");
}

#[test]
fn staged_blobs_keep_no_file_descriptors_open() {
    let bed = Bed::new();
    let layers: Vec<_> = (0..40).map(|n| layer(&format!("{n}"), 100_000 + n)).collect();
    let images = bed.stream(tar(&oci(&layers, PLAIN, &[]))).unwrap();
    assert_eq!(images.pieces.len(), 40);
    let incoming = fs::canonicalize(bed.dir.path().join("node/incoming")).unwrap();
    let open = fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
    assert_eq!(open.filter(|path| path.starts_with(&incoming)).count(), 0);
}

#[test]
fn archive_documents_beyond_the_memory_limit_are_rejected() {
    let bed = Bed::new();
    let document = vec![b'{'; 4 << 20];
    let files = (0..25).map(|n| (format!("document{n}"), document.clone()));
    let source = ArchiveSource::stream("the stream", Cursor::new(tar(&files.collect::<Vec<_>>())));
    let error = read(source, bed.options(None)).map(drop).unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    // Nor may there be any number of empty ones.
    let mut header = tar::Header::new_ustar();
    header.set_size(0);
    header.set_mode(0o644);
    let mut tar = Vec::new();
    for n in 0..70_000 {
        header.set_path(format!("blobs/sha256/{n:064}")).unwrap();
        header.set_cksum();
        tar.extend_from_slice(header.as_bytes());
    }
    let error = bed.stream(tar).map(drop).unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. } | Error::Lie { .. }), "{error}");
    bed.is_empty();
}
