use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use ocipfs_oci::{Algorithm, Hasher};

use super::folder::pack;
use super::gzip::GzipWriter;
use super::inspect::{Compression, LayerInspector};

/// Creates the same folder whatever the umask and the order of creation.
fn golden_folder(dir: &Path) {
    let long = format!("usr/share/{}", "long-name-".repeat(12));
    for folder in ["usr/share", "usr/bin", "tmp", &long] {
        fs::create_dir_all(dir.join(folder)).unwrap();
    }
    for (name, content, mode) in [
        ("usr/bin/tool", "#!/bin/sh\necho tool\n", 0o755),
        ("usr/bin/su", "not really\n", 0o4755),
        (&format!("{long}/notes.txt"), "far down\n", 0o644),
        ("empty", "", 0o600),
        ("blocks", &"0123456789abcdef".repeat(128), 0o644),
    ] {
        fs::write(dir.join(name), content).unwrap();
        set_mode(&dir.join(name), mode);
    }
    fs::hard_link(dir.join("usr/bin/tool"), dir.join("usr/bin/tool-1.0")).unwrap();
    symlink("usr/bin", dir.join("bin")).unwrap();
    for folder in ["usr", "usr/share", "usr/bin", &long] {
        set_mode(&dir.join(folder), 0o755);
    }
    set_mode(&dir.join("tmp"), 0o1777);
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn digest(bytes: &[u8]) -> String {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    hasher.update(bytes);
    hasher.finish().to_string()
}

#[test]
fn the_bytes_of_a_packed_folder_are_reproducible() {
    let dir = tempfile::tempdir().unwrap();
    golden_folder(dir.path());
    let mut tar = Vec::new();
    pack(dir.path(), 0, &mut tar).unwrap();
    assert_eq!(digest(&tar), "sha256:98e9b0760725429e891c1ac85b3fa80a407c5cec9a2e7b4920b796483f4e9e42");

    let mut gzip = GzipWriter::new(Vec::new());
    pack(dir.path(), 0, &mut gzip).unwrap();
    let gzip = gzip.finish().unwrap();
    assert_eq!(digest(&gzip), "sha256:1a416a8b2fe34f9d3e37106d73afd1f9c96db9fecd90c3f2f3ddd94b0e877c01");
}

#[test]
fn packed_folder_is_inspected_as_a_layer() {
    let dir = tempfile::tempdir().unwrap();
    golden_folder(dir.path());
    let mut tar = Vec::new();
    pack(dir.path(), 1_700_000_000, &mut tar).unwrap();
    let mut writer = GzipWriter::new(Vec::new());
    writer.write_all(&tar).unwrap();
    let gzip = writer.finish().unwrap();

    for (stored, compression) in [(&tar, Compression::None), (&gzip, Compression::Gzip)] {
        let mut inspector = LayerInspector::new();
        inspector.update(&stored.clone().into()).unwrap();
        let layer = inspector.finish().unwrap();
        assert_eq!(layer.digest.to_string(), digest(stored));
        assert_eq!(layer.diff_id.to_string(), digest(&tar));
        assert_eq!(layer.size, stored.len() as u64);
        assert_eq!(layer.compression, compression);
    }
}
