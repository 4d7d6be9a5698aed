//! Images that boxo has added, as `ipfs add -r` and nerdctl add them.

use std::{fs, path::Path};

use libtest_mimic::Trial;
use ocipfs_oci::media_type;
use serde_json::{Value, json};

use super::{
    folder::Files,
    image::{Image, descriptor, layout, tagged, with},
    is_manifest,
};
use crate::{
    harness::{Serve, trials},
    http::get,
    peers::boxo::{self, Boxo},
};

pub fn trials() -> Vec<Trial> {
    trials![needs boxo::available();
        an_image_layout_added_by_boxo_is_pulled_in_any_profile,
        a_descriptor_image_as_nerdctl_pushes_it_is_pulled,
    ]
}

fn write(dir: &Path, files: &Files) {
    for (path, bytes) in files {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

async fn pulls(node: &Serve, name: &str, reference: &str, image: &Image) {
    let url = |rest: String| node.url(&format!("/v2/{name}/{rest}"));
    is_manifest(&get(&url(format!("manifests/{reference}"))).await, &image.manifest, image.media_type);
    for blob in image.blobs() {
        let answer = get(&url(format!("blobs/{}", ocipfs_oci::Digest::sha256_of(blob)))).await;
        assert!(answer.status == 200 && answer.body == blob, "{name}: {}", answer.status);
    }
}

/// The CIDv1 that a name can hold.
fn lower(cid: &str) -> String {
    let cid: ocipfs_node::Cid = cid.parse().unwrap();
    ocipfs_node::Cid::new_v1(cid.codec(), *cid.hash()).to_string()
}

async fn an_image_layout_added_by_boxo_is_pulled_in_any_profile() {
    let dir = tempfile::tempdir().unwrap();
    let images: Vec<Image> = (0..30).map(|n| Image::of(&format!("{n}"), 100_000 * n)).collect();
    let entries: Vec<Value> =
        images.iter().enumerate().map(|(n, image)| tagged(image.descriptor(), &format!("v{n}"))).collect();
    write(dir.path(), &layout("library/busybox/", &entries, &images.iter().collect::<Vec<_>>(), &[]));
    for flags in [
        &[][..],
        &["--profile", "legacy"],
        &["--profile", "kubo-v1"],
        &["--shard"],
        &["--profile", "legacy", "--shard"],
    ] {
        let boxo = Boxo::serve(flags, &[dir.path()]).await.unwrap();
        let node = Serve::start(&["--peer", boxo.address()]);
        let name = format!("ipfs/{}/library/busybox", lower(&boxo.cids()[0]));
        for n in [0, 7, 29] {
            pulls(&node, &name, &format!("v{n}"), &images[n]).await;
        }
        drop(boxo);
        pulls(&node, &name, "v29", &images[29]).await;
    }
}

/// Serves these files from one peer, which knows their CIDs.
async fn serve(files: &[&[u8]]) -> Boxo {
    let dir = tempfile::tempdir().unwrap();
    let paths: Vec<_> = (0..files.len()).map(|n| dir.path().join(n.to_string())).collect();
    for (path, bytes) in paths.iter().zip(files) {
        fs::write(path, bytes).unwrap();
    }
    let paths: Vec<&Path> = paths.iter().map(|path| path.as_path()).collect();
    Boxo::serve(&["--profile", "kubo-v1"], &paths).await.unwrap()
}

/// Each document names the CIDs of those before, so each is added by another peer.
async fn a_descriptor_image_as_nerdctl_pushes_it_is_pulled() {
    let plain = Image::of("image", 3 << 20);
    let url = |cid: &str| json!([format!("ipfs://{cid}")]);
    let blobs = serve(&plain.blobs()).await;
    let mut manifest: Value = serde_json::from_slice(&plain.manifest).unwrap();
    manifest["config"]["urls"] = url(&blobs.cids()[0]);
    manifest["layers"][0]["urls"] = url(&blobs.cids()[1]);
    let image = Image { manifest: manifest.to_string().into(), ..plain };
    let manifests = serve(&[&image.manifest]).await;
    let top = descriptor(media_type::OCI_MANIFEST, &image.manifest);
    let top = with(top, "urls", url(&manifests.cids()[0])).to_string();
    let descriptors = serve(&[top.as_bytes()]).await;
    let peers = [&blobs, &manifests, &descriptors].map(|boxo| ["--peer", boxo.address()]);
    let node = Serve::start(&peers.concat());
    node.until("all are connected", |status| status["peers"] == 3).await;
    let name = format!("ipfs/{}", descriptors.cids()[0]);
    pulls(&node, &name, "latest", &image).await;
    drop((blobs, manifests, descriptors));
    pulls(&node, &name, "latest", &image).await;
}
