//! What refers to a manifest of a layout: its index says so where it was published here, else its manifests are read.

use std::collections::{BTreeMap, btree_map};

use futures::{StreamExt, stream};
use ocipfs_oci::{Descriptor, Digest};

use super::{AT_ONCE, Entry, Layout};
use crate::{
    content::{self, Content},
    images::{Error, repository::inspect},
};

/// Manifests that are read for one answer.
const READ: usize = 256;
/// Bytes of descriptors in one answer.
const MOST_BYTES: usize = 3 << 20;

/// The entries that may refer to something, by their digests.
pub enum Referring {
    /// By what they refer to.
    Told(BTreeMap<Digest, BTreeMap<String, Entry>>),
    /// Some of these: what refers to something has no tag.
    Among(BTreeMap<String, Entry>),
}

/// What refers to a manifest, by digests.
#[derive(Debug, Default)]
pub struct Referrers {
    /// Some of it.
    pub found: Vec<Descriptor>,
    /// Where there may be more: the digest after which that begins.
    pub more_after: Option<String>,
}

impl Referrers {
    /// Joins two answers about one manifest. What comes after the end of one of them is left for the next page.
    pub fn and(self, other: Self) -> Self {
        let more_after = [self.more_after, other.more_after].into_iter().flatten().min();
        let all = self.found.into_iter().chain(other.found);
        let mut found: BTreeMap<String, Descriptor> =
            all.map(|referrer| (referrer.digest.to_string(), referrer)).collect();
        if let Some(last) = &more_after {
            found.retain(|digest, _| digest <= last);
        }
        Self { found: found.into_values().collect(), more_after }
    }
}

impl Referring {
    pub fn of(entries: &[Entry]) -> Self {
        let mut told: BTreeMap<Digest, BTreeMap<String, Entry>> = BTreeMap::new();
        for entry in entries {
            if let Some(subject) = &entry.subject {
                let of = told.entry(Digest::clone(subject)).or_default();
                of.insert(entry.digest.to_string(), entry.clone());
            }
        }
        match told.is_empty() {
            true => {
                let untagged = entries.iter().filter(|entry| entry.ref_name.is_none()).take(READ);
                Self::Among(untagged.map(|entry| (entry.digest.to_string(), entry.clone())).collect())
            }
            false => Self::Told(told),
        }
    }

    /// How many entries it holds.
    pub fn len(&self) -> usize {
        match self {
            Self::Told(told) => told.values().map(BTreeMap::len).sum(),
            Self::Among(entries) => entries.len(),
        }
    }

    fn after(&self, subject: &Digest, last: &str) -> Option<btree_map::Range<'_, String, Entry>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let entries = match self {
            Self::Told(told) => told.get(subject)?,
            Self::Among(entries) => entries,
        };
        Some(entries.range::<str, _>((Excluded(last), Unbounded)))
    }

    /// Whether a manifest that cannot be had may be what was asked for.
    fn is_told(&self) -> bool {
        matches!(self, Self::Told(_))
    }
}

impl Layout {
    /// What refers to a manifest, of the entries after `last`. What the index says is only where to look: the manifests
    /// count.
    pub async fn referrers(
        &self,
        content: &Content,
        subject: &Digest,
        last: &str,
    ) -> Result<Referrers, Error> {
        let mut answer = Referrers::default();
        let Some(entries) = self.index.referring.after(subject, last) else { return Ok(answer) };
        let some: Vec<(String, Entry)> =
            entries.take(READ + 1).map(|(digest, entry)| (digest.clone(), entry.clone())).collect();
        let is_cut = some.len() > READ;
        let mut documents = stream::iter(some.into_iter().take(READ))
            .map(|(digest, entry)| async move { (digest, self.files.document(content, &entry).await) })
            .buffered(AT_ONCE);
        let (mut bytes, mut reached) = (0, None);
        while let Some((digest, document)) = documents.next().await {
            let document = match document {
                Ok(document) => document,
                Err(error) if is_unfit(&error) => {
                    reached = Some(digest);
                    continue;
                }
                Err(error) if self.index.referring.is_told() => return Err(error),
                // Nothing says that this one refers to anything, and the next would take as long.
                Err(error) => {
                    tracing::debug!(%error, "what refers to a manifest is not looked for further");
                    return Ok(answer);
                }
            };
            let inspected = inspect(&document.bytes, &document.digest, Some(document.media_type.as_str()));
            if let Some(it) = inspected.ok().filter(|it| it.subject.as_ref() == Some(subject)) {
                bytes += serde_json::to_vec(&it.referrer).map_or(0, |json| json.len());
                if bytes > MOST_BYTES && !answer.found.is_empty() {
                    answer.more_after = reached;
                    return Ok(answer);
                }
                answer.found.push(it.referrer);
            }
            reached = Some(digest);
        }
        answer.more_after = reached.filter(|_| is_cut);
        Ok(answer)
    }
}

/// Whether something is no document of a layout, or none that is there, wherever it is read.
pub(super) fn is_unfit(error: &Error) -> bool {
    use content::Error::{Corrupt, Mismatch, NoEntry, NotAFile, TooLarge};
    match error {
        Error::Content(why) => matches!(
            why,
            NoEntry { .. } | TooLarge { .. } | Mismatch { .. } | NotAFile { .. } | Corrupt { .. }
        ),
        Error::Malformed { .. } | Error::Schema1(_) => true,
        _ => false,
    }
}
