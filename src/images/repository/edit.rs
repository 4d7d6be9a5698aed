//! The edits of repositories within one transaction: what they write decides which manifests, tags and referrers are visible.

use std::cell::RefCell;

use ocipfs_node::Cid;
use ocipfs_oci::{Descriptor, Digest, Name, Tag};
use redb::{ReadableTable, TableDefinition, WriteTransaction};

use super::{
    Pushed, Removed, RepositoryBlob,
    ages::{NEVER_TAGGED, UNREFERENCED, UNTAGGED},
    changes::{ChangedItem, record_change},
    gc_root_key,
    tables::{
        BLOBS, ELSEWHERE, MANIFESTS, REFERENCED_BY, REFERENCES, REFERRERS, REPOSITORIES, TAGS, TAGS_OF,
        damaged, digest, key, repository_blob, rows_below,
    },
};
use crate::content::{self, StoreError};

pub(super) const BLOBS_OF: &str = "blobs";
pub(super) const MANIFESTS_OF: &str = "manifests";

/// Changes of repositories within one transaction.
pub struct Edit<'t> {
    pub(super) write: &'t WriteTransaction,
    /// Seconds since 1970.
    pub(super) now: u64,
    pub(super) removed: RefCell<Vec<Removed>>,
}

impl<'t> Edit<'t> {
    /// Changes them in this transaction. Once it is committed, the caller wakes the watchers.
    pub(super) fn new(write: &'t WriteTransaction) -> Self {
        Self::at(write, content::now())
    }

    /// Changes them at a given time, in seconds since 1970.
    pub fn at(write: &'t WriteTransaction, now: u64) -> Self {
        Self { write, now, removed: RefCell::default() }
    }

    /// Returns the content removed since the last call.
    pub(super) fn take_removed(&self) -> Vec<Removed> {
        self.removed.take()
    }

    /// Returns the content removed in this transaction.
    pub fn removed_so_far(&self) -> Vec<Removed> {
        self.removed.borrow().clone()
    }

    /// Adds a blob, whose bytes are stored. Until a manifest references it, it stays for the grace period from now on.
    pub fn add_blob(&self, name: &Name, blob: &RepositoryBlob) -> Result<(), StoreError> {
        let text = blob.digest.to_string();
        let row = (blob.size, blob.root.to_bytes());
        let row = (row.0, row.1.as_slice());
        let key = key(&[name.as_str(), &text]);
        let before = {
            let mut blobs = self.write.open_table(BLOBS)?;
            let before = blobs.insert(key.as_str(), row)?;
            before.map(|before| before.value().1.to_vec())
        };
        if !self.has_rows(REFERENCED_BY, &key)? {
            UNREFERENCED.start(self.write, &key, self.now)?;
        }
        if !self.hold_in_place_of(name, BLOBS_OF, blob, before)? {
            return Ok(());
        }
        record_change(self.write, name, &ChangedItem::Blob { blob: blob.clone(), added: true })
    }

    /// Holds a blob or a manifest by its root, in place of the root that its row had before. False where that is the
    /// same: a damaged blob that is pushed again may get another.
    fn hold_in_place_of(
        &self,
        name: &Name,
        kind: &str,
        blob: &RepositoryBlob,
        before: Option<Vec<u8>>,
    ) -> Result<bool, StoreError> {
        if before.as_ref().is_some_and(|before| *before == blob.root.to_bytes()) {
            return Ok(false);
        }
        let gc_root_key = gc_root_key(name, kind, &blob.digest);
        content::retain_root(self.write, &gc_root_key, &blob.root)?;
        if let Some(before) = before {
            content::release_root(self.write, &gc_root_key, &Cid::try_from(before).map_err(damaged)?)?;
        }
        Ok(true)
    }

