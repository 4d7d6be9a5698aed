//! Bundles in memory: written, damaged at random, and imported into a node without a swarm.

use std::{
    io::{Cursor, Write},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use ocipfs_node::{Cid, Node};
use ocipfs_oci::{Digest, Name, Tag, media_type};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    import::{BundleFile, Imported},
    *,
};
use crate::{
    content::{BlobWriter, Content, Document, GcRoot, Settings, Store},
    images::{
        export::{Dest, ExportTarget, PartsDest},
        input::Input,
        repository::Repositories,
    },
};

const LAYER_BYTES: usize = 3 << 20;

struct Target {
    content: Content,
    repositories: Repositories,
    _dir: TempDir,
}

impl Target {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let repositories = Repositories::open(&store).unwrap();
        let node = Node::offline(dir.path()).unwrap();
        Self { content: Content::new(store, node, Settings::default()).unwrap(), repositories, _dir: dir }
    }

    async fn import(&self, bundles: &[Vec<u8>], moves_tags: bool) -> Result<Imported, Error> {
        self.import_with(bundles, import::Options { moves_tags, max_expansion: Some(32) }).await
    }

    async fn import_with(&self, bundles: &[Vec<u8>], options: import::Options) -> Result<Imported, Error> {
        let file = |bytes: &Vec<u8>| BundleFile {
            what: "x.car".into(),
            input: Input::stream(Cursor::new(bytes.clone())),
            size: None,
        };
        let files = bundles.iter().map(file).collect();
        import::import(&self.content, &self.repositories, files, options, |_| Ok(()), |_| {}).await
    }

    /// Imports a bundle of a known size.
    async fn import_sized(
        &self,
        bundle: Vec<u8>,
        size: Option<u64>,
        options: import::Options,
    ) -> Result<Imported, Error> {
        let input = Input::stream(Cursor::new(bundle));
        let files = vec![BundleFile { what: "x.car".into(), input, size }];
        import::import(&self.content, &self.repositories, files, options, |_| Ok(()), |_| {}).await
    }

    /// The digest that the tag of the image points at, whose blobs are all here and right.
    fn whole(&self, blobs: &[Digest]) -> Option<Digest> {
        let tagged = self.repositories.tag(&name(), &tag()).unwrap()?;
        for digest in blobs {
            let stored = self.content.store().blob(digest).unwrap().expect("a blob of a tagged image");
            let file = self.content.store().open_file(&stored).unwrap();
            let mut check = file.check(&(0..file.size()));
            let bytes = file.read_next(&mut check, 0, file.size() as usize).unwrap();
            assert_eq!(Digest::sha256_of(&bytes), *digest);
        }
        Some(tagged)
    }
}

fn name() -> Name {
    "team/app".parse().unwrap()
}

fn tag() -> Tag {
    "1".parse().unwrap()
}

fn noise(length: usize, seed: u64) -> Vec<u8> {
    (seed..seed + length as u64).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}

/// An image of one layer: its blobs, the manifest first.
fn image(seed: u64) -> Vec<Bytes> {
    image_of(noise(LAYER_BYTES, seed).into())
}

fn image_of(layer: Bytes) -> Vec<Bytes> {
    let config = Bytes::from_static(b"{}");
    let descriptor = |kind: &str, bytes: &Bytes| -> Value {
        json!({ "mediaType": kind, "digest": Digest::sha256_of(bytes).to_string(), "size": bytes.len() })
    };
    let manifest = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
        "config": descriptor(media_type::OCI_CONFIG, &config),
        "layers": [descriptor(media_type::OCI_LAYER_TAR, &layer)] });
    vec![manifest.to_string().into(), config, layer]
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A bundle of one image, and the digests of its blobs; `without` is left out.
async fn bundle(seed: u64, without: Option<usize>) -> (Vec<u8>, Vec<Digest>) {
    bundle_completing(seed, without, None).await
}

/// The same, which says that it completes the bundle with this CID.
async fn bundle_completing(
    seed: u64,
    without: Option<usize>,
    completes: Option<Cid>,
) -> (Vec<u8>, Vec<Digest>) {
    bundle_of(image(seed), without, completes, false).await
}

