mod histories;
mod moments;

use std::collections::BTreeMap;

use ocipfs_oci::{Algorithm, Descriptor, Hasher, Index, Manifest, MediaType, Tag, media_type};
use proptest::prelude::*;

use super::*;
use crate::{
    content::BlobWriter,
    images::repository::{Edit, Pushed, inspect},
};

const PROFILE: Profile = Profile::UnixfsV1;

/// Work that publishing did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    /// Nodes of the tree that were read.
    pub reads: u64,
    /// Nodes that were made.
    pub made: u64,
    /// Entries of indexes that were serialized.
    pub entries: u64,
    /// Indexes that were made of those before.
    pub edits: u64,
}

thread_local! {
    static COUNTS: std::cell::Cell<Counts> =
        const { std::cell::Cell::new(Counts { reads: 0, made: 0, entries: 0, edits: 0 }) };
}

pub(super) fn count(with: impl FnOnce(&mut Counts)) {
    let mut counts = COUNTS.get();
    with(&mut counts);
    COUNTS.set(counts);
    moments::interrupt();
}

/// Pushes as the registry makes them.
pub(crate) struct Pusher {
    pub store: Store,
    pub repositories: Repositories,
}

impl Pusher {
    fn put(&self, bytes: &[u8]) -> RepositoryBlob {
        let mut put = BlobWriter::new(&self.store, PROFILE).unwrap();
        put.write(Bytes::copy_from_slice(bytes)).unwrap();
        let (stored, root) = put.store().unwrap();
        RepositoryBlob { digest: stored.digest, size: stored.size, root: root.cid }
    }

    fn edit(&self, with: impl FnMut(&Edit) -> Result<(), StoreError> + Send + 'static) {
        self.repositories.edit(with).unwrap();
    }

    fn push_blob(&self, name: &str, bytes: &[u8]) -> Descriptor {
        let (name, blob) = (name.parse().unwrap(), self.put(bytes));
        let kind = MediaType::from_static(media_type::OCI_LAYER_TAR);
        let descriptor = Descriptor::new(kind, blob.digest.clone(), blob.size);
        self.edit(move |edit| edit.add_blob(&name, &blob));
        descriptor
    }

    fn push_manifest(&self, name: &str, json: &[u8], kind: &'static str, tag: Option<&str>) -> Descriptor {
        let (name, blob) = (name.parse().unwrap(), self.put(json));
        let descriptor = Descriptor::new(MediaType::from_static(kind), blob.digest.clone(), blob.size);
        let tags: Vec<Tag> = tag.into_iter().map(|tag| tag.parse().unwrap()).collect();
        let inspected = inspect(json, &descriptor.digest, None).unwrap();
        let pushed = inspected.pushed(blob, 0);
        let (referrer, references) = (Some(inspected.referrer), inspected.references);
        self.edit(move |edit| edit.put_manifest(&name, &pushed, &tags, referrer.as_ref(), &references));
        descriptor
    }

    /// An image of one layer that holds `text`.
    pub fn push(&self, name: &str, text: &str, tag: Option<&str>) -> Descriptor {
        let config = self.push_blob(name, format!("config of {text}").as_bytes());
        let layer = self.push_blob(name, text.as_bytes());
        let json = serde_json::to_vec(&Manifest::new(config, vec![layer])).unwrap();
        self.push_manifest(name, &json, media_type::OCI_MANIFEST, tag)
    }
}

/// A registry of one directory, without anything around it.
struct Registry {
    published: Published,
    pusher: Pusher,
    _dir: tempfile::TempDir,
}

impl std::ops::Deref for Registry {
    type Target = Pusher;

    fn deref(&self) -> &Pusher {
        &self.pusher
    }
}

impl Registry {
    fn new() -> Self {
        // Of many short histories each commit would wait for a disk.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let store = Store::open(dir.path()).unwrap();
        let repositories = Repositories::open(&store).unwrap();
        let published = Published::new(store.clone(), repositories.clone(), PROFILE);
        Self { published, pusher: Pusher { store, repositories }, _dir: dir }
    }

