//! The tags of indexes within an index.

use std::collections::HashSet;

use ocipfs_oci::Digest;

use super::{
    CONCURRENCY, Layout, MAX_DEPTH, MAX_NESTED, Nested,
    index::{Entry, MAX_ENTRIES, Tags, each},
    malformed,
};
use crate::{
    content::{self, Content},
    images::{Error, MAX_MANIFEST},
};

/// Remaining bounds of a search.
struct SearchBudget {
    indexes: usize,
    entries: usize,
}

impl Layout {
    /// Reads the indexes level by level, each once: an index that leads to itself ends there.
    pub(super) async fn search(&self, content: &Content) -> Result<Nested, Error> {
        let mut nested = Nested::default();
        let mut left = SearchBudget { indexes: MAX_NESTED, entries: MAX_ENTRIES };
        let mut level = self.index.indexes.clone();
        let mut seen: HashSet<Digest> = HashSet::new();
        level.retain(|entry| seen.insert(entry.digest.clone()));
        for _ in 0..MAX_DEPTH {
            level.truncate(left.indexes);
            left.indexes -= level.len();
            let (mut tags, mut below) = (Tags::default(), Vec::new());
            for some in level.chunks(CONCURRENCY) {
                let fetched = some.iter().map(|index| self.fetch_document(content, index));
                let there = futures::future::try_join_all(fetched).await?;
                for (index, _) in some.iter().zip(there).filter(|(_, is_there)| *is_there) {
                    let take = |entry: Entry| {
                        if entry.is_index() && below.len() < MAX_NESTED && seen.insert(entry.digest.clone()) {
                            below.push(Entry { ref_name: None, ..entry.clone() });
                        }
                        tags.add(entry);
                    };
                    nested.is_cut = nested.is_cut || !self.search_in(content, index, &mut left, take).await?;
                }
                if nested.is_cut {
                    break;
                }
            }
            for (tag, entry) in tags.finish() {
                nested.tags.entry(tag).or_insert(entry);
            }
            if nested.is_cut || below.is_empty() {
                break;
            }
            level = below;
        }
        Ok(nested)
    }

    /// Fetches an index, of which nothing stays in memory; false if the layout leaves it out, as one of a single platform
    /// may.
    async fn fetch_document(&self, content: &Content, index: &Entry) -> Result<bool, Error> {
        let blob = self.files.at_path(index.digest.clone(), index.size, self.files.path(&index.digest));
        match content.fetch_document(&blob, MAX_MANIFEST).await {
            Err(content::Error::NoEntry { .. }) => Ok(false),
            fetched => Ok(fetched.map(|()| true)?),
        }
    }

    /// Gives `take` the entries of an index; false where they are too many.
    async fn search_in(
        &self,
        content: &Content,
        index: &Entry,
        left: &mut SearchBudget,
        take: impl FnMut(Entry),
    ) -> Result<bool, Error> {
        let document = self.files.document(content, index).await?;
        match each(&document.bytes, &mut left.entries, take) {
            Ok(_) => Ok(true),
            Err(_) if left.entries == 0 => Ok(false),
            Err(e) => Err(malformed(&self.files.path(&index.digest), format!("invalid image index: {e}"))),
        }
    }
}
