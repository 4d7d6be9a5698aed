//! Reads the files of an import, one after the other. A file with damage is read as far as it makes sense: what is right of it
//! need not be carried across the gap again.

use std::collections::{BTreeSet, HashSet};

use ocipfs_node::{Block, Cid, car::ReadError, is_block};
use ocipfs_oci::Name;

use super::{BundleFile, ReadBundle, Refusal, expansion::Expansion};
use crate::{
    content::{self, Content, ExpectedFile, FileImporter, Origin, Store, StoreError},
    images::{
        bundle::{BundleReader, EndOfPart, Error},
        input::Input,
    },
};

/// Blocks of trees that are stored in one commit.
const BATCH_BYTES: usize = 4 << 20;
/// Bundles that one import reads.
const MAX_BUNDLES: usize = 64;

/// Refuses a bundle.
pub type Check = Box<dyn Fn(&ReadBundle) -> Result<(), Refusal> + Send>;

/// The files that were read, and what is wrong with them. It blocks.
pub struct Reading {
    content: Content,
    check: Check,
    progress: Box<dyn FnMut(u64) + Send>,
    expansion: Expansion,
    bundles: Vec<OpenBundle>,
    problems: Vec<String>,
    /// Bytes of the files before this one.
    done: u64,
}

struct OpenBundle {
    bundle: ReadBundle,
    importer: FileImporter,
    trees: Trees,
    parts: BTreeSet<u32>,
    last: Option<u32>,
}

/// The blocks of the trees that records name.
struct Trees {
    expected: HashSet<Cid>,
    batch: Vec<Block>,
    batch_bytes: usize,
}

impl Trees {
    fn of(bundle: &ReadBundle) -> Self {
        let blocks = bundle.manifest.records.iter().flat_map(|record| &record.blocks);
        let expected = blocks.filter_map(|text| Cid::try_from(text.as_str()).ok()).collect();
        Self { expected, batch: Vec::new(), batch_bytes: 0 }
    }

    /// Takes a block, if it is one of them.
    fn put(&mut self, store: &Store, block: Block) -> Result<bool, StoreError> {
        if !self.expected.contains(&block.cid) {
            return Ok(false);
        }
        self.batch_bytes += block.data.len();
        self.batch.push(block);
        if self.batch_bytes >= BATCH_BYTES {
            self.store(store)?;
        }
        Ok(true)
    }

    fn store(&mut self, store: &Store) -> Result<(), StoreError> {
        self.batch_bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() { Ok(()) } else { store.put_blocks(&batch) }
    }
}

impl Reading {
    pub fn new(
        content: Content,
        check: Check,
        progress: Box<dyn FnMut(u64) + Send>,
        expansion: Expansion,
    ) -> Self {
        Self { content, check, progress, expansion, bundles: Vec::new(), problems: Vec::new(), done: 0 }
    }

    /// Reads all files. Returns the bundles, and what is wrong with the files.
    pub fn read(mut self, files: Vec<BundleFile>) -> Result<(Vec<ReadBundle>, Vec<String>), Error> {
        let is_single = files.len() == 1;
        for BundleFile { what, input, .. } in files {
            match self.file(&what, input) {
                // The others may be right.
                Err(Error::NotABundle { .. } | Error::DamagedManifest { .. } | Error::Read { .. })
                    if !is_single => {}
                read => read?,
            }
        }
        let mut bundles = Vec::new();
        for OpenBundle { mut bundle, importer, mut trees, parts, last } in self.bundles {
            trees.store(self.content.store())?;
            for wrong in importer.finish()? {
                self.problems.push(format!("blob {} is not what it should be: {}", wrong.digest, wrong.why));
            }
            bundle.missing_parts = missing_parts(&parts, last);
            bundles.push(bundle);
        }
        Ok((bundles, self.problems))
    }

    fn file(&mut self, what: &str, input: Input) -> Result<(), Error> {
        let mut reader = BundleReader::open(input, what).inspect_err(|error| {
            self.problems.push(error.to_string());
        })?;
        let number = self.bundle(&reader, what)?;
        let read = self.blocks(number, &mut reader);
        self.done += reader.position();
        match read {
            // Another file may have it right.
            Err(Error::Content(error @ content::Error::Corrupt { .. })) => {
                self.problems.push(format!("{what}: {error}"));
                Ok(())
            }
            read => read,
        }
    }

    /// Returns the number of the bundle that a part is of.
    fn bundle(&mut self, reader: &BundleReader<Input>, what: &str) -> Result<usize, Error> {
        if let Some(known) = self.bundles.iter().position(|open| open.bundle.root == reader.root) {
            return Ok(known);
        }
        let refused = |Refusal { why, hint }: Refusal| Error::Refused { what: what.into(), why, hint };
        if self.bundles.len() >= MAX_BUNDLES {
            let why = format!("at most {MAX_BUNDLES} bundles can be imported at once");
            return Err(refused(Refusal { why, hint: "import them by several commands" }));
        }
        let manifest = reader.manifest.clone();
        let bundle = ReadBundle { root: reader.root, manifest, missing_parts: None };
        (self.check)(&bundle).map_err(refused)?;
        let importer = expect(&self.content, &bundle)?;
        let (trees, parts) = (Trees::of(&bundle), BTreeSet::new());
        self.bundles.push(OpenBundle { bundle, importer, trees, parts, last: None });
        Ok(self.bundles.len() - 1)
    }

