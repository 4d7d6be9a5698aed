use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use ocipfs_oci::Digest;

use super::{chance::Chance, kills};
use crate::{
    harness::{Serve, finish, last_line, ocipfs, tar_of},
    http::get,
};

/// Layers that are rows of the index, 22 MiB of them.
const LAYERS: usize = 360;

/// Adds layers of 59 KiB as one image, and returns its CID.
fn add(data_dir: &Path, tars: &Path, chance: &mut Chance, layers: usize) -> (String, Digest) {
    let paths: Vec<PathBuf> =
        (0..layers).map(|n| tar_of(tars, &format!("{n}.tar"), &chance.bytes(59_000))).collect();
    let reference = last_line(ocipfs(data_dir).args(["-q", "layer", "add"]).args(&paths));
    let (_, name) = reference.split_once("/layer/").expect("a reference");
    let last = fs::read(paths.last().expect("a layer")).expect("the tar");
    (name.rsplit_once(':').expect("a tag").0.into(), Digest::sha256_of(&last))
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        match entry.file_type().expect("a type").is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).expect("a copy")),
        }
    }
}

fn index_bytes(data_dir: &Path) -> u64 {
    fs::metadata(data_dir.join("index.redb")).expect("the index").len()
}

pub async fn the_index_survives_sigkill_while_it_is_compacted() {
    let (dir, tars) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let mut chance = Chance::new("killed while compacting");
    let node = dir.path().join("node");
    let (large, _) = add(&node, tars.path(), &mut chance, LAYERS);
    let (kept, digest) = add(&node, tars.path(), &mut chance, 1);
    last_line(ocipfs(&node).args(["layer", "rm", &large]));
    assert!(index_bytes(&node) > 20 << 20, "free pages stay in the file: {}", index_bytes(&node));

    let whole = dir.path().join("whole");
    copy(&node, &whole);
    let start = Instant::now();
    last_line(ocipfs(&whole).args(["store", "gc"]));
    let takes = start.elapsed();
    assert!(index_bytes(&whole) < 2 << 20, "{}", index_bytes(&whole));

    let mut shrunk = 0;
    for kill in 0..kills() {
        let killed = dir.path().join(format!("killed-{kill}"));
        copy(&node, &killed);
        let mut gc = ocipfs(&killed);
        let mut gc = gc.args(["store", "gc"]).stdout(Stdio::null()).spawn().expect("the program starts");
        tokio::time::sleep(chance.moment(takes + Duration::from_millis(20))).await;
        gc.kill().expect("it can be killed");
        gc.wait().expect("a child");
        shrunk += u32::from(index_bytes(&killed) < 2 << 20);
        assert_eq!(finish(ocipfs(&killed).args(["store", "verify"])).code, Some(0));
        let serve = Serve::start_in(&killed, &[]);
        let layer = get(&serve.url(&format!("/v2/layer/{kept}/blobs/{digest}"))).await;
        assert_eq!((layer.status, Digest::sha256_of(&layer.body)), (200, digest.clone()));
        serve.ask(&["store", "gc"]);
        assert!(serve.stored("index_bytes") < 2 << 20, "after a kill");
        serve.stop();
        fs::remove_dir_all(&killed).expect("a directory");
    }
    eprintln!("killed while compacting: {} kills, {shrunk} after the file was compacted", kills());
}
