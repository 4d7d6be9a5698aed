use std::{
    fs,
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use ocipfs_oci::Digest;

use super::{Got, Known, chance::Chance, kills, nothing_is_left, pull};
use crate::harness::{Serve, last_line, ocipfs, tar_of};

/// A tar, and what `layer add` will say of it.
struct Made {
    known: Known,
    path: std::path::PathBuf,
    /// How long it takes to add it.
    takes: Duration,
}

impl Made {
    /// Adds it to a node directory of its own first.
    fn new(dir: &Path, chance: &mut Chance) -> Self {
        let size = (1 + chance.below(24)) << 20;
        let path = tar_of(dir, "layer.tar", &chance.bytes(size as usize));
        let stored = fs::read(&path).expect("the tar");
        let scratch = tempfile::tempdir().expect("a directory");
        let start = Instant::now();
        let reference = last_line(ocipfs(scratch.path()).args(["-q", "layer", "add"]).arg(&path));
        let name = name_in(&reference);
        let known = Known { name, digest: Digest::sha256_of(&stored), size: stored.len() as u64 };
        Self { known, path, takes: start.elapsed() }
    }
}

/// `layer/<cid>` of a reference.
fn name_in(reference: &str) -> String {
    let (_, name) = reference.split_once('/').expect("a registry");
    name.rsplit_once(':').expect("a tag").0.into()
}

#[derive(Debug, Default)]
struct Counts {
    kills: u32,
    acknowledged: usize,
    unacknowledged_but_whole: u32,
}

pub async fn an_added_layer_survives_sigkill_and_no_partial_layer_is_served() {
    let (dir, tars) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let mut chance = Chance::new("killed while adding");
    let (mut added, mut counts) = (Vec::new(), Counts::default());
    for _ in 0..kills() {
        let made = Made::new(tars.path(), &mut chance);
        let node = Serve::start_in(dir.path(), &[]);
        nothing_is_left(&node);
        let mut add = add(dir.path(), &made.path);
        let moment = chance.moment(made.takes * 3 / 2);
        tokio::time::sleep(moment).await;
        // Where `serve` is killed before it was asked, the command works on the directory itself.
        let node_dies_with_it = chance.below(4) == 0;
        if node_dies_with_it {
            add.kill().expect("it can be killed");
        }
        node.kill();
        counts.kills += 1;
        let output = add.wait_with_output().expect("it ends");
        let node = Serve::start_in(dir.path(), &[]);
        nothing_is_left(&node);
        let got = pull(made.known.url(&node), made.known.clone()).await;
        if output.status.success() {
            let reference = String::from_utf8(output.stdout).expect("UTF-8");
            assert_eq!(name_in(reference.trim()), made.known.name, "after {moment:?}");
            assert_eq!(got, Got::Whole, "acknowledged, then killed after {moment:?}");
            added.push(made.known);
        } else if got == Got::Whole {
            counts.unacknowledged_but_whole += 1;
        } else {
            assert_eq!(got, Got::Refused(404), "half of it is served, killed after {moment:?}");
        }
    }
    counts.acknowledged = added.len();
    let node = Serve::start_in(dir.path(), &[]);
    for known in added {
        assert_eq!(pull(known.url(&node), known.clone()).await, Got::Whole, "{known:?}");
    }
    eprintln!("killed while adding: {counts:?}");
}

fn add(dir: &Path, path: &Path) -> Child {
    let mut command = ocipfs(dir);
    command.args(["-q", "layer", "add"]).arg(path).stdout(Stdio::piped()).stderr(Stdio::null());
    command.spawn().expect("the program starts")
}
