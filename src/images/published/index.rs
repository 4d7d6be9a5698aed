//! `index.json`: one entry a tag, and one for each manifest that nothing else leads to.

use ocipfs_node::Cid;
use ocipfs_oci::{Descriptor, MediaType, Name};
use serde_json::Deserializer;

use super::Published;
use crate::{
    content::{Document, Edited, EntryFormat, EntryKey, Error, SharePolicy, StoreError, TreeVersion},
    images::{
        archive::REF_NAME,
        layout::{BEGIN, BETWEEN, END, MAX_BYTES, MAX_ENTRIES, SUBJECT},
        repository::{Listing, Pushed, is_digest},
    },
};

/// How the index of a repository is written.
pub(super) enum PublishedIndex {
    /// It is written from nothing.
    Whole(Document),
    /// It is made of the one before.
    Edited(Edited),
}

/// Facts about an index that was written.
#[derive(Clone, Copy)]
pub(super) struct RememberedIndex {
    /// The last change that it takes up.
    last_change: u64,
    entries: usize,
}

impl Published {
    /// The index of a repository, the same bytes for the same repository; none where it does not exist. Where what is known
    /// of the one before allows it, only what changes is read of that.
    pub(super) fn index(
        &self,
        before: Option<TreeVersion>,
        name: &Name,
    ) -> Result<Option<PublishedIndex>, Error> {
        if !self.is_published(name)? {
            return Ok(None);
        }
        if let Some(before) = self.find(before, &format!("{name}/index.json"))?
            && let Some(written) = self.indexes.get(&(name.clone(), before))
            && let Some(edited) = self.edit_index(name, before, written)?
        {
            return Ok(Some(PublishedIndex::Edited(edited)));
        }
        Ok(self.write_index(name)?.map(PublishedIndex::Whole))
    }

    /// Makes an index of the one before. None where it has to be written from nothing.
    fn edit_index(
        &self,
        name: &Name,
        before: Cid,
        written: RememberedIndex,
    ) -> Result<Option<Edited>, Error> {
        let changed = self.repositories.changed_entries(name, written.last_change)?;
        let Some(Listing { last_change, entries }) = changed else { return Ok(None) };
        let edits = entries.into_iter().map(|(text, manifest)| {
            let shown = manifest.map(|manifest| self.shown(manifest)).transpose()?.flatten();
            let bytes = shown.map(|manifest| bytes(&text, &manifest)).transpose()?;
            Ok((key(text), bytes))
        });
        let edits = edits.collect::<Result<Vec<_>, StoreError>>()?;
        let edited = form().edit(self.profile, before, &edits, &|cid| self.node(cid))?;
        let entries = written.entries.saturating_add_signed(edited.entry_change);
        // Each entry counts with a comma, also the first.
        if entries > MAX_ENTRIES || edited.root.size + 1 > MAX_BYTES {
            return Ok(None);
        }
        #[cfg(test)]
        super::tests::count(|counts| counts.edits += 1);
        self.remember(name, edited.root.cid, RememberedIndex { last_change, entries });
        Ok(Some(edited))
    }

    pub(super) fn write_index(&self, name: &Name) -> Result<Option<Document>, Error> {
        let Some(Listing { last_change, entries: manifests }) = self.repositories.listing(name)? else {
            return Ok(None);
        };
        let (mut all, mut room, mut is_full) = (0, IndexBounds::new(), false);
        let mut entries = Vec::new();
        for (text, manifest) in manifests {
            let Some(manifest) = self.shown(manifest)? else { continue };
            let bytes = bytes(&text, &manifest)?;
            all += 1;
            is_full |= !room.reserve(bytes.len());
            if !is_full {
                entries.push((key(text), bytes));
            }
        }
        let count = entries.len();
        let document = form().write(self.profile, entries)?;
        if count < all {
            tracing::warn!(
                repository = %name,
                "index.json has room for {count} of {all} entries: the others can only be pulled by digest"
            );
        } else {
            self.remember(name, document.root.cid, RememberedIndex { last_change, entries: count });
        }
        Ok(Some(document))
    }

    /// Leaves out a manifest that is hidden since the node left a network.
    fn shown(&self, manifest: Pushed) -> Result<Option<Pushed>, StoreError> {
        Ok(SharePolicy::All.shows(&self.store, &manifest.blob.root)?.then_some(manifest))
    }

