//! Removal of content: what is removed together, when, and what earlier versions left behind.

use std::time::Duration;

use ocipfs_oci::{Manifest, media_type};

use super::*;
use crate::{
    content::{BlobWriter, Profile, Store},
    images::repository::tables,
};

const A: &str = "a";

fn put(edit: &Edit, n: u8, subject: Option<u8>, tags: &[&str], references: &[u8]) -> Result<(), StoreError> {
    let subject = subject.map(|n| blob(n).digest);
    let referrer = Descriptor::new(media_type::OCI_MANIFEST.parse().unwrap(), blob(n).digest, 1);
    let told = subject.is_some().then_some(&referrer);
    let tags: Vec<Tag> = tags.iter().map(|text| tag(text)).collect();
    let references: Vec<Digest> = references.iter().map(|n| blob(*n).digest).collect();
    edit.put_manifest(&name(A), &pushed(n, subject), &tags, told, &references)
}

fn manifests(repositories: &Repositories) -> Vec<Digest> {
    let mut all: Vec<Digest> =
        repositories.manifests(&name(A), "", 99).unwrap().into_iter().map(|one| one.blob.digest).collect();
    all.sort();
    all
}

fn digests<const N: usize>(of: [u8; N]) -> Vec<Digest> {
    let mut all: Vec<Digest> = of.iter().map(|n| blob(*n).digest).collect();
    all.sort();
    all
}

fn blob_count(repositories: &Repositories) -> usize {
    repositories.blobs(&name(A), "", 99).unwrap().len()
}

fn swept(repositories: &Repositories, sweep: &Sweep) -> Vec<Removed> {
    let mut removed = Vec::new();
    repositories.sweep(sweep, false, |one| removed.push(one)).unwrap();
    removed
}

fn at<T: Send + 'static>(
    repositories: &Repositories,
    now: u64,
    with: impl FnMut(&Edit) -> Result<T, StoreError> + Send + 'static,
) -> T {
    repositories.edit_at(move || now, with).unwrap()
}

#[test]
fn deleting_a_manifest_releases_its_unreferenced_blobs() {
    let (_dir, repositories) = repositories();
    at(&repositories, 0, |edit| {
        (10..13).try_for_each(|n| edit.add_blob(&name(A), &blob(n)))?;
        put(edit, 1, None, &["x"], &[10, 11])?;
        put(edit, 2, None, &["y"], &[11, 12])
    });
    let mut freed = repositories.freed();
    freed.mark_unchanged();
    at(&repositories, 0, |edit| edit.remove_manifest(&name(A), &blob(1).digest));
    assert!(freed.has_changed().unwrap(), "the bytes are collected soon");
    assert_eq!(blob_count(&repositories), 2);
    assert!(!is_retained(&repositories, blob(10).root) && is_retained(&repositories, blob(11).root));
    at(&repositories, 0, |edit| edit.remove_manifest(&name(A), &blob(2).digest));
    assert_eq!(blob_count(&repositories), 0);
    assert!(!repositories.has(&name(A)).unwrap());
}

#[test]
fn removing_an_index_removes_its_manifests_and_their_referrers() {
    let (_dir, repositories) = repositories();
    at(&repositories, 0, |edit| {
        (10..13).try_for_each(|n| edit.add_blob(&name(A), &blob(n)))?;
        put(edit, 1, None, &[], &[10])?;
        put(edit, 2, None, &["own"], &[11])?;
        put(edit, 3, Some(1), &[], &[12])?;
        put(edit, 4, Some(3), &[], &[])?;
        put(edit, 5, Some(1), &["signature"], &[])?;
        put(edit, 9, None, &["index"], &[1, 2])
    });
    let image = tag("index");
    at(&repositories, 0, |edit| edit.remove_manifest(&name(A), &blob(9).digest));
    // A tag keeps the signature, and that its subject.
    assert_eq!(manifests(&repositories), digests([1, 2, 3, 4, 5]));
    at(&repositories, 0, |edit| edit.remove_tag(&name(A), &tag("signature")));
    at(&repositories, 0, |edit| edit.remove_manifest(&name(A), &blob(1).digest));
    assert_eq!(manifests(&repositories), digests([2, 5]), "one that lost its tag has an age of its own");
    assert_eq!(blob_count(&repositories), 1);
    assert_eq!(repositories.tag(&name(A), &image).unwrap(), None);
}