    /// Takes the blocks of a part.
    fn blocks(&mut self, number: usize, reader: &mut BundleReader<Input>) -> Result<(), Error> {
        let (what, mut damaged, mut ended) = (reader.what().to_string(), 0u64, false);
        let open = &mut self.bundles[number];
        loop {
            (self.progress)(self.done + reader.position());
            let block = match reader.next_unverified() {
                Ok(Some(block)) => block,
                Ok(None) => break,
                Err(ReadError::Input(error)) => {
                    self.problems.push(format!("cannot read {what}: {error}"));
                    return Ok(());
                }
                Err(ReadError::Invalid(error)) => {
                    self.problems.push(format!("{what}, at byte {}: {error}", reader.position()));
                    return Ok(());
                }
            };
            if !is_block(&block.cid, &block.data) {
                damaged += 1;
                continue;
            }
            if let Some(end) = end_of(&open.bundle.root, &block) {
                ended = true;
                open.parts.insert(end.part);
                open.last = open.last.or(end.last.then_some(end.part));
                continue;
            }
            let cid = block.cid;
            let is_tree = open.trees.put(self.content.store(), block.clone())?;
            self.expansion.add(open.importer.fills(&block), self.done + reader.position(), &what)?;
            // Below a damaged node it is not known what belongs there.
            if !open.importer.put(block)? && !is_tree && damaged == 0 {
                let text = format!("{what} has the block {cid} where it does not belong");
                self.problems.push(format!("{text}: the bundle was reordered or edited"));
                return Ok(());
            }
        }
        if damaged > 0 {
            self.problems.push(format!("{what} is damaged: {damaged} of its blocks do not match their CIDs"));
        } else if !ended {
            self.problems.push(format!("{what} is truncated: its end is missing"));
        }
        Ok(())
    }
}

/// Begins a bundle: what is stored is not expected again.
fn expect(content: &Content, bundle: &ReadBundle) -> Result<FileImporter, Error> {
    let store: &Store = content.store();
    let mut importer = FileImporter::new(content.clone(), bundle.root, origin(content, bundle))?;
    for blob in bundle.manifest.contained() {
        let Some(root) = blob.cid else { continue };
        let (digest, is_stored) = (blob.digest.clone(), store.present_guarded(&blob.digest)?.is_some());
        importer.expect(ExpectedFile { digest, size: blob.size, root, is_stored })?;
    }
    Ok(importer)
}

/// Returns how the content of a bundle counts: as that of peers, or as pushed where any of its repositories is not for all.
fn origin(content: &Content, bundle: &ReadBundle) -> Origin {
    let is_for_all = |repository: &Name| content.store().is_for_all(repository.as_str());
    match bundle.manifest.images.iter().all(|image| is_for_all(&image.repository)) {
        true => Origin::Peers,
        false => Origin::Pushed,
    }
}

fn end_of(bundle: &Cid, block: &Block) -> Option<EndOfPart> {
    EndOfPart::parse(&block.data).filter(|end| end.bundle == bundle.to_string())
}

/// Says which parts of a bundle were not among the files. What earlier imports read is not known.
fn missing_parts(parts: &BTreeSet<u32>, last: Option<u32>) -> Option<String> {
    let end = last.or(parts.last().copied())?;
    let missing: Vec<String> =
        (1..=end).filter(|part| !parts.contains(part)).take(20).map(|part| part.to_string()).collect();
    let unknown = last.is_none().then(|| format!("those after {end}"));
    let all: Vec<String> = missing.into_iter().chain(unknown).collect();
    let known = if last.is_some() { format!(" of {end}") } else { String::new() };
    (!all.is_empty()).then(|| {
        let all = all.join(", ");
        format!("parts of the bundle were not given: {all}{known}; import those, too, that no earlier import has read")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_parts_of_a_split_bundle_are_named() {
        for (parts, last, expected) in [
            (&[1u32][..], Some(1), None),
            (&[1, 2, 3], Some(3), None),
            (&[3, 1], Some(3), Some("2 of 3")),
            (&[2, 1], None, Some("those after 2")),
            (&[2], None, Some("1, those after 2")),
            (&[], None, None),
        ] {
            let parts = parts.iter().copied().collect();
            let told = missing_parts(&parts, last);
            let named = told.as_deref().and_then(|told| {
                Some(told.strip_prefix("parts of the bundle were not given: ")?.split_once(';')?.0)
            });
            assert_eq!((named, told.is_some()), (expected, expected.is_some()), "{parts:?} {last:?}");
        }
    }
}
