//! An image of some platforms of several: its indexes name no others.

use bytes::Bytes;
use ocipfs_oci::{Descriptor, Digest, Platform};

use super::{ImageTree, TreeError, platforms};
use crate::images::archive::{self, ManifestOrIndex};

/// Indexes within indexes.
const MAX_DEPTH: usize = 8;

impl ImageTree {
    /// Leaves the entries of other platforms out of the indexes, which get other digests. Of a tree that was read for the same
    /// platforms nothing else is missing.
    ///
    /// # Errors
    /// Fails if an index has none of the platforms.
    pub fn reduce(&mut self, platforms: &[Platform]) -> Result<(), TreeError> {
        if !platforms.is_empty() {
            let mut replaced = Vec::new();
            self.top = self.reduced(self.top.clone(), platforms, MAX_DEPTH, &mut replaced)?;
            // Not before: an index may name another one twice.
            replaced.iter().for_each(|digest| drop(self.documents.remove(digest)));
        }
        Ok(())
    }

    fn reduced(
        &mut self,
        descriptor: Descriptor,
        platforms: &[Platform],
        depth: usize,
        replaced: &mut Vec<Digest>,
    ) -> Result<Descriptor, TreeError> {
        let Some(bytes) = self.documents.get(&descriptor.digest) else { return Ok(descriptor) };
        let Some(ManifestOrIndex::Index(mut index)) = ManifestOrIndex::of(&descriptor, bytes)? else {
            return Ok(descriptor);
        };
        let depth = depth.checked_sub(1).ok_or(TreeError::TooLarge)?;
        let before = index.clone();
        let entries = platforms::wanted(std::mem::take(&mut index.manifests), platforms);
        let entries = entries.map_err(|found| {
            let wanted = platforms.iter().map(Platform::to_string).collect();
            TreeError::NoPlatform { digest: descriptor.digest.clone(), wanted, found }
        })?;
        for entry in entries {
            index.manifests.push(self.reduced(entry, platforms, depth, replaced)?);
        }
        // An index that has all of it keeps its bytes.
        if index == before {
            return Ok(descriptor);
        }
        let why = |error: serde_json::Error| error.to_string();
        let json = serde_json::to_vec(&index).map_err(|error| archive::Error::Document {
            what: descriptor.digest.to_string(),
            why: why(error),
        })?;
        replaced.push(descriptor.digest.clone());
        let (digest, size) = (Digest::sha256_of(&json), json.len() as u64);
        self.documents.insert(digest.clone(), Bytes::from(json));
        Ok(Descriptor { digest, size, data: None, ..descriptor })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use ocipfs_oci::{Index, media_type};

    use super::*;

    fn descriptor(kind: &'static str, bytes: &[u8], platform: Option<&str>) -> Descriptor {
        let media_type = kind.parse().unwrap();
        let mut made = Descriptor::new(media_type, Digest::sha256_of(bytes), bytes.len() as u64);
        made.platform = platform.map(|text| text.parse().unwrap());
        made
    }

    fn tree(top: &Index) -> ImageTree {
        let json = serde_json::to_vec(top).unwrap();
        let top = descriptor(media_type::OCI_INDEX, &json, None);
        ImageTree {
            documents: BTreeMap::from([(top.digest.clone(), json.into())]),
            top,
            order: Vec::new(),
            manifests: Vec::new(),
            blobs: BTreeMap::new(),
            absent: HashSet::new(),
            referrers: Vec::new(),
            warnings: Vec::new(),
        }
    }

    #[test]
    fn the_index_of_a_reduced_image_names_no_other_platforms() {
        let manifest = |text: &str, platform| descriptor(media_type::OCI_MANIFEST, text.as_bytes(), platform);
        let entries = [manifest("1", Some("linux/amd64")), manifest("2", Some("linux/arm64"))];
        let index = Index::new(entries.to_vec());
        let platforms =
            |texts: &[&str]| -> Vec<Platform> { texts.iter().map(|text| text.parse().unwrap()).collect() };
        let mut reduced = tree(&index);
        let before = reduced.top.clone();
        reduced.reduce(&platforms(&["linux/arm64"])).unwrap();
        let json = &reduced.documents[&reduced.top.digest];
        assert_eq!(Index::parse(json).unwrap().manifests, entries[1..]);
        assert_eq!(reduced.top.size, json.len() as u64);
        assert!(reduced.top.digest != before.digest && !reduced.documents.contains_key(&before.digest));
        // An index that another one names twice is left out of none.
        let json = serde_json::to_vec(&index).unwrap();
        let nested = descriptor(media_type::OCI_INDEX, &json, None);
        let mut outer = tree(&Index::new(vec![nested.clone(), nested.clone()]));
        outer.documents.insert(nested.digest.clone(), json.into());
        outer.reduce(&platforms(&["linux/arm64"])).unwrap();
        let entries = Index::parse(&outer.documents[&outer.top.digest]).unwrap().manifests;
        assert!(entries.iter().all(|entry| outer.documents.contains_key(&entry.digest)), "{entries:?}");
        assert!(!outer.documents.contains_key(&nested.digest));
        for all in [&[][..], &["linux/amd64", "linux/arm64"]] {
            let mut whole = tree(&index);
            whole.reduce(&platforms(all)).unwrap();
            assert_eq!(whole.top, before, "{all:?}");
        }
        let refused = tree(&index).reduce(&platforms(&["linux/s390x"])).unwrap_err().to_string();
        assert!(refused.ends_with("has no linux/s390x: it has linux/amd64, linux/arm64"), "{refused}");
    }
}