#[test]
fn an_index_whose_subject_is_one_of_its_manifests_is_garbage_collected() {
    let (_dir, repositories) = repositories();
    let put_index = |n: u8, subject: Option<u8>, child: u8| {
        at(&repositories, 0, move |edit| {
            let media_type = MediaType::from_static(media_type::OCI_INDEX);
            let index = Pushed { media_type, ..pushed(n, subject.map(|n| blob(n).digest)) };
            let referrer = Descriptor::new(index.media_type.clone(), blob(n).digest, 1);
            let told = subject.is_some().then_some(&referrer);
            edit.put_manifest(&name(A), &index, &[], told, &[blob(child).digest])
        });
    };
    put_index(1, Some(0), 0);
    at(&repositories, 0, |edit| put(edit, 0, None, &[], &[]));
    put_index(5, None, 1);
    assert_eq!(swept(&repositories, &Sweep::untagged(&RetentionPolicy::default(), 9)).len(), 3);
    // Both have a subject, and one of them is young whenever the other is looked at.
    let policy = RetentionPolicy { keep_untagged: Duration::from_secs(40), ..RetentionPolicy::default() };
    put_index(2, Some(0), 9);
    put_index(3, Some(2), 2);
    let removed = [4000, 4040, 4080].map(|now| swept(&repositories, &Sweep::due(&policy, now)).len());
    assert_eq!(removed, [2, 0, 0]);
}

#[test]
fn an_untagged_manifest_is_kept_for_the_keep_untagged_period() {
    let (_dir, repositories) = repositories();
    let policy = RetentionPolicy { keep_untagged: Duration::from_secs(100), ..RetentionPolicy::default() };
    at(&repositories, 1000, |edit| {
        edit.add_blob(&name(A), &blob(10))?;
        put(edit, 1, None, &["latest"], &[10])
    });
    at(&repositories, 2000, |edit| put(edit, 2, None, &["latest"], &[]));
    assert_eq!(swept(&repositories, &Sweep::due(&policy, 2099)), []);
    assert!(repositories.untagged_since(&name(A), &blob(1).digest).unwrap() == Some(2000));
    let kinds: Vec<RemovedKind> =
        swept(&repositories, &Sweep::due(&policy, 2100)).into_iter().map(|one| one.kind).collect();
    assert_eq!(kinds, [RemovedKind::Manifest, RemovedKind::Blob]);
    assert_eq!(manifests(&repositories), digests([2]));
}

#[test]
fn the_upload_grace_period_keeps_unreferenced_blobs_and_is_renewed() {
    let (_dir, repositories) = repositories();
    let policy = RetentionPolicy { upload_grace: Duration::from_secs(100), ..RetentionPolicy::default() };
    at(&repositories, 1000, |edit| (10..13).try_for_each(|n| edit.add_blob(&name(A), &blob(n))));
    at(&repositories, 1000, |edit| put(edit, 1, None, &["x"], &[12]));
    at(&repositories, 1050, |edit| edit.renew_blob(&name(A), &blob(11).digest));
    assert_eq!(swept(&repositories, &Sweep::due(&policy, 1099)), []);
    assert_eq!(swept(&repositories, &Sweep::due(&policy, 1100)).len(), 1);
    assert_eq!(repositories.blob(&name(A), &blob(10).digest).unwrap(), None);
    assert_eq!(swept(&repositories, &Sweep::due(&policy, 1150)).len(), 1);
    assert_eq!(swept(&repositories, &Sweep::due(&policy, 9999)).len(), 0, "what is referenced stays");
}

#[test]
fn the_oldest_untagged_manifests_are_removed_to_free_the_needed_space() {
    let (_dir, repositories) = repositories();
    for n in 0..4 {
        at(&repositories, 1000 + u64::from(n), move |edit| {
            let large = RepositoryBlob { size: 100, ..blob(10 + n) };
            edit.add_blob(&name(A), &large)?;
            put(edit, n, None, &["latest"], &[10 + n])
        });
    }
    let policy = RetentionPolicy::default();
    let removed = swept(&repositories, &Sweep::room(&policy, 1003, 150));
    assert_eq!(removed.len(), 4, "{removed:?}");
    assert_eq!(manifests(&repositories), digests([2, 3]));
    swept(&repositories, &Sweep::room(&policy, 1003, 1 << 40));
    assert_eq!(manifests(&repositories), digests([3]), "what a tag points at stays");
    at(&repositories, 1003, |edit| put(edit, 7, None, &[], &[]));
    assert_eq!(swept(&repositories, &Sweep::room(&policy, 1004, 1)), [], "it may wait for its index");
}

