use std::collections::HashMap;

use ocipfs_node::{Node, is_block};
use ocipfs_unixfs::{Document, Profile, links};

use super::*;
use crate::content::{Settings, Store};

struct Target {
    content: Content,
    dir: tempfile::TempDir,
}

/// A file, and its blocks as a bundle has them.
struct Source {
    file: ExpectedFile,
    blocks: Vec<Block>,
}

impl Target {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (store, node) = (Store::open(dir.path()).unwrap(), Node::offline(dir.path()).unwrap());
        Self { content: Content::new(store, node, Settings::default()).unwrap(), dir }
    }

    /// Imports blocks of these files.
    fn import(&self, files: &[&Source], blocks: &[Block]) -> Result<Vec<WrongFile>, Error> {
        let mut importer = FileImporter::new(self.content.clone(), files[0].file.root, Origin::Peers)?;
        for source in files {
            let is_stored = self.content.store().blob(&source.file.digest)?.is_some();
            importer.expect(ExpectedFile { is_stored, ..source.file.clone() })?;
        }
        for block in blocks {
            assert!(is_block(&block.cid, &block.data));
            assert!(importer.put(block.clone())?, "{}", block.cid);
        }
        importer.finish()
    }

    fn is_stored(&self, source: &Source) -> bool {
        let ExpectedFile { digest, size, root, .. } = &source.file;
        let stored = self.content.store().blob(digest).unwrap();
        stored.is_some_and(|stored| stored.size == *size && stored.root == *root)
    }

    fn incoming(&self) -> usize {
        std::fs::read_dir(self.dir.path().join("incoming")).unwrap().count()
    }
}

impl Source {
    fn new(bytes: Vec<u8>, profile: Profile) -> Self {
        let (digest, size) = (Digest::sha256_of(&bytes), bytes.len() as u64);
        let Document { root, blocks } = Document::file(bytes.into(), profile);
        let all: HashMap<Cid, &Block> = blocks.iter().map(|block| (block.cid, block)).collect();
        let (mut waiting, mut ordered) = (vec![root.cid], Vec::new());
        while let Some(cid) = waiting.pop() {
            let block = all[&cid];
            waiting.extend(links(&cid, block.data.clone()).unwrap().into_iter().rev());
            ordered.push(block.clone());
        }
        let file = ExpectedFile { digest, size, root: root.cid, is_stored: false };
        Self { file, blocks: ordered }
    }
}

fn noise(length: usize) -> Vec<u8> {
    (0..length as u64).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}

#[tokio::test]
async fn imported_files_are_stored_with_their_roots_in_both_profiles() {
    for profile in [Profile::UnixfsV1, Profile::Legacy] {
        let target = Target::new();
        let sizes = [0, 5, 70_000, (1 << 20) + 1, 3 << 20];
        let sources: Vec<Source> = sizes.iter().map(|size| Source::new(noise(*size), profile)).collect();
        let files: Vec<&Source> = sources.iter().collect();
        let blocks: Vec<Block> = sources.iter().flat_map(|source| source.blocks.clone()).collect();
        assert_eq!(target.import(&files, &blocks).unwrap(), []);
        assert!(sources.iter().all(|source| target.is_stored(source)), "{profile:?}");
        assert_eq!(target.incoming(), 0);
        // Again, what is stored is passed over.
        assert_eq!(target.import(&files, &blocks).unwrap(), []);
        let gc_root = target.content.gc_root(&sources[0].file.root).await.unwrap().unwrap();
        assert!(!gc_root.is_kept && gc_root.blobs.len() == sources.len());
    }
}

#[tokio::test]
async fn a_block_that_a_file_has_in_several_places_is_written_to_each() {
    let target = Target::new();
    let chunk = noise(1 << 20);
    let zeros = Source::new(vec![0; 6 << 20], Profile::UnixfsV1);
    let mixed = Source::new([&chunk[..], &[0; 2 << 20], &chunk].concat(), Profile::UnixfsV1);
    let alone = Source::new(chunk, Profile::UnixfsV1);
    let blocks = [&zeros, &mixed, &alone].map(|source| source.blocks.clone()).concat();
    assert_eq!(target.import(&[&zeros, &mixed, &alone], &blocks).unwrap(), []);
    assert!([&zeros, &mixed, &alone].iter().all(|source| target.is_stored(source)));
}