/// A bundle of these blobs, which has each block only once if `is_once`.
async fn bundle_of(
    image: Vec<Bytes>,
    without: Option<usize>,
    completes: Option<Cid>,
    is_once: bool,
) -> (Vec<u8>, Vec<Digest>) {
    let source = Target::new();
    let (mut blobs, mut digests) = (Vec::new(), Vec::new());
    for (number, bytes) in image.into_iter().enumerate() {
        let mut writer = BlobWriter::new(source.content.store(), source.content.profile()).unwrap();
        writer.write(bytes.clone()).unwrap();
        let (stored, root) = writer.store().unwrap();
        digests.push(stored.digest.clone());
        let elsewhere = without == Some(number);
        blobs.push(BundledBlob { digest: stored.digest, size: stored.size, cid: Some(root.cid), elsewhere });
    }
    let top = BundledManifest {
        media_type: media_type::OCI_MANIFEST.parse().unwrap(),
        digest: digests[0].clone(),
        subject: None,
        tag: None,
    };
    let (platforms, size) = (Vec::new(), LAYER_BYTES as u64);
    let image = BundledImage { repository: name(), tag: Some(tag()), size, platforms, manifests: vec![top] };
    let manifest = Manifest {
        media_type: MANIFEST_TYPE.into(),
        network: "own".into(),
        since: Vec::new(),
        completes: completes.map(|cid| cid.to_string()),
        records: Vec::new(),
        images: vec![image],
        blobs,
    };
    let (root, file) = manifest_file(&manifest).unwrap();
    let written = Shared::default();
    let dest = Dest::Parts(PartsDest::Stream(Box::new(written.clone())));
    let mut target = ExportTarget::create(dest).unwrap();
    let mut writer = BundleWriter::begin(&mut target, (root, &file), None).await.unwrap();
    let mut written_blocks = std::collections::HashSet::new();
    for blob in manifest.contained() {
        let mut blocks = source.content.file_blocks(blob.cid.unwrap());
        while let Some(block) = blocks.recv().await {
            let block = block.unwrap();
            if written_blocks.insert(block.block.cid) || !is_once {
                writer.write(block).await.unwrap();
            }
        }
    }
    let (parts, length) = writer.finish().await.unwrap();
    target.finish().await.unwrap();
    let bytes = written.0.lock().unwrap().clone();
    assert_eq!((parts, length), (1, bytes.len() as u64));
    (bytes, digests)
}

#[tokio::test]
async fn a_bundle_is_imported_once_all_of_its_image_is_here() {
    let (whole, blobs) = bundle(0, None).await;
    let target = Target::new();
    let imported = target.import(std::slice::from_ref(&whole), false).await.unwrap();
    assert!(imported.problems.is_empty() && imported.missing.is_none(), "{imported:?}");
    assert_eq!(target.whole(&blobs), Some(blobs[0].clone()));
    assert!(target.content.gc_root(&imported.bundles[0]).await.unwrap().is_none(), "it is released");
    let (partial, _) = bundle(0, Some(2)).await;
    let target = Target::new();
    let imported = target.import(&[partial], false).await.unwrap();
    let missing = imported.missing.unwrap();
    assert_eq!((missing.blobs, missing.images.len()), (vec![blobs[2].clone()], 1));
    assert_eq!(target.whole(&blobs), None);
    assert!(target.content.gc_root(&imported.bundles[0]).await.unwrap().is_some(), "it is kept for later");
}

#[tokio::test]
async fn a_bundle_whose_blocks_fill_many_places_is_refused_before_they_are_written() {
    // A layer of one block, eight times: the bundle has an eighth of it.
    let (small, blobs) = bundle_of(image_of(vec![0; 8 << 20].into()), None, None, true).await;
    assert!(small.len() < 2 << 20, "{}", small.len());
    let options = |max_expansion| import::Options { moves_tags: false, max_expansion };
    let target = Target::new();
    let refused = target.import_with(std::slice::from_ref(&small), options(Some(2))).await.unwrap_err();
    assert!(matches!(refused, Error::Refused { .. }), "{refused}");
    assert!(target.content.store().partial().unwrap().iter().all(|partial| partial.written == 0));
    assert_eq!(target.whole(&blobs), None);
    for allowed in [Some(32), None] {
        let target = Target::new();
        target.import_with(std::slice::from_ref(&small), options(allowed)).await.unwrap();
        assert_eq!(target.whole(&blobs), Some(blobs[0].clone()), "{allowed:?}");
    }
    // A bundle as it is exported has a block as often as its files have it.
    let (whole, blobs) = bundle_of(image_of(vec![0; 8 << 20].into()), None, None, false).await;
    let target = Target::new();
    let total = Some(whole.len() as u64);
    target.import_sized(whole, total, options(Some(1))).await.unwrap();
    assert_eq!(target.whole(&blobs), Some(blobs[0].clone()));
}

