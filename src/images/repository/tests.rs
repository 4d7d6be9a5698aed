mod histories;
mod removal;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering},
};

use multihash_codetable::{Code, MultihashDigest};
use ocipfs_oci::{Algorithm, Descriptor, Hasher, Tag};
use proptest::{collection::vec, prelude::*, sample::select};
use redb::WriteTransaction;
use tempfile::TempDir;

use super::*;
use crate::content::{counting, counting_reads};

fn repositories() -> (TempDir, Repositories) {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::open(&dir.path().join("index.redb")).unwrap();
    (dir, Repositories::new(Arc::new(database)))
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

fn blob_of(n: u8, algorithm: Algorithm) -> RepositoryBlob {
    let mut hasher = Hasher::new(algorithm);
    hasher.update(&[n]);
    RepositoryBlob { digest: hasher.finish(), size: 1, root: Cid::new_v1(0x55, Code::Sha2_256.digest(&[n])) }
}

fn blob(n: u8) -> RepositoryBlob {
    blob_of(n, Algorithm::Sha256)
}

fn pushed(n: u8, subject: Option<Digest>) -> Pushed {
    let media_type = MediaType::from_static(ocipfs_oci::media_type::OCI_MANIFEST);
    Pushed { blob: blob(n), media_type, subject, artifact_type: None, at: 7 }
}

/// Whether a GC root retains the bytes.
fn is_retained(repositories: &Repositories, root: Cid) -> bool {
    let free = |write: &WriteTransaction| crate::content::release_root(write, "unknown", &root);
    !repositories.database().write(free).unwrap()
}

#[test]
fn push_and_delete_change_a_single_repository() {
    let (_dir, repositories) = repositories();
    let (a, b) = (name("a"), name("a/b"));
    assert!(!repositories.has(&a).unwrap() && repositories.names("", 9).unwrap().is_empty());
    for name in [a.clone(), b.clone()] {
        repositories.edit(move |edit| edit.add_blob(&name, &blob(1))).unwrap();
    }
    assert!(repositories.names("", 9).unwrap().is_empty(), "a repository needs more than blobs");
    for name in [a.clone(), b.clone()] {
        repositories.edit(move |edit| edit.put_manifest(&name, &pushed(2, None), &[], None, &[])).unwrap();
    }
    assert_eq!(repositories.names("", 9).unwrap(), [a.clone(), b.clone()]);
    assert_eq!(repositories.count().unwrap(), 2);
    assert_eq!(repositories.names("a", 9).unwrap(), std::slice::from_ref(&b));
    let delete = a.clone();
    assert!(repositories.edit(move |edit| edit.remove_manifest(&delete, &blob(2).digest)).unwrap());
    let remove =
        |name: Name| repositories.edit(move |edit| edit.remove_blob(&name, &blob(1).digest)).unwrap();
    assert!(remove(a.clone()) && !remove(a.clone()));
    assert!(!repositories.has(&a).unwrap(), "nothing is left of it");
    assert_eq!(repositories.blob(&b, &blob(1).digest).unwrap(), Some(blob(1)));
    assert!(is_retained(&repositories, blob(1).root));
    assert!(remove(b) && !is_retained(&repositories, blob(1).root));
}

#[test]
fn two_digests_of_the_same_bytes_each_retain_the_blob() {
    let (_dir, repositories) = repositories();
    let (a, other) = (name("a"), blob_of(1, Algorithm::Sha512));
    let both = [blob(1), other.clone()];
    repositories.edit(move |edit| both.iter().try_for_each(|blob| edit.add_blob(&name("a"), blob))).unwrap();
    repositories.edit(|edit| edit.put_manifest(&name("a"), &pushed(1, None), &[], None, &[])).unwrap();
    for digest in [other.digest, blob(1).digest] {
        assert!(is_retained(&repositories, blob(1).root));
        repositories.edit(move |edit| edit.remove_blob(&name("a"), &digest)).unwrap();
    }
    assert!(is_retained(&repositories, blob(1).root));
    repositories.edit(|edit| edit.remove_manifest(&name("a"), &blob(1).digest)).unwrap();
    assert!(!is_retained(&repositories, blob(1).root) && !repositories.has(&a).unwrap());
}

#[test]
fn a_repeated_push_with_another_root_retains_and_publishes_the_new_root() {
    let (_dir, repositories) = repositories();
    let [blob_again, manifest_again] = [1, 2].map(|n| RepositoryBlob { root: blob(n + 10).root, ..blob(n) });
    let (first, again) = ([blob(1), blob(2)], [blob_again.clone(), manifest_again.clone()]);
    for [blob, manifest] in [first, again] {
        repositories.database().write(|write| settle(write, u64::MAX)).unwrap();
        let manifest = Pushed { blob: manifest, ..pushed(2, None) };
        repositories
            .edit(move |edit| {
                edit.add_blob(&name("a"), &blob)?;
                edit.put_manifest(&name("a"), &manifest, &[], None, &[])
            })
            .unwrap();
    }
    assert!(is_retained(&repositories, blob_again.root) && is_retained(&repositories, manifest_again.root));
    assert!(!is_retained(&repositories, blob(1).root) && !is_retained(&repositories, blob(2).root));
    let roots: Vec<Cid> = changes(&repositories, 9)
        .unwrap()
        .into_iter()
        .filter_map(|(_, change)| match change.item {
            ChangedItem::Blob { blob, .. } | ChangedItem::Manifest { blob, .. } => Some(blob.root),
            ChangedItem::Entry(_) | ChangedItem::Everything => None,
        })
        .collect();
    assert_eq!(roots, [blob_again.root, manifest_again.root]);
    repositories.edit(|edit| edit.remove_manifest(&name("a"), &blob(2).digest)).unwrap();
    repositories.edit(|edit| edit.remove_blob(&name("a"), &blob(1).digest)).unwrap();
    assert!(!is_retained(&repositories, blob_again.root) && !is_retained(&repositories, manifest_again.root));
}

#[test]
fn deleting_a_manifest_deletes_its_tags_and_its_referrers_entry() {
    let (_dir, repositories) = repositories();
    let a = name("a");
    let subject = blob(9).digest;
    let referrer = pushed(1, Some(subject.clone()));
    let descriptor = Descriptor::new(referrer.media_type.clone(), referrer.blob.digest.clone(), 1);
    let told = descriptor.clone();
    repositories
        .edit(move |edit| {
            edit.put_manifest(&name("a"), &referrer, &[tag("x"), tag("y")], Some(&told), &[])?;
            edit.put_manifest(&name("a"), &pushed(2, None), &[tag("z")], None, &[])
        })
        .unwrap();
    assert_eq!(repositories.referrers(&a, &subject, "", 9).unwrap(), [descriptor]);
    assert_eq!(repositories.tag(&a, &tag("x")).unwrap(), Some(blob(1).digest));
    assert_eq!(repositories.manifest(&a, &blob(2).digest).unwrap(), Some(pushed(2, None)));
    repositories.edit(|edit| edit.remove_manifest(&name("a"), &blob(1).digest)).unwrap();
    assert_eq!(repositories.tags(&a, "", 9).unwrap(), [(tag("z"), blob(2).digest)]);
    assert_eq!(repositories.referrers(&a, &subject, "", 9).unwrap(), []);
    assert!(repositories.edit(|edit| edit.remove_tag(&name("a"), &tag("z"))).unwrap());
    assert_eq!(repositories.manifests(&a, "", 9).unwrap(), [pushed(2, None)]);
}

#[test]
fn repository_changes_are_deduplicated_and_removed_once_settled() {
    let (_dir, repositories) = repositories();
    let mut watch = repositories.changed();
    watch.mark_unchanged();
    for added in [true, false, true] {
        repositories
            .edit(move |edit| match added {
                true => edit.add_blob(&name("a"), &blob(1)),
                false => edit.remove_blob(&name("a"), &blob(1).digest).map(drop),
            })
            .unwrap();
    }
    assert!(watch.has_changed().unwrap());
    let change = |item| Change { repository: name("a"), item };
    let came = change(ChangedItem::Blob { blob: blob(1), added: true });
    assert_eq!(changes(&repositories, 9).unwrap(), [(3, came)]);
    repositories
        .edit(|edit| edit.put_manifest(&name("a"), &pushed(2, None), &[tag("x")], None, &[]))
        .unwrap();
    repositories.database().write(|write| settle(write, 4)).unwrap();
    // The blobs that came before its first manifest are published with that.
    assert_eq!(changes(&repositories, 9).unwrap(), [(7, change(ChangedItem::Everything))]);
    repositories.database().write(|write| settle(write, 7)).unwrap();
    assert_eq!(changes(&repositories, 9).unwrap(), []);
    repositories.edit(|edit| edit.remove_tag(&name("a"), &tag("x"))).unwrap();
    let entries = [blob(2).digest.to_string(), "x".into()].map(|text| change(ChangedItem::Entry(text)));
    let numbered: Vec<_> = (8..).zip(entries).collect();
    assert_eq!(changes(&repositories, 9).unwrap(), numbered, "numbers never go back");
}

#[test]
fn a_tag_change_recorded_by_an_earlier_version_republishes_the_whole_repository() {
    let (_dir, repositories) = repositories();
    repositories.edit(|edit| edit.put_manifest(&name("a"), &pushed(1, None), &[], None, &[])).unwrap();
    let before = |write: &redb::WriteTransaction| {
        settle(write, u64::MAX)?;
        write.open_table(tables::CHANGES)?.insert(7, ("a", b't', true, "", 0, [].as_slice()))?;
        write.open_table(tables::LAST_CHANGES)?.insert("a\0t\0", 7)?;
        write.open_table(tables::NEXT_CHANGE)?.insert((), 8)?;
        Ok(())
    };
    repositories.database().write(before).unwrap();
    let everything = Change { repository: name("a"), item: ChangedItem::Everything };
    assert_eq!(changes(&repositories, 9).unwrap(), [(7, everything)]);
    assert!(repositories.changed_entries(&name("a"), 6).unwrap().is_none());
    assert_eq!(repositories.changed_entries(&name("a"), 7).unwrap().unwrap().entries, []);
    repositories.database().write(|write| settle(write, 7)).unwrap();
    assert_eq!(changes(&repositories, 9).unwrap(), []);
}

#[test]
fn too_many_changes_are_merged_into_one_per_repository() {
    let (_dir, repositories) = repositories();
    for n in 0..50 {
        let of = if n % 2 == 0 { "a" } else { "b" };
        repositories.edit(move |edit| edit.add_blob(&name(of), &blob(n))).unwrap();
    }
    let changes = changes(&repositories, 99).unwrap();
    let everything = |of| Change { repository: name(of), item: ChangedItem::Everything };
    assert_eq!([&changes[0].1, &changes[1].1], [&everything("a"), &everything("b")]);
    assert!(changes.len() < 40 && changes.is_sorted_by_key(|(number, _)| *number), "{changes:?}");
}

#[test]
fn concurrent_edits_are_all_committed_and_a_failed_one_affects_no_other() {
    let (_dir, repositories) = repositories();
    std::thread::scope(|scope| {
        for n in 0..32 {
            let repositories = repositories.clone();
            scope.spawn(move || {
                let done = repositories.edit(move |edit| {
                    edit.add_blob(&name("a"), &blob(n))?;
                    if n % 8 == 0 { Err(StoreError::Gone(blob(n).digest)) } else { Ok(n) }
                });
                assert_eq!(done.ok(), (n % 8 != 0).then_some(n));
            });
        }
    });
    assert_eq!(repositories.blobs(&name("a"), "", 99).unwrap().len(), 28);
}

#[derive(Clone, Debug)]
enum Op {
    Add(u8),
    Remove(u8),
    Put(u8, Vec<u8>),
    Untag(u8),
    Delete(u8),
}

fn op() -> impl Strategy<Value = Op> {
    let n = 0..4u8;
    prop_oneof![
        n.clone().prop_map(Op::Add),
        n.clone().prop_map(Op::Remove),
        (n.clone(), vec(0..3u8, 0..3)).prop_map(|(n, tags)| Op::Put(n, tags)),
        (0..3u8).prop_map(Op::Untag),
        n.prop_map(Op::Delete),
    ]
}

#[derive(Default)]
struct Model {
    blobs: BTreeSet<u8>,
    manifests: BTreeSet<u8>,
    tags: BTreeMap<String, u8>,
}

impl Model {
    fn apply(&mut self, op: &Op) {
        match op {
            Op::Add(n) => drop(self.blobs.insert(*n)),
            Op::Remove(n) => drop(self.blobs.remove(n)),
            Op::Put(n, tags) => {
                self.manifests.insert(*n);
                self.tags.extend(tags.iter().map(|tag| (format!("t{tag}"), *n)));
            }
            Op::Untag(tag) => drop(self.tags.remove(&format!("t{tag}"))),
            Op::Delete(n) => {
                self.manifests.remove(n);
                self.tags.retain(|_, to| to != n);
            }
        }
    }
}

fn apply(edit: &Edit, of: &Name, op: &Op) -> Result<(), StoreError> {
    match op {
        Op::Add(n) => edit.add_blob(of, &blob(*n)),
        Op::Remove(n) => edit.remove_blob(of, &blob(*n).digest).map(drop),
        Op::Put(n, tags) => {
            let tags: Vec<Tag> = tags.iter().map(|n| tag(&format!("t{n}"))).collect();
            edit.put_manifest(of, &pushed(*n, None), &tags, None, &[])
        }
        Op::Untag(n) => edit.remove_tag(of, &tag(&format!("t{n}"))).map(drop),
        Op::Delete(n) => edit.remove_manifest(of, &blob(*n).digest).map(drop),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn repository_rows_match_a_model_after_any_pushes_and_deletes(ops in vec((select(vec!["a", "a/b", "ab"]), op()), 0..40)) {
        let (_dir, repositories) = repositories();
        let mut models: BTreeMap<&str, Model> = BTreeMap::new();
        for (of, op) in &ops {
            models.entry(of).or_default().apply(op);
            let (of, op) = (name(of), op.clone());
            repositories.edit(move |edit| apply(edit, &of, &op)).unwrap();
        }
        let digests = |set: &BTreeSet<u8>| set.iter().map(|n| blob(*n).digest).collect::<BTreeSet<_>>();
        let listed = models.iter().filter(|(_, model)| !model.manifests.is_empty());
        let names: Vec<Name> = listed.map(|(of, _)| name(of)).collect();
        prop_assert_eq!(repositories.names("", 9).unwrap(), names);
        for (of, model) in &models {
            let of = name(of);
            let blobs = repositories.blobs(&of, "", 99).unwrap();
            prop_assert_eq!(blobs.into_iter().map(|p| p.digest).collect::<BTreeSet<_>>(), digests(&model.blobs));
            let manifests = repositories.manifests(&of, "", 99).unwrap();
            let manifests = manifests.into_iter().map(|p| p.blob.digest).collect::<BTreeSet<_>>();
            prop_assert_eq!(manifests, digests(&model.manifests));
            // Page by page.
            let (mut tags, mut last) = (Vec::new(), String::new());
            while let Some((tag, to)) = repositories.tags(&of, &last, 1).unwrap().pop() {
                last = tag.to_string();
                tags.push((last.clone(), to));
            }
            let expected: Vec<_> = model.tags.iter().map(|(tag, n)| (tag.clone(), blob(*n).digest)).collect();
            prop_assert_eq!(tags, expected);
        }
        for n in 0..4 {
            let held = models.values().any(|model| model.blobs.contains(&n) || model.manifests.contains(&n));
            prop_assert_eq!(is_retained(&repositories, blob(n).root), held);
        }
    }
}

/// Bytes that are written for a push into one of so many repositories, of which all changed, and rows that merges read.
fn written_for_a_push(count: u32) -> (u64, u64) {
    let (database, written) = counting();
    let repositories = Repositories::new(database.clone());
    let push = |n: u32, to: u32| {
        let digest = Digest::sha256_of(&n.to_be_bytes());
        let blob = RepositoryBlob { digest, ..blob(1) };
        let name = name(&format!("r{to}"));
        repositories.edit(move |edit| edit.add_blob(&name, &blob)).unwrap();
    };
    (0..count).for_each(|n| push(n, n));
    changes::MERGED.with(|merged| merged.set(0));
    let before = written.load(Ordering::Relaxed);
    // Into those that changed before, and into new ones.
    (0..80).for_each(|n| push(count + n, if n % 2 == 0 { n % count } else { count + n }));
    (written.load(Ordering::Relaxed) - before, changes::MERGED.with(std::cell::Cell::get))
}

#[test]
fn the_cost_of_a_push_does_not_grow_with_the_number_of_changed_repositories() {
    let [few, many] = [100, 400].map(written_for_a_push);
    assert!(many.0 * 2 < few.0 * 3, "{few:?} at 100 repositories, {many:?} at 400");
    assert!(many.1 <= 160, "{many:?}: merges are amortized");
}

/// Reads of the index that it takes to count so many repositories, as for the metrics.
fn reads_of_a_count(repositories: u32) -> u64 {
    let (database, reads) = counting_reads();
    let all = Repositories::new(database);
    all.fill(repositories).unwrap();
    let before = reads.load(Ordering::Relaxed);
    assert_eq!(all.count().unwrap(), u64::from(repositories));
    reads.load(Ordering::Relaxed) - before
}

#[test]
fn counting_repositories_for_the_metrics_reads_the_index_as_often_for_four_times_as_many() {
    let [few, many] = [1000, 4000].map(reads_of_a_count);
    assert!(few > 0 && many <= few + 2, "{few} reads of 1,000 repositories, {many} of 4,000");
}
