//! Archives, references and bytes that are not what they should be: nothing is stored, and nothing is written.

use std::path::Path;

use libtest_mimic::Trial;
use ocipfs::content::Profile;
use serde_json::json;

use super::{archive, before_25, document, hex, image, name, random, since_25, write};
use crate::{
    harness::{Layer, Serve, files_below, finish, noise, ocipfs, stored, trials},
    offline::{Offline, layer_manifest},
};

pub fn trials() -> Vec<Trial> {
    trials![
        hostile_archives_are_rejected_and_leave_no_files,
        invalid_image_references_are_rejected_by_every_command,
        image_export_fails_if_bytes_do_not_match_the_digest,
    ]
}

async fn hostile_archives_are_rejected_and_leave_no_files() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("node");
    let files = since_25(dir.path());
    let whole = archive(&files);
    let without = |part: &str| {
        archive(&files.iter().filter(|(path, _)| !path.contains(part)).cloned().collect::<Vec<_>>())
    };
    let (layer, _) = image(dir.path());
    let lie = |(path, bytes): &(String, Vec<u8>)| {
        let mut bytes = bytes.clone();
        if path.contains(&hex(&layer)) {
            bytes[1000] ^= 1;
        }
        (path.clone(), bytes)
    };
    let lie = archive(&files.iter().map(lie).collect::<Vec<_>>());
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes()[..9].copy_from_slice(b"../../out");
    header.set_size(0);
    header.set_cksum();
    let outside = [header.as_bytes().as_slice(), &whole].concat();
    let mut link = tar::Header::new_gnu();
    link.set_path("manifest.json").unwrap();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_link_name("/etc/passwd").unwrap();
    link.set_size(0);
    link.set_cksum();
    let link = [link.as_bytes().as_slice(), &whole].concat();
    for (bytes, text) in [
        (whole[..whole.len() / 2].to_vec(), "truncated"),
        (without(&hex(&layer)), "has no blobs/sha256/"),
        (without("oci-layout"), "has no oci-layout"),
        (lie, "does not match its name"),
        (outside, "leads out of the archive"),
        (link, "leads out of the archive"),
        (vec![b'x'; 4096], "not a docker archive or"),
    ] {
        let path = write(dir.path(), "hostile.tar", &bytes);
        finish(ocipfs(&data_dir).args(["image", "import", &path])).failed(1, &[text]);
        assert_eq!((stored(&data_dir, "blobs"), stored(&data_dir, "blocks")), (0, 0), "{text}");
        assert_eq!(files_below(&data_dir, "incoming"), 0, "{text}");
    }
    assert_eq!(document(&finish(ocipfs(&data_dir).args(["--json", "image", "ls"]))), json!([]));
}

async fn invalid_image_references_are_rejected_by_every_command() {
    let node = Serve::start(&[]);
    let path = write(node.data_dir(), "foo.tar", &archive(&before_25(node.data_dir())));
    let reference = node.ask(&["image", "import", &path]);
    let layer = Layer::add(&node, &random(1000)).reference(&node);
    let before = (node.stored("blobs"), node.stored("blocks"));
    let out = node.data_dir().join("out");
    let [cid, out] = [name(&reference).split('/').nth(1).expect("a CID"), out.to_str().expect("UTF-8")];
    for (reference, told, rm) in [
        ("../../etc/passwd", "", "not found among the imported images"),
        ("", "", "not found among the imported images"),
        ("ipfs/nonsense/foo:1.0", "invalid CID", "not found among the imported images"),
        (&format!("ipfs/{cid}/Foo:1.0"), "\"Foo\"", ""),
        (&format!("ipfs/{cid}/foo:2.0"), "expected 1.0", ""),
        (&format!("ipfs/{cid}/foo@sha256:abc"), "invalid reference", "invalid reference"),
        (&format!("{}@sha256:{}", layer, hex(b"other")), "", "not found among the imported images"),
    ] {
        node.command(&["image", "inspect", reference]).failed(1, &[told]);
        node.command(&["image", "tag", reference, "other:1"]).failed(1, &[]);
        node.command(&["image", "export", reference, out]).failed(1, &[told]);
        assert!(!Path::new(out).exists(), "{reference}");
        if !rm.is_empty() {
            node.command(&["image", "rm", reference]).failed(1, &[rm]);
        }
    }
    node.command(&["image", "rm", &layer]).failed(1, &["not found among the imported images"]);
    node.command(&["image", "tag", &reference, "Other:1"]).failed(1, &["upper-case"]);
    assert_eq!((node.stored("blobs"), node.stored("blocks")), before);
    assert_eq!(document(&node.command(&["--json", "image", "ls"])).as_array().map(Vec::len), Some(1));
}

async fn image_export_fails_if_bytes_do_not_match_the_digest() {
    let dir = tempfile::tempdir().unwrap();
    let offline = Offline::open(dir.path()).await;
    let at = offline.put(random(3 << 20), Profile::UnixfsV1).await;
    let manifest = layer_manifest(&noise(3 << 20), at).to_string();
    let lie = format!("layer/{}", offline.put(manifest, Profile::UnixfsV1).await);
    drop(offline);
    let source = Serve::start_in(dir.path(), &[]);
    let reader = Serve::start(&["--peer", source.address()]);
    for name in ["layout", "image.tar", "image.oci.tar"] {
        let dest = reader.data_dir().join(name);
        let said = reader.command(&["image", "export", &lie, dest.to_str().expect("UTF-8")]);
        said.failed(1, &["does not match"]);
        assert!(!dest.exists(), "{name}");
    }
    assert_eq!(reader.stored("blobs"), 0);
}