    fn advance(&self) -> Cid {
        self.published.advance().unwrap().expect("something changed").version.root.cid
    }

    /// Advances until nothing is left; how often that was.
    fn catch_up(&self) -> usize {
        std::iter::from_fn(|| self.published.advance().unwrap()).count()
    }

    fn names(&self, path: &str) -> Vec<String> {
        let current = self.published.current().unwrap();
        self.published.names_in(current, path).unwrap()
    }

    fn index(&self, name: &str) -> Vec<(Option<String>, Digest)> {
        let Some(index::PublishedIndex::Whole(document)) =
            self.published.index(None, &name.parse().unwrap()).unwrap()
        else {
            panic!("a whole index")
        };
        let entries = Index::parse(&bytes_of(&document)).unwrap().manifests.into_iter();
        entries.map(|entry| (entry.annotation(REF_NAME).map(Into::into), entry.digest)).collect()
    }
}

/// The bytes of a file that was cut into chunks.
pub(super) fn bytes_of(document: &Document) -> Vec<u8> {
    let leaves = document.blocks.iter().filter(|block| block.cid.codec() == 0x55);
    leaves.flat_map(|block| block.data.to_vec()).collect()
}

const REF_NAME: &str = "org.opencontainers.image.ref.name";

#[test]
fn each_published_repository_is_an_image_layout_and_names_nest() {
    let registry = Registry::new();
    assert!(
        registry.published.advance().unwrap().is_none() && registry.published.current().unwrap().is_none()
    );
    registry.push("team/app", "one", Some("1"));
    registry.push("team", "two", None);
    registry.advance();
    assert_eq!(registry.names(""), ["team"]);
    assert_eq!(registry.names("team"), ["app", "blobs", "index.json", "oci-layout"]);
    assert_eq!(registry.names("team/app"), ["blobs", "index.json", "oci-layout"]);
    assert_eq!(registry.names("team/app/blobs/sha256").len(), 3);
    assert!(registry.published.advance().unwrap().is_none());
    assert_eq!((registry.published.behind().unwrap(), registry.published.matters(0).unwrap().0), (0, false));
}

#[test]
fn published_index_json_lists_each_manifest_once() {
    let registry = Registry::new();
    let tagged = registry.push("app", "tagged", Some("b"));
    let child = registry.push("app", "child", None);
    let alone = registry.push("app", "alone", None);
    let json = serde_json::to_vec(&Index::new(vec![child])).unwrap();
    let index = registry.push_manifest("app", &json, media_type::OCI_INDEX, Some("a"));
    let name = |text: &str| Some(text.to_string());
    assert_eq!(
        registry.index("app"),
        [(name("a"), index.digest), (name("b"), tagged.digest), (None, alone.digest)]
    );
}

#[test]
fn an_emptied_repository_is_removed_from_the_published_tree() {
    let registry = Registry::new();
    let before = {
        registry.push("kept", "kept", Some("1"));
        registry.advance()
    };
    let image = registry.push("gone/deep", "gone", Some("1"));
    assert_ne!(registry.advance(), before);
    let name: Name = "gone/deep".parse().unwrap();
    registry.push_blob("gone/deep", b"still waiting for a manifest");
    registry.edit(move |edit| edit.remove_manifest(&name, &image.digest).map(drop));
    let advanced = registry.published.advance().unwrap().unwrap();
    assert_eq!((advanced.version.root.cid, advanced.removed.len()), (before, 4));
}

#[test]
fn blobs_without_a_manifest_do_not_trigger_a_publication() {
    let registry = Registry::new();
    registry.push_blob("app", b"blob");
    assert_eq!(
        (registry.published.behind().unwrap(), registry.published.matters(0).unwrap()),
        (1, (false, 1))
    );
    registry.push("app", "image", Some("1"));
    assert!(registry.published.matters(1).unwrap().0);
}