    /// Begins the grace period of a blob again, if no manifest ever referenced it: a client is told that it is here.
    /// False where it is not.
    pub fn renew_blob(&self, name: &Name, digest: &Digest) -> Result<bool, StoreError> {
        let key = key(&[name.as_str(), &digest.to_string()]);
        if UNREFERENCED.since(self.write, &key)?.is_some() {
            UNREFERENCED.start(self.write, &key, self.now)?;
        }
        Ok(self.blob(name, digest)?.is_some())
    }

    /// The blob of this digest.
    pub fn blob(&self, name: &Name, digest: &Digest) -> Result<Option<RepositoryBlob>, StoreError> {
        let text = digest.to_string();
        let table = self.write.open_table(BLOBS)?;
        let row = table.get(key(&[name.as_str(), &text]).as_str())?;
        row.map(|row| repository_blob(&text, row.value().0, row.value().1)).transpose()
    }

    /// Whether there is a manifest of this digest.
    pub fn has_manifest(&self, name: &Name, digest: &Digest) -> Result<bool, StoreError> {
        let key = key(&[name.as_str(), &digest.to_string()]);
        Ok(self.write.open_table(MANIFESTS)?.get(key.as_str())?.is_some())
    }

    /// Returns the digest that a tag points at.
    pub fn tag(&self, name: &Name, tag: &Tag) -> Result<Option<Digest>, StoreError> {
        let tags = self.write.open_table(TAGS)?;
        let row = tags.get(key(&[name.as_str(), tag.as_str()]).as_str())?;
        row.map(|row| digest(row.value())).transpose()
    }

    /// Notes that a followed name has a manifest: what refers to it is kept, whether it is here or not.
    pub fn record_elsewhere(&self, name: &Name, digest: &Digest) -> Result<(), StoreError> {
        let key = key(&[name.as_str(), &digest.to_string()]);
        self.write.open_table(ELSEWHERE)?.insert(key.as_str(), ())?;
        Ok(())
    }

    /// Whether a followed name has a manifest.
    pub(super) fn is_elsewhere(&self, name: &Name, digest: &str) -> Result<bool, StoreError> {
        Ok(self.write.open_table(ELSEWHERE)?.get(key(&[name.as_str(), digest]).as_str())?.is_some())
    }

    /// Adds a manifest, whose bytes are stored, and points tags at it. `referrer` is how its subject tells of it,
    /// `references` are the blobs and manifests that it leads to.
    pub fn put_manifest(
        &self,
        name: &Name,
        pushed: &Pushed,
        tags: &[Tag],
        referrer: Option<&Descriptor>,
        references: &[Digest],
    ) -> Result<(), StoreError> {
        let text = pushed.blob.digest.to_string();
        let (before, is_other) = self.insert_manifest(name, &text, pushed)?;
        if let (Some(referrer), Some(subject)) = (referrer, &pushed.subject) {
            let json = serde_json::to_string(referrer).map_err(damaged)?;
            let key = key(&[name.as_str(), &subject.to_string(), &text]);
            self.write.open_table(REFERRERS)?.insert(key.as_str(), json.as_str())?;
        }
        let referenced = self.set_references(name, &text, references)?;
        match before {
            None => self.begin_repository(name)?,
            Some(_) if is_other => self.record_changed_entries(name, &text)?,
            Some(_) => {}
        }
        if is_other {
            self.record_changed_references(name, &referenced)?;
        }
        if self.hold_in_place_of(name, MANIFESTS_OF, &pushed.blob, before)? {
            record_change(
                self.write,
                name,
                &ChangedItem::Manifest { blob: pushed.blob.clone(), added: true },
            )?;
        }
        self.share_again(name, pushed, references)?;
        self.set_tags(name, &text, tags)?;
        self.count_age(name, &text)
    }

