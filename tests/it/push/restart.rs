use libtest_mimic::Trial;
use ocipfs_oci::{Digest, media_type};

use super::{Repository, client::manifest};
use crate::{
    harness::{Serve, files_below, noise, trials, until},
    http::{get, send},
};

pub fn trials() -> Vec<Trial> {
    trials![
        a_pushed_image_survives_a_kill,
        an_upload_is_resumed_after_a_kill_from_the_acknowledged_range,
        a_streamed_upload_is_resumed_after_a_restart,
    ]
}

/// A path of an address that was before a restart.
fn again(node: &Serve, at: &str) -> String {
    let (_, path) = at.split_once("/v2/").expect("a path");
    node.url(&format!("/v2/{path}"))
}

async fn a_pushed_image_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let node = Serve::start_in(dir.path(), &[]);
    let layer = noise(3 << 20);
    let digest = Repository::new(&node, "a").push_image("x", &layer).await;
    node.kill();
    let node = Serve::start_in(dir.path(), &[]);
    let a = Repository::new(&node, "a");
    a.has(&layer).await;
    let answer = a.get("manifests/x").await;
    assert_eq!(
        (answer.header("docker-content-digest"), answer.header("content-type")),
        (&*digest, media_type::OCI_MANIFEST)
    );
    assert_eq!(answer.json(), manifest(b"{}", &[&layer]));
}

async fn an_upload_is_resumed_after_a_kill_from_the_acknowledged_range() {
    let dir = tempfile::tempdir().unwrap();
    for size in [1_000, 3_400_000] {
        let bytes = noise(2 * size);
        let node = Serve::start_in(dir.path(), &[]);
        let at = Repository::new(&node, "a").begin().await;
        let first = Repository::new(&node, "a").part(&at, 0, &bytes[..size]).await;
        assert_eq!(first.status, 202, "{first:?}");
        node.kill();
        let node = Serve::start_in(dir.path(), &[]);
        let (a, at) = (Repository::new(&node, "a"), again(&node, &at));
        let status = get(&at).await;
        assert_eq!((status.status, status.header("range")), (204, &*format!("0-{}", size - 1)), "{status:?}");
        assert_eq!(a.part(&at, size, &bytes[size..]).await.status, 202);
        let answer = a.end(&at, &Digest::sha256_of(&bytes).to_string(), b"").await;
        assert_eq!(answer.status, 201, "{answer:?}");
        a.has(&bytes).await;
        get(&at).await.refused(404, "BLOB_UPLOAD_UNKNOWN", &[]);
        assert_eq!(files_below(dir.path(), "incoming"), 0);
        node.kill();
    }
}

async fn a_streamed_upload_is_resumed_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = noise(2_500_000);
    let node = Serve::start_in(dir.path(), &[]);
    let at = Repository::new(&node, "a").begin().await;
    assert_eq!(send("PATCH", &at, &[], bytes[..2_000_000].to_vec()).await.status, 202);
    node.stop();
    let node = Serve::start_in(dir.path(), &[]);
    let (a, at) = (Repository::new(&node, "a"), again(&node, &at));
    assert_eq!(get(&at).await.header("range"), "0-1999999");
    assert_eq!(a.end(&at, &Digest::sha256_of(&bytes).to_string(), &bytes[2_000_000..]).await.status, 201);
    a.has(&bytes).await;
    until("nothing is left", || files_below(dir.path(), "incoming") == 0).await;
}