#[tokio::test]
async fn a_bundle_does_not_release_content_that_a_command_added_under_a_cid_that_it_names() {
    let target = Target::new();
    let added = Document::file(Bytes::from_static(b"added"), target.content.profile());
    let kept = added.root.cid;
    target.content.put_document(added).await.unwrap();
    target.content.retain(kept, GcRoot::new(true, &[kept], Vec::new())).await.unwrap();
    let (bundle, blobs) = bundle_completing(0, None, Some(kept)).await;
    let imported = target.import(&[bundle], false).await.unwrap();
    assert_eq!(target.whole(&blobs), Some(blobs[0].clone()), "{imported:?}");
    assert!(target.content.gc_root(&kept).await.unwrap().is_some_and(|gc_root| gc_root.is_kept));
    // A tree that a record names is added to what the CID keeps already.
    target.content.keep_tree(kept, &[]).await.unwrap();
    assert!(target.content.gc_root(&kept).await.unwrap().is_some_and(|gc_root| gc_root.is_kept));
    // The CID of an earlier bundle is released.
    let (partial, _) = bundle_completing(9, Some(2), None).await;
    let earlier = target.import(&[partial], true).await.unwrap().bundles[0];
    assert!(target.content.gc_root(&earlier).await.unwrap().is_some());
    let (rest, _) = bundle_completing(9, None, Some(earlier)).await;
    target.import(&[rest], true).await.unwrap();
    assert!(target.content.gc_root(&earlier).await.unwrap().is_none());
}

#[tokio::test]
async fn a_tag_is_moved_by_a_bundle_only_if_that_is_asked() {
    let [(one, blobs), (two, others)] = [bundle(0, None).await, bundle(9, None).await];
    let target = Target::new();
    target.import(&[one], false).await.unwrap();
    let refused = target.import(std::slice::from_ref(&two), false).await.unwrap();
    assert_eq!((refused.images.len(), refused.conflicts.len()), (0, 1));
    assert_eq!(refused.conflicts[0].1.digest, blobs[0]);
    assert_eq!(target.whole(&blobs), Some(blobs[0].clone()));
    target.import(&[two], true).await.unwrap();
    assert_eq!(target.whole(&others), Some(others[0].clone()));
}

/// SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[tokio::test]
async fn a_bundle_that_is_damaged_at_random_shows_a_whole_image_or_none() {
    let (whole, blobs) = bundle(0, None).await;
    let (mut state, mut complete) = (7, 0);
    for round in 0..40 {
        let mut bytes = whole.clone();
        let mut place = |length: usize| next(&mut state) as usize % length;
        // Most of it is the layer; its beginning has the structure.
        let at = if round % 2 == 0 { place(3000) } else { place(bytes.len()) };
        match round % 4 {
            0 | 1 => bytes[at] ^= 1 << place(8),
            2 => bytes.truncate(at),
            _ => {
                let part = bytes[at..].iter().take(place(5000)).copied().collect::<Vec<u8>>();
                let to = place(bytes.len());
                bytes.splice(to..to, part);
            }
        }
        let target = Target::new();
        let outcome = target.import(&[bytes], false).await;
        let tagged = target.whole(&blobs);
        match outcome {
            Ok(imported) => {
                assert_eq!(imported.missing.is_none(), tagged.is_some(), "{imported:?}");
                assert!(tagged.is_some() || !imported.problems.is_empty(), "{imported:?}");
            }
            Err(error) => assert!(tagged.is_none(), "{error}"),
        }
        complete += u32::from(tagged.is_some());
        // Then the whole bundle arrives.
        target.import(std::slice::from_ref(&whole), false).await.unwrap();
        assert_eq!(target.whole(&blobs), Some(blobs[0].clone()));
    }
    assert!(complete < 20, "{complete}");
}