    /// Shares a manifest that is pushed again, and what it needs, where that was hidden since the node left a network.
    fn share_again(&self, name: &Name, pushed: &Pushed, references: &[Digest]) -> Result<(), StoreError> {
        if !content::share_again(self.write, &pushed.blob.root)? {
            return Ok(());
        }
        for digest in references {
            if let Some(blob) = self.blob(name, digest)? {
                content::share_again(self.write, &blob.root)?;
            }
        }
        // Every tag of it has an entry again.
        record_change(self.write, name, &ChangedItem::Everything)
    }

    /// Writes the row of a manifest. Returns the root of the row that it replaces, and whether `index.json` says
    /// something else of it than of that row.
    fn insert_manifest(
        &self,
        name: &Name,
        text: &str,
        pushed: &Pushed,
    ) -> Result<(Option<Vec<u8>>, bool), StoreError> {
        let subject = pushed.subject.as_ref().map(ToString::to_string).unwrap_or_default();
        let (size, root) = (pushed.blob.size, pushed.blob.root.to_bytes());
        let kind = pushed.artifact_type.as_deref().unwrap_or_default();
        let media_type = pushed.media_type.as_str();
        let row = (size, root.as_slice(), media_type, subject.as_str(), kind, pushed.at);
        let mut manifests = self.write.open_table(MANIFESTS)?;
        let before = manifests.insert(key(&[name.as_str(), text]).as_str(), row)?;
        let before = before.as_ref().map(|before| before.value());
        let is_same = before.is_some_and(|(size, _, media_type, subject, kind, _)| {
            (size, media_type, subject, kind) == (row.0, row.2, row.3, row.4)
        });
        Ok((before.map(|before| before.1.to_vec()), !is_same))
    }

    /// Notes that the entries of a manifest, by its digest and by each of its tags, may be others now.
    fn record_changed_entries(&self, name: &Name, manifest: &str) -> Result<(), StoreError> {
        let tags = self.parts_below(TAGS_OF, &key(&[name.as_str(), manifest]), "", usize::MAX)?;
        let mut texts = tags.into_iter().chain([manifest.into()]);
        texts.try_for_each(|text| record_change(self.write, name, &ChangedItem::Entry(text)))
    }

    /// Notes the manifests among the digests that a manifest references: an index leads to them or does not any more.
    pub(super) fn record_changed_references(
        &self,
        name: &Name,
        references: &[String],
    ) -> Result<(), StoreError> {
        for text in references {
            if self.has_manifest(name, &digest(text)?)? {
                record_change(self.write, name, &ChangedItem::Entry(text.clone()))?;
            }
        }
        Ok(())
    }

    /// A repository is there, and published, from its first manifest on: the blobs that came before it count from now.
    fn begin_repository(&self, name: &Name) -> Result<(), StoreError> {
        let is_new = self.write.open_table(REPOSITORIES)?.insert(name.as_str(), ())?.is_none();
        if is_new && self.has_rows(BLOBS, name.as_str())? {
            record_change(self.write, name, &ChangedItem::Everything)?;
        }
        Ok(())
    }

    /// Records what a manifest references: none of it is in its grace period any more. Returns all that it references:
    /// one that is pushed again as another media type keeps what it referenced before.
    pub(super) fn set_references(
        &self,
        name: &Name,
        manifest: &str,
        references: &[Digest],
    ) -> Result<Vec<String>, StoreError> {
        let of = key(&[name.as_str(), manifest]);
        let mut table = self.write.open_table(REFERENCES)?;
        let mut texts: Vec<String> = references.iter().map(ToString::to_string).collect();
        if let Some(before) = table.get(of.as_str())? {
            texts.extend(before.value().into_iter().map(String::from));
        }
        texts.sort_unstable();
        texts.dedup();
        table.insert(of.as_str(), texts.iter().map(String::as_str).collect::<Vec<_>>())?;
        let mut referenced_by = self.write.open_table(REFERENCED_BY)?;
        for text in &texts {
            referenced_by.insert(key(&[name.as_str(), text, manifest]).as_str(), ())?;
            UNREFERENCED.stop(self.write, &key(&[name.as_str(), text]))?;
        }
        Ok(texts)
    }

