//! SIGKILL of an import at any moment: images are there whole or not at all, and the next import goes on.

use std::{
    fs,
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use libtest_mimic::Trial;

use super::{Source, document, import, known};
use crate::{
    harness::{Serve, files_below, ocipfs, trial_within},
    http::get,
    killing::chance::Chance,
    push::Repository,
};

/// A kill takes a restart and some pulls.
const A_KILL_TAKES: Duration = Duration::from_secs(15);

/// How many kills a run makes: 20 unless `OCIPFS_TEST_KILLS` says otherwise.
fn kills() -> u32 {
    std::env::var("OCIPFS_TEST_KILLS").map_or(20, |text| text.parse().expect("a number"))
}

pub fn trials() -> Vec<Trial> {
    vec![trial_within(
        "it::bundles::an_import_that_is_killed_shows_whole_images_only_and_is_resumed",
        Duration::from_secs(180) + A_KILL_TAKES * kills(),
        an_import_that_is_killed_shows_whole_images_only_and_is_resumed,
    )]
}

fn begin(data_dir: &Path, file: &str) -> Child {
    let mut command = ocipfs(data_dir);
    command.args(["bundle", "import", file]).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("the program starts")
}

/// Holds that each image is whole or not there, and returns how many are there.
async fn whole_images(source: &Source, node: &Serve) -> usize {
    let mut whole = 0;
    for (name, digests, expected) in &source.images {
        let repository = Repository::new(node, name);
        match get(&repository.url("manifests/1.0")).await.status {
            200 => {
                assert_eq!(known(&repository, digests).await, *expected, "{name}");
                whole += 1;
            }
            status => {
                assert_eq!(status, 404, "{name}");
                assert_eq!(get(&repository.url("tags/list")).await.status, 404, "{name}");
            }
        }
    }
    assert_eq!(files_below(node.data_dir(), "incoming") as u64, node.stored("partial"));
    assert!(!node.log().contains("panicked"), "{}", node.log());
    whole
}

async fn an_import_that_is_killed_shows_whole_images_only_and_is_resumed() {
    let source = Source::start(&[9 << 20, 50_000, 2 << 20, 5 << 20, 700_000, 3 << 20]).await;
    let (path, _) = source.export("a.car", &["team/*"]);
    let first = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    document(&import(first.path(), &[&path]));
    let took = begun.elapsed();
    let mut chance = Chance::new("a bundle is imported");
    let (mut dir, mut counts) = (tempfile::tempdir().unwrap(), [0; 3]);
    for kill in 0..kills() {
        let moment = chance.moment(took);
        // The command works on the directory itself, or has the node do it.
        if kill % 2 == 0 {
            let mut command = begin(dir.path(), &path);
            tokio::time::sleep(moment).await;
            command.kill().unwrap();
            command.wait().unwrap();
        } else {
            let node = Serve::start_in(dir.path(), &[]);
            let mut command = begin(dir.path(), &path);
            tokio::time::sleep(moment).await;
            node.kill();
            command.wait().unwrap();
        }
        let node = Serve::start_in(dir.path(), &[]);
        let whole = whole_images(&source, &node).await;
        node.kill();
        counts[usize::from(whole > 0) + usize::from(whole == source.images.len())] += 1;
        if whole == source.images.len() || chance.below(4) == 0 {
            // Once it was complete, or sometimes before, from nothing again.
            document(&import(dir.path(), &[&path]));
            let node = Serve::start_in(dir.path(), &[]);
            assert_eq!(whole_images(&source, &node).await, source.images.len());
            assert_eq!(node.stored("partial"), 0);
            drop(node);
            dir = tempfile::tempdir().unwrap();
        }
    }
    eprintln!("kills with no, some and all images afterwards: {counts:?}");
    document(&import(dir.path(), &[&path]));
    source.is_served_by(&Serve::start_in(dir.path(), &[])).await;
    assert!(fs::exists(&path).unwrap());
}