#[tokio::test]
async fn a_block_is_known_to_fill_all_of_its_places_before_it_is_written() {
    let target = Target::new();
    let source = Source::new(vec![0; 6 << 20], Profile::UnixfsV1);
    let mut importer = FileImporter::new(target.content.clone(), source.file.root, Origin::Peers).unwrap();
    importer.expect(source.file.clone()).unwrap();
    let [node, leaf] = [&source.blocks[0], &source.blocks[1]];
    assert_eq!((importer.fills(node), importer.fills(leaf)), (0, 0));
    assert!(importer.put(node.clone()).unwrap());
    assert_eq!(importer.fills(leaf), 6 << 20);
    assert!(importer.put(leaf.clone()).unwrap());
    // The copies that follow fill nothing.
    assert_eq!(importer.fills(leaf), 0);
    assert!(importer.put(leaf.clone()).unwrap());
    assert_eq!(importer.finish().unwrap(), []);
    assert!(target.is_stored(&source));
}

#[tokio::test]
async fn a_file_that_exceeds_the_quota_or_the_disk_is_refused_before_a_byte_is_written() {
    let target = Target::new();
    target.content.store().limit(4 << 20, Box::new(|_, _, _| panic!("a claim evicts nothing")));
    let source = Source::new(vec![0; 6 << 20], Profile::UnixfsV1);
    let refused = target.import(&[&source], &source.blocks[..1]);
    assert!(matches!(refused, Err(Error::Quota { .. })), "{refused:?}");
    assert!(target.content.store().partial().unwrap().iter().all(|partial| partial.written == 0));
    let target = Target::new();
    assert!(matches!(target.content.store().check_claim(1 << 62), Err(StoreError::Full)));
}

#[tokio::test]
async fn parts_that_come_one_by_one_complete_a_file_that_has_a_block_in_several_of_them() {
    let (one, two) = (noise(1 << 20), vec![0; 1 << 20]);
    let bytes =
        [&one, &two, &one, &two, &two, &one, &noise(1 << 19)].into_iter().flatten().copied().collect();
    let source = Source::new(bytes, Profile::UnixfsV1);
    assert_eq!(source.blocks.len(), 8);
    for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0]] {
        let target = Target::new();
        for part in order {
            let leaves = [1..4, 4..6, 6..8][part].clone();
            // The node above is repeated in each part.
            let blocks = [&source.blocks[..1], &source.blocks[leaves]].concat();
            assert_eq!(target.import(&[&source], &blocks).unwrap(), []);
        }
        assert!(target.is_stored(&source) && target.incoming() == 0, "{order:?}");
    }
}

#[tokio::test]
async fn a_file_that_came_in_part_is_resumed_and_not_stored_before() {
    let target = Target::new();
    let source = Source::new(noise(5 << 20), Profile::UnixfsV1);
    assert_eq!(source.blocks.len(), 6);
    assert_eq!(target.import(&[&source], &source.blocks[..4]).unwrap(), []);
    assert!(!target.is_stored(&source) && target.incoming() == 1);
    let partial = target.content.store().partial().unwrap();
    assert_eq!(partial.iter().map(|partial| partial.written).collect::<Vec<_>>(), [3 << 20]);
    // The rest comes behind the node above it, as in another part of a bundle.
    let rest = [&source.blocks[..1], &source.blocks[4..]].concat();
    assert_eq!(target.import(&[&source], &rest).unwrap(), []);
    assert!(target.is_stored(&source) && target.incoming() == 0);
}

#[tokio::test]
async fn blocks_of_other_files_and_files_with_another_digest_are_not_stored() {
    let target = Target::new();
    let [mut source, other] = [3 << 20, 2 << 20].map(|size| Source::new(noise(size), Profile::UnixfsV1));
    let mut importer = FileImporter::new(target.content.clone(), source.file.root, Origin::Peers).unwrap();
    importer.expect(source.file.clone()).unwrap();
    assert!(!importer.put(other.blocks[0].clone()).unwrap());
    // A leaf before the node that has it.
    assert!(!importer.put(source.blocks[1].clone()).unwrap());
    assert_eq!(importer.finish().unwrap(), []);
    let right = std::mem::replace(&mut source.file.digest, Digest::sha256_of(b"another"));
    let small = Source::new(noise(100), Profile::UnixfsV1);
    let small = Source { file: ExpectedFile { digest: right.clone(), ..small.file }, ..small };
    let blocks = [&source.blocks[..], &small.blocks].concat();
    let wrong = target.import(&[&source, &small], &blocks).unwrap();
    assert_eq!(wrong.len(), 2, "{wrong:?}");
    assert!(wrong[0].why.contains("digest"), "{wrong:?}");
    assert!(target.content.store().blob(&right).unwrap().is_none() && target.incoming() == 0);
    // One that is longer than was said.
    source.file.size -= 1;
    assert!(matches!(
        target.import(&[&source], &source.blocks),
        Err(Error::Store(_) | Error::Corrupt { .. })
    ));
}
