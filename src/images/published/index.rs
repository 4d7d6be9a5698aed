//! `index.json`: one entry a tag, and one for each manifest that nothing else leads to.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use ocipfs_oci::{Descriptor, Digest, Index, Name, media_type};

use super::Published;
use crate::{
    content::{Chunked, Document, Error, Profile, Share, StoreError},
    images::{
        import::REF_NAME,
        layout::{MAX_BYTES, MAX_ENTRIES, SUBJECT},
        repository::Pushed,
    },
};

impl Published {
    /// The index of a repository, the same bytes for the same repository; none where there is no such.
    pub(super) fn index(&self, name: &Name) -> Result<Option<Document>, Error> {
        if !self.repositories.has(name)? {
            return Ok(None);
        }
        let mut json = Json::new(self.profile);
        let mut listing = self.repositories.listing(name)?;
        self.leave_out_hidden(&mut listing.manifests)?;
        let by_digest: HashMap<&Digest, &Pushed> =
            listing.manifests.iter().map(|manifest| (&manifest.piece.digest, manifest)).collect();
        let (mut tagged, mut reached) = (HashSet::new(), HashSet::new());
        for (tag, digest) in &listing.tags {
            if let Some(manifest) = by_digest.get(digest) {
                let mut entry = descriptor(manifest);
                entry.annotations.insert(REF_NAME.into(), tag.to_string());
                json.push(tag.as_str(), &entry)?;
                tagged.insert(digest);
            }
        }
        for manifest in listing.manifests.iter().filter(|manifest| manifest.media_type.is_index()) {
            reached.extend(self.children(&manifest.piece.digest)?.iter().cloned());
        }
        for manifest in &listing.manifests {
            let digest = &manifest.piece.digest;
            // What refers to something is found by its entry alone.
            if !tagged.contains(digest) && (manifest.subject.is_some() || !reached.contains(digest)) {
                json.push(&digest.to_string(), &descriptor(manifest))?;
            }
        }
        if json.left_out > 0 {
            tracing::warn!(
                repository = %name,
                "its index.json has room for {} of {} entries: the others are found by digest alone",
                json.entries,
                json.entries + json.left_out
            );
        }
        Ok(Some(json.finish()))
    }

    /// Leaves out manifests that are hidden since the node left a network.
    fn leave_out_hidden(&self, manifests: &mut Vec<Pushed>) -> Result<(), StoreError> {
        let mut shown = Vec::new();
        for manifest in std::mem::take(manifests) {
            if Share::All.shows(&self.store, &manifest.piece.root)? {
                shown.push(manifest);
            }
        }
        *manifests = shown;
        Ok(())
    }

    /// What an index lists; nothing where it cannot be read as one.
    fn children(&self, digest: &Digest) -> Result<Arc<[Digest]>, StoreError> {
        if let Some(children) = self.children.get(digest) {
            return Ok(children);
        }
        let Some(stored) = self.store.present(digest)? else { return Ok([].into()) };
        let file = self.store.open_file(&stored)?;
        let bytes = file.read_at(0, stored.size as usize).map_err(|e| StoreError::Damaged(e.to_string()))?;
        let index = Index::parse(&bytes).map(|index| index.manifests).unwrap_or_default();
        let children: Arc<[Digest]> = index.into_iter().map(|child| child.digest).collect();
        self.children.insert(digest.clone(), children.clone(), children.len() + 1);
        Ok(children)
    }
}

fn descriptor(manifest: &Pushed) -> Descriptor {
    let kind = manifest.artifact_type.as_ref();
    let subject = manifest.subject.iter().map(|subject| (SUBJECT.into(), subject.to_string()));
    Descriptor {
        artifact_type: kind.and_then(|kind| kind.parse().ok()),
        annotations: subject.collect(),
        ..Descriptor::new(manifest.media_type.clone(), manifest.piece.digest.clone(), manifest.piece.size)
    }
}

/// An index as it is written, within the bounds of those who read it, and cut at its entries.
struct Json {
    file: Chunked,
    length: u64,
    entries: usize,
    left_out: usize,
}

const END: &[u8] = b"]}";

impl Json {
    fn new(profile: Profile) -> Self {
        let kind = media_type::OCI_INDEX;
        let begin = format!(r#"{{"schemaVersion":2,"mediaType":"{kind}","manifests":["#);
        let mut file = Chunked::new(profile);
        file.write(begin.as_bytes());
        Self { file, length: begin.len() as u64, entries: 0, left_out: 0 }
    }

    fn push(&mut self, name: &str, entry: &Descriptor) -> Result<(), StoreError> {
        let entry = serde_json::to_vec(entry).map_err(|e| StoreError::Damaged(e.to_string()))?;
        let length = self.length + 1 + entry.len() as u64;
        if self.left_out > 0 || self.entries == MAX_ENTRIES || length + END.len() as u64 > MAX_BYTES {
            self.left_out += 1;
            return Ok(());
        }
        if self.entries > 0 {
            self.file.write(b",");
        }
        self.file.entry(name, &entry);
        self.length = length;
        self.entries += 1;
        Ok(())
    }

    fn finish(mut self) -> Document {
        self.file.write(END);
        self.file.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::published::tests::bytes_of;

    #[test]
    fn what_is_written_is_an_index_and_ends_at_its_bounds() {
        let entry = |n: usize| {
            let digest = Digest::sha256_of(&n.to_le_bytes());
            let mut entry = Descriptor::new(media_type::OCI_MANIFEST.parse().unwrap(), digest, 7);
            entry.annotations.insert(REF_NAME.into(), format!("v{n}"));
            entry
        };
        let written = |entries: usize| {
            let mut json = Json::new(Profile::UnixfsV1);
            (0..entries).for_each(|n| json.push(&format!("v{n}"), &entry(n)).unwrap());
            let left_out = json.left_out;
            (bytes_of(&json.finish()), left_out)
        };
        for entries in [0, 1, 3] {
            let whole = Index::new((0..entries).map(entry).collect());
            assert_eq!(written(entries), (serde_json::to_vec(&whole).unwrap(), 0));
        }
        let (bytes, left_out) = written(MAX_ENTRIES + 2);
        assert_eq!((Index::parse(&bytes).unwrap().manifests.len(), left_out), (MAX_ENTRIES, 2));
    }
}