    fn remember(&self, name: &Name, index: Cid, written: RememberedIndex) {
        self.indexes.insert((name.clone(), index), written, 1);
    }
}

fn descriptor(text: &str, manifest: &Pushed) -> Descriptor {
    let kind = manifest.artifact_type.as_ref();
    let subject = manifest.subject.iter().map(|subject| (SUBJECT.into(), subject.to_string()));
    let tag = (!is_digest(text)).then(|| (REF_NAME.into(), text.into()));
    Descriptor {
        artifact_type: kind.map(MediaType::stated),
        annotations: subject.chain(tag).collect(),
        ..Descriptor::new(manifest.media_type.clone(), manifest.blob.digest.clone(), manifest.blob.size)
    }
}

fn bytes(text: &str, manifest: &Pushed) -> Result<Vec<u8>, StoreError> {
    #[cfg(test)]
    super::tests::count(|counts| counts.entries += 1);
    serde_json::to_vec(&descriptor(text, manifest)).map_err(|e| StoreError::Damaged(e.to_string()))
}

fn key(text: String) -> EntryKey {
    EntryKey { rank: is_digest(&text).into(), name: text }
}

fn form() -> EntryFormat {
    EntryFormat { begin: BEGIN, between: BETWEEN, end: END, read }
}

/// Reads an entry as it was written.
fn read(bytes: &[u8]) -> Result<(EntryKey, usize), String> {
    let mut entries = Deserializer::from_slice(bytes).into_iter::<Descriptor>();
    let entry = entries.next().ok_or("no entry")?.map_err(|e| e.to_string())?;
    let text = entry.annotation(REF_NAME).map_or_else(|| entry.digest.to_string(), Into::into);
    Ok((key(text), entries.byte_offset()))
}

/// The room for entries, within the bounds of those who read an index.
struct IndexBounds {
    entries: usize,
    bytes: u64,
}

impl IndexBounds {
    fn new() -> Self {
        let form = form();
        Self { entries: MAX_ENTRIES, bytes: MAX_BYTES - (form.begin.len() + form.end.len()) as u64 }
    }

    /// Takes the room of an entry, if there is as much.
    fn reserve(&mut self, length: usize) -> bool {
        let bytes = self.bytes.checked_sub(1 + length as u64);
        let (Some(entries), Some(bytes)) = (self.entries.checked_sub(1), bytes) else { return false };
        (self.entries, self.bytes) = (entries, bytes);
        true
    }
}

#[cfg(test)]
mod tests {
    use ocipfs_oci::{Digest, Index, media_type};

    use super::*;
    use crate::{content::Profile, images::published::tests::bytes_of};

    fn entry(n: usize) -> Descriptor {
        let digest = Digest::sha256_of(&n.to_le_bytes());
        let mut entry = Descriptor::new(media_type::OCI_MANIFEST.parse().unwrap(), digest, 7);
        entry.annotations.insert(REF_NAME.into(), format!("v{n}"));
        entry
    }

    #[test]
    fn a_written_index_json_is_parsed_whole_and_entry_by_entry() {
        for count in [0, 1, 3] {
            let mut whole = Index::new((0..count).map(entry).collect());
            whole.annotations.insert("io.ocipfs.tags".into(), "complete".into());
            let entries = (0..count).map(|n| (key(format!("v{n}")), serde_json::to_vec(&entry(n)).unwrap()));
            let document = form().write(Profile::UnixfsV1, entries).unwrap();
            assert_eq!(bytes_of(&document), serde_json::to_vec(&whole).unwrap());
        }
        let bytes = serde_json::to_vec(&entry(5)).unwrap();
        let followed = [bytes.as_slice(), b",{"].concat();
        assert_eq!(read(&followed).unwrap(), (key("v5".into()), bytes.len()));
        assert!(read(b"]}").is_err());
    }

    #[test]
    fn index_json_is_bounded_by_the_entries_and_bytes_that_readers_accept() {
        let taken = |length: usize| {
            let mut room = IndexBounds::new();
            std::iter::repeat_with(|| room.reserve(length)).take_while(|taken| *taken).count()
        };
        assert_eq!(taken(1), MAX_ENTRIES);
        let half = (MAX_BYTES / 2) as usize;
        assert_eq!((taken(half - 100), taken(half)), (2, 1));
    }
}
