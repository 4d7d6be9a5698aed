//! Memory does not grow with a bundle.

use std::{
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use libtest_mimic::Trial;
use ocipfs_oci::media_type;
use serde_json::json;

use crate::{
    harness::{Serve, ocipfs, trials},
    http::ask,
    memory::{large_tar, size},
    push::{Repository, descriptor},
};

/// Maximum memory of a command, and of a node that works for it.
const BOUND: u64 = 150 << 20;
/// Between two looks at it.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(20);

pub fn trials() -> Vec<Trial> {
    trials![a_large_bundle_is_exported_and_imported_in_bounded_memory]
}

/// The anonymous memory of a process; 0 where it has ended.
fn rss_anon(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.map_or(0, |line| line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10)
}

/// Runs a command to its good end, and tells how fast it worked through so many bytes.
async fn bounded(what: &str, command: &mut Command, node: Option<&Serve>, bytes: u64) {
    let begun = Instant::now();
    let mut child = command.stdout(Stdio::null()).spawn().expect("the program starts");
    let mut peaks = [0; 2];
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child") {
            break status;
        }
        let now = [rss_anon(child.id()), node.map_or(0, |node| rss_anon(node.pid()))];
        peaks = [0, 1].map(|at| peaks[at].max(now[at]));
        tokio::time::sleep(SAMPLE_INTERVAL).await;
    };
    assert!(status.success(), "{what}: {status}");
    let speed = bytes as f64 / begun.elapsed().as_secs_f64() / 1e6;
    let [own, other] = peaks.map(|peak| peak >> 20);
    eprintln!("{what}: {speed:.0} MB/s, {own} MiB in the command, {other} MiB in the node");
    assert!(peaks.iter().all(|peak| *peak <= BOUND), "{what}: {own} MiB and {other} MiB");
}

async fn a_large_bundle_is_exported_and_imported_in_bounded_memory() {
    let source = Serve::start(&[]);
    let (tar, digest) = large_tar(source.data_dir(), size() / 2);
    let bytes = fs::metadata(&tar).unwrap().len();
    let reference = source.ask(&["-q", "layer", "add", tar.to_str().unwrap()]);
    fs::remove_file(tar).unwrap();
    let name = reference.split_once('/').unwrap().1.rsplit_once(':').unwrap().0;
    let repository = Repository::new(&source, "large");
    repository.push(b"{}").await;
    let mount = source.url(&format!("/v2/large/blobs/uploads/?mount={digest}&from={name}"));
    assert_eq!(ask("POST", &mount, &[]).await.status, 201);
    let layer =
        json!({ "mediaType": media_type::OCI_LAYER_TAR, "digest": digest.to_string(), "size": bytes });
    let image = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
        "config": descriptor(media_type::OCI_CONFIG, b"{}"), "layers": [layer] });
    assert_eq!(repository.put("1", &image).await.status, 201);
    let path = source.data_dir().join("large.car").display().to_string();
    let export = ["bundle", "export", &path, "large:1"];
    bounded("export", ocipfs(source.data_dir()).args(export), Some(&source), bytes).await;
    let target = Serve::start(&[]);
    let import = ["bundle", "import", &path];
    bounded("import", ocipfs(target.data_dir()).args(import), Some(&target), bytes).await;
    assert_eq!(Repository::new(&target, "large").get("manifests/1").await.status, 200);
    drop(target);
    let alone = tempfile::tempdir().unwrap();
    bounded("import without a node", ocipfs(alone.path()).args(import), None, bytes).await;
}
