//! Bundles that are truncated, damaged, reordered, or of another swarm: nothing of them is half visible.

use std::fs;

use libtest_mimic::Trial;
use ocipfs_oci::Digest;

use super::{Source, document, first_document, import, layer};
use crate::{
    harness::{Said, Serve, ocipfs, trials},
    http::get,
};

pub fn trials() -> Vec<Trial> {
    trials![
        a_truncated_or_damaged_bundle_is_told_and_completed_by_its_want_list,
        a_reordered_bundle_is_rejected,
        files_that_are_not_bundles_are_rejected,
        a_bundle_of_another_private_swarm_is_rejected,
    ]
}

/// Returns where a layer begins in a bundle.
fn position(bundle: &[u8], bytes: &[u8]) -> usize {
    bundle.windows(64).position(|window| *window == bytes[..64]).expect("the layer")
}

#[track_caller]
fn is_told(said: &Said, text: &str) {
    assert_eq!(said.code, Some(1), "{said:?}");
    let problems = first_document(said)["problems"].to_string();
    assert!(problems.contains(text), "{text}: {problems}");
}

async fn tags(node: &Serve, name: &str) -> u16 {
    get(&node.url(&format!("/v2/{name}/tags/list"))).await.status
}

async fn a_truncated_or_damaged_bundle_is_told_and_completed_by_its_want_list() {
    let source = Source::start(&[100_000, 3 << 20]).await;
    let (path, _) = source.export("a.car", &["team/*"]);
    let whole = fs::read(&path).unwrap();
    let layer = layer(1, 3 << 20);
    let large = position(&whole, &layer);
    // The signature has the same blocks, and a block of one file is taken for the other.
    let again = large + 1 + position(&whole[large + 1..], &layer);
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        [large, again].iter().for_each(|file| bytes[file + at] ^= 4);
        bytes
    };
    for (bytes, told) in [
        (whole[..large + 700_000].to_vec(), "within"),
        (flipped(1_500_000), "damaged"),
        // The CID of the next block, and the length before it.
        (flipped((1 << 20) + 10), "damaged"),
        (flipped((1 << 20) + 1), "at byte"),
    ] {
        let target = Serve::start(&[]);
        let (bad, want) = (target.data_dir().join("bad.car"), target.data_dir().join("bad.car.want.json"));
        fs::write(&bad, bytes).unwrap();
        is_told(&import(target.data_dir(), &[&bad.display().to_string()]), told);
        assert_eq!(tags(&target, "team/app1").await, 404, "{told}");
        let want = want.display().to_string();
        let missing = format!("{}-{}", told, target.registry().rsplit(':').next().unwrap());
        let (missing, _) = source.export(&missing, &["--want", &want]);
        document(&import(target.data_dir(), &[&missing]));
        source.is_served_by(&target).await;
    }
    // All blobs are there, but not what says so.
    let target = Serve::start(&[]);
    let bad = target.data_dir().join("bad.car");
    fs::write(&bad, &whole[..whole.len() - 20]).unwrap();
    let imported = document(&import(target.data_dir(), &[&bad.display().to_string()]));
    assert!(imported["problems"].to_string().contains("within"), "{imported}");
    source.is_served_by(&target).await;
}

