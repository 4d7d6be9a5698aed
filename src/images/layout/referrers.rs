//! What refers to a manifest of a layout: its index says so where it was published here, else its manifests are read.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt, stream};
use ocipfs_oci::{Descriptor, Digest};

use super::{AT_ONCE, Entry, Layout};
use crate::{
    content::{self, Content},
    images::{Error, repository::inspect},
};

/// Manifests that are read for it where no index says what refers to what.
const READ: usize = 256;

/// The entries that may refer to something.
pub enum Referring {
    /// By what they refer to.
    Told(BTreeMap<Digest, Vec<Entry>>),
    /// Some of these: what refers to something has no tag.
    Among(Vec<Entry>),
}

impl Referring {
    pub fn of(entries: &[Entry]) -> Self {
        let mut told: BTreeMap<Digest, Vec<Entry>> = BTreeMap::new();
        for entry in entries {
            if let Some(subject) = &entry.subject {
                told.entry(Digest::clone(subject)).or_default().push(entry.clone());
            }
        }
        match told.is_empty() {
            true => {
                let untagged = entries.iter().filter(|entry| entry.ref_name.is_none());
                Self::Among(untagged.take(READ).cloned().collect())
            }
            false => Self::Told(told),
        }
    }

    fn to(&self, subject: &Digest) -> &[Entry] {
        match self {
            Self::Told(told) => told.get(subject).map_or(&[], Vec::as_slice),
            Self::Among(entries) => entries,
        }
    }
}

impl Layout {
    /// What refers to a manifest, by digests. What the index says is only where to look: the manifests count.
    pub async fn referrers(&self, content: &Content, subject: &Digest) -> Result<Vec<Descriptor>, Error> {
        let read = stream::iter(self.referring.to(subject).to_vec()).map(|entry| async move {
            let document = match self.document(content, &entry).await {
                // An index that is sparse, and a manifest that is none, refer to nothing.
                Err(Error::Content(content::Error::NoEntry { .. }) | Error::Malformed { .. }) => {
                    return Ok(None);
                }
                document => document?,
            };
            let inspected = inspect(&document.bytes, &document.digest, Some(document.media_type.as_str()));
            let refers = inspected.ok().filter(|it| it.subject.as_ref() == Some(subject));
            Ok::<_, Error>(refers.map(|it| it.referrer))
        });
        let read: Vec<Option<Descriptor>> = read.buffered(AT_ONCE).try_collect().await?;
        let mut all: Vec<Descriptor> = read.into_iter().flatten().collect();
        all.sort_by_cached_key(|referrer| referrer.digest.to_string());
        all.dedup_by(|one, other| one.digest == other.digest);
        Ok(all)
    }
}
