//! Referrers of a manifest of a layout: listed in an index that ocipfs published, else found by reading the
//! manifests.

use std::collections::BTreeMap;

use futures::{StreamExt, stream};
use ocipfs_oci::{Descriptor, Digest};

use super::{CONCURRENCY, Entry, Layout};
use crate::{
    content::{self, Content},
    images::{Error, repository::inspect},
};

/// Manifests that are read for one answer.
const MAX_READ: usize = 256;
/// Bytes of descriptors in one answer.
const MAX_RESPONSE_BYTES: usize = 3 << 20;

/// The entries that may refer to something.
pub enum Referring {
    /// By what they refer to, then by their digests.
    Told(Vec<Entry>),
    /// Some of these, by their digests: what refers to something has no tag.
    Among(Vec<Entry>),
}

/// Gathers the entries of an index that may refer to something.
#[derive(Default)]
pub struct GatheredReferrers {
    told: Vec<Entry>,
    untagged: Vec<Entry>,
}

impl GatheredReferrers {
    pub fn add(&mut self, entry: &Entry) {
        if entry.subject.is_some() {
            self.told.push(Entry { ref_name: None, ..entry.clone() });
        }
        if entry.ref_name.is_none() && self.untagged.len() < MAX_READ {
            self.untagged.push(entry.clone());
        }
    }

    /// Returns the gathered entries. Digests are sorted as their texts are.
    pub fn finish(self) -> Referring {
        let (is_told, mut entries) = match self.told.is_empty() {
            true => (false, self.untagged),
            false => (true, self.told),
        };
        entries.sort_by(|one, other| (&one.subject, &one.digest).cmp(&(&other.subject, &other.digest)));
        entries.dedup_by(|one, other| (&one.subject, &one.digest) == (&other.subject, &other.digest));
        if is_told { Referring::Told(entries) } else { Referring::Among(entries) }
    }
}

/// Referrers of a manifest, sorted by digest.
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
    /// How many entries it holds.
    pub fn len(&self) -> usize {
        self.entries().len()
    }

    /// Returns the entries.
    pub fn entries(&self) -> &[Entry] {
        let (Self::Told(entries) | Self::Among(entries)) = self;
        entries
    }

    fn after(&self, subject: &Digest, last: &str) -> &[Entry] {
        let entries = match self {
            Self::Told(told) => {
                let is_before = |entry: &Entry| entry.subject.as_deref() < Some(subject);
                let from = &told[told.partition_point(is_before)..];
                &from[..from.partition_point(|entry| entry.subject.as_deref() == Some(subject))]
            }
            Self::Among(entries) => entries,
        };
        &entries[entries.partition_point(|entry| entry.digest.to_string().as_str() <= last)..]
    }

    /// Whether a missing manifest may be the requested one.
    fn is_told(&self) -> bool {
        matches!(self, Self::Told(_))
    }
}

impl Layout {
    /// Returns the referrers of a manifest that sort after `last`. The index only tells where to look: the
    /// manifests decide.
    pub async fn referrers(
        &self,
        content: &Content,
        subject: &Digest,
        last: &str,
    ) -> Result<Referrers, Error> {
        let mut answer = Referrers::default();
        let entries = self.index.referring.after(subject, last);
        let is_cut = entries.len() > MAX_READ;
        let some: Vec<Entry> = entries.iter().take(MAX_READ).cloned().collect();
        let mut referrers =
            stream::iter(some)
                .map(|entry| async move {
                    (entry.digest.to_string(), self.referrer(content, &entry, subject).await)
                })
                .buffered(CONCURRENCY);
        let (mut bytes, mut reached) = (0, None);
        while let Some((digest, referrer)) = referrers.next().await {
            match referrer {
                Ok(Some(referrer)) => {
                    bytes += serde_json::to_vec(&referrer).map_or(0, |json| json.len());
                    if bytes > MAX_RESPONSE_BYTES && !answer.found.is_empty() {
                        answer.more_after = reached;
                        return Ok(answer);
                    }
                    answer.found.push(referrer);
                }
                Ok(None) => {}
                Err(error) if is_unfit(&error) => {}
                Err(error) if self.index.referring.is_told() => return Err(error),
                // Nothing says that this one refers to anything, and the next would take as long.
                Err(error) => {
                    tracing::debug!(%error, "referrers are incomplete: the search limit was reached");
                    return Ok(answer);
                }
            }
            reached = Some(digest);
        }
        answer.more_after = reached.filter(|_| is_cut);
        Ok(answer)
    }

    /// How the subject tells of a manifest, if that refers to it.
    async fn referrer(
        &self,
        content: &Content,
        entry: &Entry,
        subject: &Digest,
    ) -> Result<Option<Descriptor>, Error> {
        let document = self.files.document(content, entry).await?;
        let _turn = content.turn_to_parse(document.bytes.len()).await?;
        let inspected = inspect(&document.bytes, &document.digest, Some(document.media_type.as_str()));
        Ok(inspected.ok().filter(|it| it.subject.as_ref() == Some(subject)).map(|it| it.referrer))
    }
}

/// Whether an error means that a document is missing or is not part of the layout.
pub(super) fn is_unfit(error: &Error) -> bool {
    use content::Error::{Corrupt, Mismatch, NoEntry, NotAFile, TooLarge};
    match error {
        Error::Content(why) => matches!(
            why,
            NoEntry { .. } | TooLarge { .. } | Mismatch { .. } | NotAFile { .. } | Corrupt { .. }
        ),
        Error::Malformed { .. } | Error::NotAManifest { .. } | Error::Schema1(_) => true,
        _ => false,
    }
}