#[test]
fn sha256_and_sha512_blobs_are_published_in_separate_directories() {
    let registry = Registry::new();
    let mut hasher = Hasher::new(Algorithm::Sha512);
    hasher.update(b"blob");
    let blob = RepositoryBlob { digest: hasher.finish(), ..registry.put(b"blob") };
    registry.edit(move |edit| edit.add_blob(&"app".parse().unwrap(), &blob));
    registry.push("app", "image", None);
    registry.advance();
    assert_eq!(registry.names("app/blobs"), ["sha256", "sha512"]);
}

#[test]
fn blobs_are_published_together_with_their_manifest() {
    let registry = Registry::new();
    registry.push("other", "image", Some("1"));
    let before = registry.advance();
    registry.push_blob("app", b"layer");
    assert_eq!(registry.advance(), before);
    registry.push("app", "image", Some("1"));
    registry.advance();
    assert_eq!(registry.names("app/blobs/sha256").len(), 4, "two blobs, the manifest, and the layer");
}

/// Manifests of which only the rows are there.
fn rows(names: &[&str], tags: std::ops::Range<u32>) -> Vec<(Name, Pushed, Tag)> {
    let kind = MediaType::from_static(media_type::OCI_MANIFEST);
    let row = |name: &&str, n: u32| {
        let digest = Digest::sha256_of(format!("{name} {n}").as_bytes());
        let hash = multihash_codetable::MultihashDigest::digest(
            &multihash_codetable::Code::Sha2_256,
            digest.bytes(),
        );
        let blob = RepositoryBlob { digest, size: 500, root: Cid::new_v1(0x55, hash) };
        let pushed = Pushed { blob, media_type: kind.clone(), subject: None, artifact_type: None, at: 0 };
        (name.parse().unwrap(), pushed, format!("v{n:06}").parse().unwrap())
    };
    names.iter().flat_map(|name| tags.clone().map(move |n| row(name, n))).collect()
}

impl Registry {
    fn put_rows(&self, rows: Vec<(Name, Pushed, Tag)>) {
        self.edit(move |edit| {
            rows.iter().try_for_each(|(name, pushed, tag)| {
                edit.put_manifest(name, pushed, std::slice::from_ref(tag), None, &[])
            })
        });
    }

    /// The nodes of the tree, each with its length.
    fn nodes(&self) -> std::collections::HashMap<Cid, usize> {
        let mut waiting = vec![self.published.current().unwrap().unwrap().root.cid];
        let mut nodes = std::collections::HashMap::new();
        while let Some(cid) = waiting.pop() {
            let Some(block) = self.store.get(&cid).unwrap() else { continue };
            if nodes.insert(cid, block.len()).is_none() && cid.codec() != 0x55 {
                waiting.extend(
                    ipld_dagpb::PbNode::from_bytes(block).unwrap().links.into_iter().map(|link| link.cid),
                );
            }
        }
        nodes
    }
}

/// Bytes of the nodes that a follower lacks after one tag more in a repository of so many.
fn bytes_of_a_tag(tags: u32) -> usize {
    let registry = Registry::new();
    registry.put_rows(rows(&["app"], 0..tags));
    registry.catch_up();
    let before = registry.nodes();
    registry.put_rows(
        rows(&["app"], tags / 2..tags / 2 + 1)
            .into_iter()
            .map(|(name, mut pushed, _)| {
                pushed.blob.digest = Digest::sha256_of(b"another");
                (name, pushed, "v000500-rc1".parse().unwrap())
            })
            .collect(),
    );
    registry.catch_up();
    registry.nodes().iter().filter(|(cid, _)| !before.contains_key(cid)).map(|(_, length)| length).sum()
}