    fn set_tags(&self, name: &Name, digest: &str, tags: &[Tag]) -> Result<(), StoreError> {
        let mut is_changed = false;
        for tag in tags {
            let before = {
                let mut table = self.write.open_table(TAGS)?;
                let before = table.insert(key(&[name.as_str(), tag.as_str()]).as_str(), digest)?;
                before.map(|before| before.value().to_string())
            };
            let of = key(&[name.as_str(), digest, tag.as_str()]);
            self.write.open_table(TAGS_OF)?.insert(of.as_str(), self.now)?;
            if before.as_deref() == Some(digest) {
                continue;
            }
            is_changed = true;
            record_change(self.write, name, &ChangedItem::Entry(tag.to_string()))?;
            if let Some(before) = before {
                self.tag_left(name, &before, tag)?;
            }
        }
        if is_changed { record_change(self.write, name, &ChangedItem::Entry(digest.into())) } else { Ok(()) }
    }

    /// Removes a tag; its manifest stays, untagged. Returns false if the tag does not exist.
    pub fn remove_tag(&self, name: &Name, tag: &Tag) -> Result<bool, StoreError> {
        let before = {
            let mut tags = self.write.open_table(TAGS)?;
            let before = tags.remove(key(&[name.as_str(), tag.as_str()]).as_str())?;
            before.map(|before| before.value().to_string())
        };
        let Some(before) = before else { return Ok(false) };
        self.tag_left(name, &before, tag)?;
        self.removed.borrow_mut().push(Removed::tag(name, tag.as_str(), &digest(&before)?));
        record_change(self.write, name, &ChangedItem::Entry(tag.to_string()))?;
        Ok(true)
    }

    /// A tag points elsewhere now: the age of a manifest without tags counts from here.
    fn tag_left(&self, name: &Name, digest: &str, tag: &Tag) -> Result<(), StoreError> {
        let of = key(&[name.as_str(), digest]);
        self.write.open_table(TAGS_OF)?.remove(key(&[&of, tag.as_str()]).as_str())?;
        if !self.has_rows(TAGS_OF, &of)? {
            NEVER_TAGGED.stop(self.write, &of)?;
            UNTAGGED.start(self.write, &of, self.now)?;
        }
        record_change(self.write, name, &ChangedItem::Entry(digest.into()))
    }

    /// Counts the age of a manifest that was just pushed, if no tag points at it.
    fn count_age(&self, name: &Name, digest: &str) -> Result<(), StoreError> {
        let of = key(&[name.as_str(), digest]);
        let had_tag = UNTAGGED.stop(self.write, &of)?;
        match (self.has_rows(TAGS_OF, &of)?, had_tag) {
            (true, _) => NEVER_TAGGED.stop(self.write, &of).map(drop),
            (false, true) => UNTAGGED.start(self.write, &of, self.now),
            (false, false) => NEVER_TAGGED.start(self.write, &of, self.now),
        }
    }

    /// Whether a table has something below a key.
    pub(super) fn has_rows<V: redb::Value + 'static>(
        &self,
        table: TableDefinition<&'static str, V>,
        of: &str,
    ) -> Result<bool, StoreError> {
        let table = self.write.open_table(table)?;
        let first = rows_below(&table, of, "")?.next();
        Ok(first.transpose()?.is_some())
    }

    /// The last parts of at most `most` keys below a key.
    pub(super) fn parts_below<V: redb::Value + 'static>(
        &self,
        table: TableDefinition<&'static str, V>,
        of: &str,
        last: &str,
        most: usize,
    ) -> Result<Vec<String>, StoreError> {
        let table = self.write.open_table(table)?;
        let rows = rows_below(&table, of, last)?.take(most);
        rows.map(|row| Ok(super::tables::last_part(row?.0.value()).to_string())).collect()
    }
}
