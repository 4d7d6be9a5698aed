//! Reads of the committed state. Pages begin after `last` (empty: at the beginning) and have at most `most`
//! entries.

use ocipfs_oci::{Descriptor, Digest, Name, Tag};
use redb::{ReadableTableMetadata, TableDefinition, Value};

use super::{
    Pushed, Repositories, RepositoryBlob,
    ages::{NEVER_TAGGED, UNREFERENCED, UNTAGGED},
    tables::{
        BLOBS, MANIFESTS, ManifestRow, REFERENCED_BY, REFERRERS, REPOSITORIES, TAGS, TAGS_OF, damaged,
        digest, key, last_part, open, repository_blob, rows_below,
    },
};
use crate::content::StoreError;

pub(super) fn pushed(text: &str, row: ManifestRow) -> Result<Pushed, StoreError> {
    let (size, root, media_type, subject, artifact_type, at) = row;
    Ok(Pushed {
        blob: repository_blob(text, size, root)?,
        media_type: media_type.parse().map_err(damaged)?,
        subject: (!subject.is_empty()).then(|| digest(subject)).transpose()?,
        artifact_type: (!artifact_type.is_empty()).then(|| artifact_type.into()),
        at,
    })
}

/// How much a repository has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Tags.
    pub tags: u64,
    /// Manifests and indexes.
    pub manifests: u64,
    /// Blobs.
    pub blobs: u64,
    /// Bytes of manifests and blobs, of which other repositories may have some too.
    pub bytes: u64,
    /// When a manifest was pushed last, in seconds since 1970.
    pub last_push: u64,
}

impl Repositories {
    /// How much there is in a repository.
    pub fn summary(&self, name: &Name) -> Result<Summary, StoreError> {
        self.read(|read| {
            let mut all = Summary::default();
            if let Some(tags) = open(read, TAGS)? {
                all.tags = rows_below(&tags, name.as_str(), "")?.count() as u64;
            }
            if let Some(manifests) = open(read, MANIFESTS)? {
                for row in rows_below(&manifests, name.as_str(), "")? {
                    let (size, .., at) = row?.1.value();
                    all.manifests += 1;
                    all.bytes += size;
                    all.last_push = all.last_push.max(at);
                }
            }
            if let Some(blobs) = open(read, BLOBS)? {
                for row in rows_below(&blobs, name.as_str(), "")? {
                    all.blobs += 1;
                    all.bytes += row?.1.value().0;
                }
            }
            Ok(all)
        })
    }

    /// Since when a blob waits for a manifest that references it; none where one does.
    pub fn unreferenced_since(&self, name: &Name, digest: &Digest) -> Result<Option<u64>, StoreError> {
        let key = key(&[name.as_str(), &digest.to_string()]);
        self.read(|read| UNREFERENCED.since_now(read, &key))
    }

    /// Since when a manifest ages because no tag points at it.
    pub fn untagged_since(&self, name: &Name, digest: &Digest) -> Result<Option<u64>, StoreError> {
        let key = key(&[name.as_str(), &digest.to_string()]);
        self.read(|read| {
            let untagged = UNTAGGED.since_now(read, &key)?;
            Ok(untagged.or(NEVER_TAGGED.since_now(read, &key)?))
        })
    }

    /// The tags of a manifest.
    pub fn tags_of(&self, name: &Name, digest: &Digest) -> Result<Vec<String>, StoreError> {
        let of = key(&[name.as_str(), &digest.to_string()]);
        self.page(TAGS_OF, &of, "", usize::MAX, |tag, _| Ok(tag.into()))
    }

    /// When a tag was pushed, in seconds since 1970.
    pub fn tagged_at(&self, name: &Name, tag: &Tag, digest: &Digest) -> Result<Option<u64>, StoreError> {
        self.row(TAGS_OF, &key(&[name.as_str(), &digest.to_string(), tag.as_str()]), Ok)
    }

    /// How many repositories there are, without a walk.
    pub fn count(&self) -> Result<u64, StoreError> {
        self.read(|read| Ok(open(read, REPOSITORIES)?.map_or(Ok(0), |table| table.len())?))
    }

    /// Adds so many repositories without content, in one commit.
    #[cfg(test)]
    pub fn fill(&self, count: u32) -> Result<(), StoreError> {
        self.inner.database.write(|write| {
            let mut table = write.open_table(REPOSITORIES)?;
            (0..count).try_for_each(|n| Ok(table.insert(format!("team/r{n}").as_str(), ()).map(drop)?))
        })
    }

