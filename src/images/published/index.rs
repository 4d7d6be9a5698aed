//! `index.json`: one entry a tag, and one for each manifest that nothing else leads to.

use std::{collections::HashSet, sync::Arc};

use ocipfs_oci::{Descriptor, Digest, Index, Name, media_type};

use super::{PAGE, Published, pages};
use crate::{
    content::{Error, StoreError},
    images::{
        import::REF_NAME,
        layout::{MAX_BYTES, MAX_ENTRIES, SUBJECT},
        repository::Pushed,
    },
};

impl Published {
    /// The index of a repository, the same bytes for the same repository; none where there is no such.
    pub(super) fn index(&self, name: &Name) -> Result<Option<Vec<u8>>, Error> {
        if !self.repositories.has(name)? {
            return Ok(None);
        }
        let mut json = Json::new();
        let (mut tagged, mut reached) = (HashSet::new(), HashSet::new());
        pages(
            |last| self.repositories.tags(name, last, PAGE),
            |(tag, digest)| {
                let manifest = self.repositories.manifest(name, &digest)?;
                if let Some(manifest) = manifest {
                    let mut entry = descriptor(&manifest);
                    entry.annotations.insert(REF_NAME.into(), tag.to_string());
                    json.push(&entry)?;
                    tagged.insert(digest);
                }
                Ok::<_, StoreError>(tag.to_string())
            },
        )?;
        let mut others = Vec::new();
        pages(
            |last| self.repositories.manifests(name, last, PAGE),
            |manifest| {
                let digest = manifest.piece.digest.clone();
                if manifest.media_type.is_index() {
                    reached.extend(self.children(&digest)?.iter().cloned());
                }
                let text = digest.to_string();
                others.push(manifest);
                Ok::<_, StoreError>(text)
            },
        )?;
        others.retain(|manifest| {
            let digest = &manifest.piece.digest;
            // What refers to something is found by its entry alone.
            !tagged.contains(digest) && (manifest.subject.is_some() || !reached.contains(digest))
        });
        others.iter().try_for_each(|manifest| json.push(&descriptor(manifest)))?;
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

/// An index as it is written, within the bounds of those who read it.
struct Json {
    bytes: Vec<u8>,
    entries: usize,
    left_out: usize,
}

const END: &[u8] = b"]}";

impl Json {
    fn new() -> Self {
        let kind = media_type::OCI_INDEX;
        let bytes = format!(r#"{{"schemaVersion":2,"mediaType":"{kind}","manifests":["#).into_bytes();
        Self { bytes, entries: 0, left_out: 0 }
    }

    fn push(&mut self, entry: &Descriptor) -> Result<(), StoreError> {
        let entry = serde_json::to_vec(entry).map_err(|e| StoreError::Damaged(e.to_string()))?;
        let length = (self.bytes.len() + 1 + entry.len() + END.len()) as u64;
        if self.left_out > 0 || self.entries == MAX_ENTRIES || length > MAX_BYTES {
            self.left_out += 1;
            return Ok(());
        }
        if self.entries > 0 {
            self.bytes.push(b',');
        }
        self.bytes.extend_from_slice(&entry);
        self.entries += 1;
        Ok(())
    }

    fn finish(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(END);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_an_index_and_ends_at_its_bounds() {
        let entry = |n: usize| {
            let digest = Digest::sha256_of(&n.to_le_bytes());
            let mut entry = Descriptor::new(media_type::OCI_MANIFEST.parse().unwrap(), digest, 7);
            entry.annotations.insert(REF_NAME.into(), format!("v{n}"));
            entry
        };
        let written = |entries: usize| {
            let mut json = Json::new();
            (0..entries).for_each(|n| json.push(&entry(n)).unwrap());
            let left_out = json.left_out;
            (json.finish(), left_out)
        };
        for entries in [0, 1, 3] {
            let whole = Index::new((0..entries).map(entry).collect());
            assert_eq!(written(entries), (serde_json::to_vec(&whole).unwrap(), 0));
        }
        let (bytes, left_out) = written(MAX_ENTRIES + 2);
        assert_eq!((Index::parse(&bytes).unwrap().manifests.len(), left_out), (MAX_ENTRIES, 2));
    }
}
