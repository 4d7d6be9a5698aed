//! Room on the disk: cached content is evicted, kept content stays, and damaged content is repaired.

use std::{
    fs,
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use libtest_mimic::Trial;
use tokio::task::spawn_blocking;

use crate::{
    harness::{Layer, Serve, noise, ocipfs, tar_of, trials},
    http::{ask, get},
    push::Repository,
};

pub fn trials() -> Vec<Trial> {
    trials![
        eviction_keeps_the_cache_below_cache_size_and_keeps_pinned_and_added_layers,
        eviction_is_least_recently_used_even_after_a_restart,
        a_pull_larger_than_the_cache_is_streamed_through,
        garbage_collection_under_load_loses_nothing,
        store_gc_dry_run_lists_and_store_gc_deletes_unreferenced_data,
        store_verify_finds_a_corrupt_blob_and_repairs_it_from_a_peer,
        beyond_the_max_size_quota_add_and_push_fail_and_a_pull_is_streamed_through,
        sizes_are_parsed_with_units,
    ]
}

const MIB: usize = 1 << 20;

/// Layers that have nothing in common.
fn layers<const N: usize>(source: &Serve, size: usize) -> [Layer; N] {
    std::array::from_fn(|n| Layer::add(source, &noise(size + 64)[n + 1..][..size]))
}

async fn pull(node: &Serve, layer: &Layer) {
    let manifest = get(&node.url(&layer.manifest_path())).await;
    assert_eq!(manifest.status, 200, "{manifest:?}");
    let answer = get(&node.url(&layer.blob_path())).await;
    assert!(answer.status == 200 && answer.body == layer.bytes, "{answer:?}");
}

fn is_here(node: &Serve, layer: &Layer) -> bool {
    node.json(&["layer", "inspect", layer.cid()])["local"].as_bool().expect("a truth")
}

async fn eviction_keeps_the_cache_below_cache_size_and_keeps_pinned_and_added_layers() {
    let source = Serve::start(&[]);
    let layers: [Layer; 20] = layers(&source, 3 * MIB);
    let node = Serve::start(&["--cache-size", "16MiB", "--peer", source.address()]);
    let own = Layer::add(&node, &noise(5 * MIB)[100..]);
    let pinned = node.ask(&["-q", "store", "pin", &layers[0].reference(&node)]);
    assert_eq!(pinned, layers[0].cid());
    for (n, layer) in layers.iter().enumerate() {
        pull(&node, layer).await;
        let cached = node.stored("cached_bytes");
        assert!(cached <= 16 << 20, "{cached} after {n}");
        assert!(n < 6 || cached > 8 << 20, "it is made use of: {cached} after {n}");
    }
    let status = node.status();
    assert_eq!((status["pins"].as_u64(), status["cache_size"].as_u64()), (Some(1), Some(16 << 20)));
    assert!(status["pinned_bytes"].as_u64().unwrap() > 3 << 20, "{status}");
    assert!(status["owned_bytes"].as_u64().unwrap() > 8 << 20, "{status}");
    assert!(!is_here(&node, &layers[1]) && is_here(&node, &layers[19]));
    source.kill();
    for layer in [&own, &layers[0], &layers[19]] {
        pull(&node, layer).await;
    }
    assert_eq!(node.ask(&["store", "ls"]), layers[0].cid());
    node.ask(&["store", "unpin", &layers[0].reference(&node)]);
    node.command(&["store", "unpin", layers[0].cid()]).failed(1, &["is not pinned", "store ls"]);
    assert_eq!(node.status()["pins"], 0);
    assert!(is_here(&node, &own));
}

async fn eviction_is_least_recently_used_even_after_a_restart() {
    let source = Serve::start(&[]);
    let [one, two, three]: [Layer; 3] = layers(&source, 4 * MIB);
    let dir = tempfile::tempdir().unwrap();
    let arguments = ["--cache-size", "10MiB", "--peer", source.address()];
    let node = Serve::start_in(dir.path(), &arguments);
    for layer in [&one, &two, &one] {
        pull(&node, layer).await;
    }
    assert!(node.stop().success());
    let node = Serve::start_in(dir.path(), &arguments);
    pull(&node, &three).await;
    assert_eq!([&one, &two, &three].map(|layer| is_here(&node, layer)), [true, false, true]);
}

async fn a_pull_larger_than_the_cache_is_streamed_through() {
    let source = Serve::start(&[]);
    let [small]: [Layer; 1] = layers(&source, 4 * MIB);
    let large = Layer::add(&source, &noise(96 * MIB));
    let node = Serve::start(&["--cache-size", "8MiB", "--peer", source.address()]);
    pull(&node, &small).await;
    pull(&node, &large).await;
    futures::join!(pull(&node, &large), pull(&node, &large));
    assert!(is_here(&node, &small) && !is_here(&node, &large));
    assert_eq!(node.stored("partial"), 0);
    let part = ask("GET", &node.url(&large.blob_path()), &[("range", "bytes=50000000-90000000")]).await;
    assert!(part.status == 206 && part.body == large.bytes[50_000_000..=90_000_000]);
    // What is to stay is not passed on: it does not belong to the cache.
    node.ask(&["store", "pin", &large.reference(&node)]);
    assert!(is_here(&node, &large));
    assert!(node.stored("cached_bytes") <= 8 << 20);
}

/// The layer of a push: each is pushed twice.
fn pushed_layer(n: usize) -> Vec<u8> {
    noise(2 * MIB + 600)[n / 2..][..2 * MIB].to_vec()
}

async fn garbage_collection_under_load_loses_nothing() {
    let source = Serve::start(&[]);
    let pulled: [Layer; 6] = layers(&source, 2 * MIB);
    let node = Arc::new(Serve::start(&["--cache-size", "7MiB", "--peer", source.address()]));
    let end = Instant::now() + Duration::from_secs(60);
    let pulls = async {
        let mut n = 0;
        while Instant::now() < end {
            futures::join!(pull(&node, &pulled[n % 6]), pull(&node, &pulled[(n * n + 1) % 6]));
            n += 1;
        }
        n
    };
    // Every other image is deleted as soon as it is there, and its layer pushed again with the next.
    let pushes = async {
        let repository = Repository::new(&node, "pushed");
        let mut n = 0;
        while Instant::now() < end && n < 400 {
            let layer = &pushed_layer(n);
            let image = repository.push_image(&format!("v{n}"), layer).await;
            if n % 2 == 0 {
                assert_eq!(repository.delete(&format!("manifests/{image}")).await.status, 202);
            }
            n += 1;
        }
        n
    };
    let adding = node.clone();
    let adds = spawn_blocking(move || {
        let node = adding;
        let mut added = Vec::new();
        while Instant::now() < end && added.len() < 400 {
            let n = added.len();
            // Some twice, so that the second finds what the first may have lost.
            let layer = Layer::add(&node, &noise(MIB + 600)[n / 2..][..MIB]);
            if n % 4 == 1 {
                node.ask(&["layer", "rm", layer.cid()]);
                Layer::add(&node, &noise(MIB + 600)[n / 2..][..MIB]);
            }
            added.push(layer);
        }
        added
    });
    let collecting = node.clone();
    let collections = spawn_blocking(move || {
        let mut n = 0;
        while Instant::now() < end {
            collecting.ask(&["store", "gc"]);
            n += 1;
        }
        n
    });
    let (pulls, pushed, added, collections) = futures::join!(pulls, pushes, adds, collections);
    let (added, collections) = (added.unwrap(), collections.unwrap());
    let counts = [pulls, pushed, added.len(), collections];
    assert!(counts.iter().all(|count| *count > 3), "{counts:?}");
    eprintln!("under collection: {counts:?} pulls, pushes, adds and collections");
    source.kill();
    for layer in &added {
        pull(&node, layer).await;
    }
    let repository = Repository::new(&node, "pushed");
    for n in (1..pushed).step_by(2) {
        repository.has(&pushed_layer(n)).await;
    }
    assert_eq!(node.command(&["store", "verify"]).code, Some(0));
    assert!(!node.log().contains("panicked"), "{}", node.log());
}

async fn store_gc_dry_run_lists_and_store_gc_deletes_unreferenced_data() {
    let source = Serve::start(&[]);
    let [pulled, partial]: [Layer; 2] = layers(&source, 4 * MIB);
    let node = Serve::start(&["--peer", source.address()]);
    let own = Layer::add(&node, &noise(MIB)[7..]);
    pull(&node, &pulled).await;
    let part = ask("GET", &node.url(&partial.blob_path()), &[("range", "bytes=0-9")]).await;
    assert_eq!((part.status, node.stored("partial")), (206, 1));
    // The range's reader may still be seen to.
    crate::harness::until("a collection would take what came in part", || {
        node.json(&["store", "gc", "--dry-run"])["partial"] == 1
    })
    .await;
    assert_eq!(node.stored("partial"), 1);
    let collected = node.json(&["store", "gc"]);
    assert_eq!((&collected["partial"], &collected["blobs"]), (&1.into(), &0.into()), "{collected}");
    assert!(collected["bytes"].as_u64().unwrap() >= MIB as u64, "{collected}");
    assert_eq!(node.stored("partial"), 0);
    let again = node.json(&["store", "gc"]);
    assert_eq!((&again["partial"], &again["blobs"], &again["bytes"]), (&0.into(), &0.into(), &0.into()));
    source.kill();
    pull(&node, &own).await;
    pull(&node, &pulled).await;
}

fn blob_path(node: &Serve, layer: &Layer) -> PathBuf {
    let hex = layer.digest.trim_start_matches("sha256:");
    node.data_dir().join("blobs").join(&hex[..2]).join(hex)
}

async fn store_verify_finds_a_corrupt_blob_and_repairs_it_from_a_peer() {
    let source = Serve::start(&[]);
    let [layer, other]: [Layer; 2] = layers(&source, 5 * MIB);
    let node = Serve::start(&["--find-timeout", "3s", "--peer", source.address()]);
    for layer in [&layer, &other] {
        pull(&node, layer).await;
    }
    assert_eq!(node.command(&["store", "verify"]).code, Some(0));
    let flip = || {
        let file = fs::File::options().read(true).write(true).open(blob_path(&node, &layer)).unwrap();
        file.write_all_at(&[!layer.bytes[3 * MIB]], 3 * MIB as u64).unwrap();
    };
    flip();
    let said = node.command(&["store", "verify"]);
    said.failed(1, &["1 blobs or blocks are damaged", "--repair"]);
    assert!(said.stdout.contains(&layer.digest) && said.stdout.contains("at 3145728"), "{said:?}");
    assert!(!said.stdout.contains(&other.digest), "{said:?}");
    let said = node.command(&["store", "verify", "--repair"]);
    assert!(said.code == Some(0) && said.stdout.contains("repaired"), "{said:?}");
    assert_eq!(node.command(&["store", "verify"]).code, Some(0));
    pull(&node, &layer).await;
    fs::remove_file(blob_path(&node, &other)).unwrap();
    let said = node.command(&["store", "verify", "--repair"]);
    assert!(said.code == Some(0) && said.stdout.contains("missing"), "{said:?}");
    pull(&node, &other).await;
    source.kill();
    flip();
    let said = node.command(&["store", "verify", "--repair"]);
    said.failed(1, &["damaged", "swarm connect"]);
    assert!(said.stdout.contains("no peer gave it"), "{said:?}");
}

async fn beyond_the_max_size_quota_add_and_push_fail_and_a_pull_is_streamed_through() {
    let source = Serve::start(&[]);
    let [small]: [Layer; 1] = layers(&source, 4 * MIB);
    let large = Layer::add(&source, &noise(64 * MIB));
    let node = Serve::start(&["--max-size", "16MiB", "--peer", source.address()]);
    let own = Layer::add(&node, &noise(6 * MIB)[9..]);
    pull(&node, &small).await;
    let path = tar_of(source.data_dir(), "new.tar", &noise(20 * MIB)[1..]);
    let path = path.to_str().unwrap();
    for _ in 0..2 {
        let said = node.command(&["layer", "add", path]);
        said.failed(1, &["the limit set by --max-size is 16.00 MiB", "hint: remove pushed images"]);
        pull(&node, &large).await;
        let used = node.stored("used_bytes");
        assert!(used <= 16 << 20, "{used}");
    }
    assert!(is_here(&node, &own) && !is_here(&node, &large));
    let said = node.command(&["store", "pin", &large.reference(&node)]);
    said.failed(1, &["the limit set by --max-size", "store gc"]);
    let pushed = Repository::new(&node, "pushed");
    let too_much = noise(20 * MIB);
    let digest = ocipfs_oci::Digest::sha256_of(&too_much).to_string();
    let end = pushed.end(&pushed.begin().await, &digest, &too_much).await;
    end.refused(403, "DENIED", &["the limit set by --max-size is 16.00 MiB"]);
    pushed.get(&format!("blobs/{digest}")).await.refused(404, "NAME_UNKNOWN", &[]);
    let fits = tar_of(source.data_dir(), "fits.tar", &noise(8 * MIB)[2..]);
    assert_eq!(
        node.command(&["layer", "add", fits.to_str().unwrap()]).code,
        Some(0),
        "cached content is evicted"
    );
    // Nothing more can be kept, and everything can be read.
    for layer in [&small, &large, &own] {
        pull(&node, layer).await;
    }
    assert!(node.stored("used_bytes") <= 16 << 20);
}

async fn sizes_are_parsed_with_units() {
    let dir = tempfile::tempdir().unwrap();
    let said = crate::harness::finish(ocipfs(dir.path()).args(["serve", "--cache-size", "much"]));
    said.failed(2, &["--cache-size", "much"]);
    fs::write(
        dir.path().join("config.toml"),
        "cache-size = \"1.5GiB\"\nswarm-listen = [\"/ip4/127.0.0.1/tcp/0\"]",
    )
    .unwrap();
    let node = Serve::start_in(dir.path(), &["--max-size", "2GiB"]);
    let status = node.status();
    assert_eq!(status["cache_size"].as_u64(), Some(3 << 29));
    assert_eq!(status["max_size"].as_u64(), Some(2 << 30));
}