    /// Whether there is a repository of this name.
    pub fn has(&self, name: &Name) -> Result<bool, StoreError> {
        Ok(self.row(REPOSITORIES, name.as_str(), |()| Ok(()))?.is_some())
    }

    /// Whether there is anything under this name, be it only blobs that wait for their manifest.
    pub fn has_any(&self, name: &Name) -> Result<bool, StoreError> {
        Ok(self.has(name)? || !self.blobs(name, "", 1)?.is_empty())
    }

    /// Returns the digest that a tag points at.
    pub fn tag(&self, name: &Name, tag: &Tag) -> Result<Option<Digest>, StoreError> {
        self.row(TAGS, &key(&[name.as_str(), tag.as_str()]), digest)
    }

    /// The manifest of this digest.
    pub fn manifest(&self, name: &Name, digest: &Digest) -> Result<Option<Pushed>, StoreError> {
        let text = digest.to_string();
        self.row(MANIFESTS, &key(&[name.as_str(), &text]), |row| pushed(&text, row))
    }

    /// The blob of this digest.
    pub fn blob(&self, name: &Name, digest: &Digest) -> Result<Option<RepositoryBlob>, StoreError> {
        let text = digest.to_string();
        self.row(BLOBS, &key(&[name.as_str(), &text]), |(size, root)| repository_blob(&text, size, root))
    }

    /// Names of repositories.
    pub fn names(&self, last: &str, most: usize) -> Result<Vec<Name>, StoreError> {
        self.read(|read| {
            let Some(table) = open(read, REPOSITORIES)? else { return Ok(Vec::new()) };
            let start = format!("{last}\0");
            let start = if last.is_empty() { "" } else { start.as_str() };
            let mut all = Vec::new();
            for row in table.range(start..)?.take(most) {
                all.push(row?.0.value().parse().map_err(damaged)?);
            }
            Ok(all)
        })
    }

    /// Tags, and what they point at.
    pub fn tags(&self, name: &Name, last: &str, most: usize) -> Result<Vec<(Tag, Digest)>, StoreError> {
        self.page(TAGS, name.as_str(), last, most, |tag, to| Ok((tag.parse().map_err(damaged)?, digest(to)?)))
    }

    /// Manifests, by their digests.
    pub fn manifests(&self, name: &Name, last: &str, most: usize) -> Result<Vec<Pushed>, StoreError> {
        self.page(MANIFESTS, name.as_str(), last, most, pushed)
    }

    /// Blobs, by their digests.
    pub fn blobs(&self, name: &Name, last: &str, most: usize) -> Result<Vec<RepositoryBlob>, StoreError> {
        self.page(BLOBS, name.as_str(), last, most, |text, (size, root)| repository_blob(text, size, root))
    }

    /// Returns the referrers of a subject, sorted by digest; the subject itself need not exist.
    pub fn referrers(
        &self,
        name: &Name,
        subject: &Digest,
        last: &str,
        most: usize,
    ) -> Result<Vec<Descriptor>, StoreError> {
        let of = key(&[name.as_str(), &subject.to_string()]);
        self.page(REFERRERS, &of, last, most, |_, json| serde_json::from_str(json).map_err(damaged))
    }

    /// The manifests that reference a digest.
    pub fn referencing(&self, name: &Name, of: &Digest, most: usize) -> Result<Vec<Digest>, StoreError> {
        let of = key(&[name.as_str(), &of.to_string()]);
        self.page(REFERENCED_BY, &of, "", most, |manifest, ()| digest(manifest))
    }

    fn row<V: Value + 'static, T>(
        &self,
        table: TableDefinition<&'static str, V>,
        key: &str,
        with: impl Fn(V::SelfType<'_>) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        self.read(|read| {
            let Some(table) = open(read, table)? else { return Ok(None) };
            table.get(key)?.map(|row| with(row.value())).transpose()
        })
    }

    fn page<V: Value + 'static, T>(
        &self,
        table: TableDefinition<&'static str, V>,
        of: &str,
        last: &str,
        most: usize,
        with: impl Fn(&str, V::SelfType<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        self.read(|read| {
            let Some(table) = open(read, table)? else { return Ok(Vec::new()) };
            let rows = rows_below(&table, of, last)?.take(most);
            rows.map(|row| row.map(|(key, row)| with(last_part(key.value()), row.value()))?).collect()
        })
    }
}