async fn a_reordered_bundle_is_rejected() {
    let source = Source::start(&[3 << 20]).await;
    let (path, _) = source.export("a.car", &["team/*"]);
    let whole = fs::read(&path).unwrap();
    // A leaf of 1 MiB with its head, 3 and 36 bytes, to the end.
    const LEAF: usize = (1 << 20) + 39;
    let at = position(&whole, &layer(0, 3 << 20)) - 39;
    let node = {
        // The node above the leaves, which is before them.
        let before = &whole[..at];
        before.windows(4).rposition(|window| window == [1, 0x70, 0x12, 0x20]).expect("its CID")
    };
    let length = if whole[node - 2] & 0x80 != 0 { node - 2 } else { node - 1 };
    let reordered =
        [&whole[..length], &whole[at..at + LEAF], &whole[length..at], &whole[at + LEAF..]].concat();
    let target = Serve::start(&[]);
    let bad = target.data_dir().join("bad.car").display().to_string();
    fs::write(&bad, reordered).unwrap();
    is_told(&import(target.data_dir(), &[&bad]), "does not belong");
    assert_eq!(tags(&target, "team/app0").await, 404);
    // Its manifest is not the first block.
    let (header, second) = (whole[0] as usize + 1, 3 + 36);
    let bytes = [&whole[..header], &whole[at..at + second + (1 << 20)], &whole[header..]].concat();
    fs::write(&bad, bytes).unwrap();
    let said = target.command(&["bundle", "import", &bad]);
    said.failed(1, &["is not a bundle"]);
    // The leaves of a file in another order are put right.
    let swapped =
        [&whole[..at], &whole[at + LEAF..at + 2 * LEAF], &whole[at..at + LEAF], &whole[at + 2 * LEAF..]]
            .concat();
    fs::write(&bad, swapped).unwrap();
    document(&import(target.data_dir(), &[&bad]));
    source.is_served_by(&target).await;
}

async fn files_that_are_not_bundles_are_rejected() {
    let source = Source::start(&[100_000]).await;
    let (path, _) = source.export("a.car", &["team/*"]);
    let whole = fs::read(&path).unwrap();
    let target = Serve::start(&[]);
    let bad = target.data_dir().join("bad.car").display().to_string();
    let v2 = whole.windows(20).position(|window| window == b"bundle.manifest.v1+j").unwrap();
    let later = {
        let mut bytes = whole.clone();
        bytes[v2 + 17] = b'2';
        bytes
    };
    for (bytes, told) in [
        (&b""[..], "is not a bundle"),
        (&b"no CAR"[..], "is not a bundle"),
        (&whole[..20], "is not a bundle"),
        (&whole[..200], "manifest of"),
        (&later, "does not match its CID"),
    ] {
        fs::write(&bad, bytes).unwrap();
        for command in [&["bundle", "import", &bad][..], &["bundle", "inspect", &bad]] {
            target.command(command).failed(1, &[told]);
        }
    }
    target.command(&["bundle", "import", "/nowhere.car"]).failed(1, &["cannot read /nowhere.car"]);
    target.command(&["bundle", "import", "-", "-"]).failed(2, &["only once"]);
    let list = target.data_dir().join("list").display().to_string();
    fs::write(&list, "1234").unwrap();
    target.command(&["bundle", "export", &bad, "--want", &list]).failed(1, &["is not a want-list"]);
    target
        .command(&["bundle", "export", "x.car", "team/*", "--since", &list])
        .failed(1, &["is not a bundle"]);
    let digest = Digest::sha256_of(b"nothing");
    let nothing = format!("team/app@{digest}");
    target.command(&["bundle", "export", "x.car", &nothing]).failed(1, &["not found"]);
}

async fn a_bundle_of_another_private_swarm_is_rejected() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let key = |at: usize| {
        let path = dirs[at].path().join("swarm.key").display().to_string();
        let said = crate::harness::finish(ocipfs(dirs[at].path()).args(["swarm", "key"]));
        fs::write(&path, said.stdout).unwrap();
        path
    };
    let (ours, theirs) = (key(0), key(1));
    let node = |at: usize, key: &str| Serve::start_in(dirs[at].path(), &["--swarm-key", key]);
    let source = node(0, &ours);
    crate::push::Repository::new(&source, "app").push_image("1", b"secret").await;
    let path = dirs[0].path().join("a.car").display().to_string();
    source.ask(&["bundle", "export", &path, "app:1"]);
    let public = Serve::start(&[]);
    for target in [&node(1, &theirs), &public] {
        target.command(&["bundle", "import", &path]).failed(1, &["another private swarm", "--other-swarm"]);
        assert_eq!(tags(target, "app").await, 404);
    }
    public.ask(&["bundle", "import", "--other-swarm", &path]);
    assert_eq!(tags(&public, "app").await, 200);
    let member = node(2, &ours);
    member.ask(&["bundle", "import", &path]);
    assert_eq!(tags(&member, "app").await, 200);
}