#[test]
fn publishing_a_tag_among_10000_tags_changes_less_than_64_kib() {
    let [few, many] = [2500, 10_000].map(bytes_of_a_tag);
    assert!(many < 60 << 10 && many < few * 2, "{few} bytes at 2,500 tags, {many} at 10,000");
}

/// Nodes that are read for each repository to publish so many, of which all changed.
fn reads_to_catch_up(repositories: u32) -> u64 {
    let registry = Registry::new();
    // Long names, so that the directory of all is sharded early.
    let names: Vec<String> = (0..repositories).map(|n| format!("{n:0200}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    registry.put_rows(rows(&names, 0..1));
    registry.catch_up();
    registry.put_rows(rows(&names, 1..2));
    COUNTS.set(Counts::default());
    assert!(registry.catch_up() > 1, "in lots");
    COUNTS.get().reads / u64::from(repositories)
}

#[test]
fn the_publishing_cost_per_repository_does_not_grow_with_their_number() {
    let [few, many] = [500, 2000].map(reads_to_catch_up);
    assert!(few < 40 && many < 40, "{few} nodes read for each of 500 repositories, {many} for each of 2,000");
}

/// Event in the history of a repository.
#[derive(Clone, Debug)]
enum Step {
    Push(u8, u8, Option<u8>),
    Untag(u8, u8),
    Delete(u8, u8),
    Advance,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..3u8, 0..6u8, prop::option::of(0..4u8)).prop_map(|(name, text, tag)| Step::Push(name, text, tag)),
        1 => (0..3u8, 0..4u8).prop_map(|(name, tag)| Step::Untag(name, tag)),
        1 => (0..3u8, 0..6u8).prop_map(|(name, text)| Step::Delete(name, text)),
        2 => Just(Step::Advance),
    ];
    prop::collection::vec(step, 1..40)
}

const NAMES: [&str; 3] = ["app", "team", "team/app"];

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    /// Forty changes that are not published are merged here, so this is the way by `Everything` too.
    #[test]
    fn published_root_depends_on_content_alone_not_on_history(steps in steps()) {
        let registry = Registry::new();
        let mut there: [BTreeMap<u8, Descriptor>; 3] = Default::default();
        let mut tags: [BTreeMap<u8, u8>; 3] = Default::default();
        for step in steps {
            match step {
                Step::Push(name, text, tag) => {
                    let shown = tag.map(|tag| format!("t{tag}"));
                    let image = registry.push(NAMES[name as usize], &format!("{text}"), shown.as_deref());
                    there[name as usize].insert(text, image);
                    tag.map(|tag| tags[name as usize].insert(tag, text));
                }
                Step::Untag(name, tag) => {
                    tags[name as usize].remove(&tag);
                    let (name, tag) = (NAMES[name as usize].parse().unwrap(), format!("t{tag}").parse().unwrap());
                    registry.edit(move |edit| edit.remove_tag(&name, &tag).map(drop));
                }
                Step::Delete(name, text) => {
                    let Some(image) = there[name as usize].remove(&text) else { continue };
                    tags[name as usize].retain(|_, to| *to != text);
                    let name = NAMES[name as usize].parse().unwrap();
                    registry.edit(move |edit| edit.remove_manifest(&name, &image.digest).map(drop));
                }
                Step::Advance => drop(registry.published.advance().unwrap()),
            }
        }
        registry.catch_up();
        let fresh = Registry::new();
        for (name, images) in NAMES.iter().zip(&there).rev() {
            images.keys().rev().for_each(|text| drop(fresh.push(name, &format!("{text}"), None)));
        }
        for (name, tags) in NAMES.iter().zip(&tags) {
            tags.iter().for_each(|(tag, text)| drop(fresh.push(name, &format!("{text}"), Some(&format!("t{tag}")))));
        }
        fresh.catch_up();
        let root = |registry: &Registry| registry.published.current().unwrap().map(|version| version.root);
        prop_assert!(root(&registry) == root(&fresh) || there.iter().all(BTreeMap::is_empty));
    }
}