#[test]
fn a_retention_rule_keeps_the_newest_tags_and_signatures_with_their_images() {
    let (_dir, repositories) = repositories();
    let policy = RetentionPolicy { retention: vec!["a=2".parse().unwrap()], ..RetentionPolicy::default() };
    for n in 0..4 {
        at(&repositories, 1000 + u64::from(n), move |edit| {
            put(edit, n, None, &[&format!("v{n}")], &[])?;
            let signature = format!("{}.sig", blob(n).digest.to_string().replace(':', "-"));
            put(edit, 10 + n, None, &[&signature], &[])
        });
    }
    let tags = || repositories.tags(&name(A), "", 99).unwrap();
    let removed = swept(&repositories, &Sweep::due(&policy, 1010).only(Some(name("b"))));
    assert_eq!(removed, []);
    let removed = swept(&repositories, &Sweep::due(&policy, 1010));
    let names: Vec<RemovedKind> = removed.into_iter().map(|one| one.kind).collect();
    assert_eq!(names, [RemovedKind::Tag("v1".into()), RemovedKind::Tag("v0".into())]);
    swept(&repositories, &Sweep::untagged(&policy, 1010));
    swept(&repositories, &Sweep::untagged(&policy, 1010));
    assert_eq!(tags().len(), 4, "two images and their signatures: {:?}", tags());
    assert_eq!(manifests(&repositories), digests([2, 3, 12, 13]));
}

#[test]
fn removing_a_tagged_image_releases_it_unless_another_tag_keeps_it() {
    let (_dir, repositories) = repositories();
    at(&repositories, 0, |edit| {
        edit.add_blob(&name(A), &blob(10))?;
        put(edit, 1, None, &["x", "y"], &[10])
    });
    assert!(at(&repositories, 0, |edit| edit.remove_image(&name(A), &tag("x"))));
    assert_eq!((manifests(&repositories).len(), blob_count(&repositories)), (1, 1));
    assert!(at(&repositories, 0, |edit| edit.remove_image(&name(A), &tag("y"))));
    assert_eq!((manifests(&repositories).len(), blob_count(&repositories)), (0, 0));
    assert!(!at(&repositories, 0, |edit| edit.remove_image(&name(A), &tag("y"))));
}

#[test]
fn a_whole_repository_is_removed_in_batches() {
    let (_dir, repositories) = repositories();
    at(&repositories, 0, |edit| {
        (10..20).try_for_each(|n| edit.add_blob(&name(A), &blob(n)))?;
        (0..5).try_for_each(|n| put(edit, n, None, &[&format!("t{n}")], &[10 + n]))
    });
    let step = || at(&repositories, 0, |edit| edit.remove_some(&name(A), 2));
    while step() {}
    assert!(
        !repositories.has_any(&name(A)).unwrap() && repositories.tags(&name(A), "", 9).unwrap().is_empty()
    );
    assert!((0..20).all(|n| !is_retained(&repositories, blob(n).root)));
}

#[test]
fn repository_rows_of_an_earlier_version_are_upgraded_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let stored = |bytes: &[u8]| {
        let mut put = BlobWriter::new(&store, Profile::UnixfsV1).unwrap();
        put.write(bytes::Bytes::copy_from_slice(bytes)).unwrap();
        let (stored, root) = put.store().unwrap();
        RepositoryBlob { digest: stored.digest, size: stored.size, root: root.cid }
    };
    let [config, layer, left_over] = [b"config", b"layer.", b"orphan"].map(|bytes| stored(bytes));
    let descriptor = |blob: &RepositoryBlob| {
        Descriptor::new(media_type::OCI_LAYER_TAR.parse().unwrap(), blob.digest.clone(), blob.size)
    };
    let json = Manifest::new(descriptor(&config), vec![descriptor(&layer)]);
    let image = Pushed { blob: stored(&serde_json::to_vec(&json).unwrap()), ..pushed(1, None) };
    let untagged = Pushed { blob: stored(b"{}"), ..pushed(2, None) };
    let before = Repositories::new(store.database());
    let (blobs, all) = ([config, layer.clone(), left_over.clone()], [image.clone(), untagged.clone()]);
    at(&before, 0, move |edit| {
        blobs.iter().try_for_each(|blob| edit.add_blob(&name(A), blob))?;
        edit.put_manifest(&name(A), &all[0], &[tag("x")], None, &[])?;
        edit.put_manifest(&name("b"), &all[1], &[], None, &[])?;
        edit.add_blob(&name("b"), &blobs[2])
    });
    store.database().write(tables::forget_new).unwrap();
    for _ in 0..2 {
        let after = Repositories::open(&store).unwrap();
        assert!(after.unreferenced_since(&name(A), &layer.digest).unwrap().is_none());
        assert!(after.unreferenced_since(&name(A), &left_over.digest).unwrap().is_some());
        // Its manifest cannot be understood, so it may reference anything.
        assert!(after.unreferenced_since(&name("b"), &left_over.digest).unwrap().is_none());
        assert!(after.untagged_since(&name("b"), &untagged.blob.digest).unwrap().is_some());
        assert_eq!(after.tagged_at(&name(A), &tag("x"), &image.blob.digest).unwrap(), Some(image.at));
    }
    let after = Repositories::open(&store).unwrap();
    at(&after, 9, move |edit| edit.remove_manifest(&name(A), &image.blob.digest));
    assert_eq!(after.blobs(&name(A), "", 9).unwrap(), [left_over]);
}
