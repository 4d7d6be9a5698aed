//! Removal: a manifest goes with its tags, its referrers, and all that nothing else in the repository references.

use std::collections::HashSet;

use ocipfs_oci::{Digest, MediaType, Name, Tag};
use redb::ReadableTable;

use super::{
    Edit, Removed, RepositoryBlob,
    ages::{NEVER_TAGGED, UNREFERENCED, UNTAGGED},
    changes::{ChangedItem, record_change},
    edit::{BLOBS_OF, MANIFESTS_OF},
    gc_root_key,
    tables::{
        BLOBS, ELSEWHERE, MANIFESTS, REFERENCED_BY, REFERENCES, REFERRERS, REPOSITORIES, TAGS, TAGS_OF,
        digest, key, repository_blob,
    },
};
use crate::content::{self, StoreError};

const ALL: usize = usize::MAX;

impl Edit<'_> {
    /// Removes a manifest and the tags that point at it; then what it referenced and what refers to it, unless
    /// something else keeps that. False where there is none.
    pub fn remove_manifest(&self, name: &Name, of: &Digest) -> Result<bool, StoreError> {
        if !self.has_manifest(name, of)? {
            return Ok(false);
        }
        let mut waiting = self.remove_one(name, &of.to_string())?;
        while let Some(next) = waiting.pop() {
            let is_here = self.has_manifest(name, &digest(&next)?)?;
            if is_here && !self.is_kept(name, &next)? {
                waiting.extend(self.remove_one(name, &next)?);
            }
        }
        Ok(true)
    }

    /// Removes one manifest, and the blobs that no other references; gives the manifests that it kept.
    fn remove_one(&self, name: &Name, text: &str) -> Result<Vec<String>, StoreError> {
        let of = key(&[name.as_str(), text]);
        let (blob, subject) = {
            let mut manifests = self.write.open_table(MANIFESTS)?;
            let Some(row) = manifests.remove(of.as_str())? else { return Ok(Vec::new()) };
            let (size, root, _, subject, ..) = row.value();
            (repository_blob(text, size, root)?, subject.to_string())
        };
        if !subject.is_empty() {
            let referrer = key(&[name.as_str(), &subject, text]);
            self.write.open_table(REFERRERS)?.remove(referrer.as_str())?;
        }
        self.remove_tags_of(name, text)?;
        UNTAGGED.stop(self.write, &of)?;
        NEVER_TAGGED.stop(self.write, &of)?;
        let freed = self.release_root(name, MANIFESTS_OF, &blob)?;
        record_change(self.write, name, &ChangedItem::Manifest { blob: blob.clone(), added: false })?;
        self.removed.borrow_mut().push(Removed::manifest(name, &blob, freed));
        let mut kept = self.remove_references(name, text)?;
        kept.extend(self.parts_below(REFERRERS, &of, "", ALL)?);
        self.end_repository(name)?;
        Ok(kept)
    }

    fn remove_tags_of(&self, name: &Name, digest_text: &str) -> Result<(), StoreError> {
        let of = key(&[name.as_str(), digest_text]);
        let tags = self.parts_below(TAGS_OF, &of, "", ALL)?;
        for tag in &tags {
            self.write.open_table(TAGS)?.remove(key(&[name.as_str(), tag]).as_str())?;
            self.write.open_table(TAGS_OF)?.remove(key(&[&of, tag]).as_str())?;
            let removed = Removed::tag(name, tag, &digest(digest_text)?);
            self.removed.borrow_mut().push(removed);
            record_change(self.write, name, &ChangedItem::Entry(tag.clone()))?;
        }
        Ok(())
    }

    /// Removes what only this manifest referenced, if it is a blob, and gives it, if it may be a manifest.
    fn remove_references(&self, name: &Name, manifest: &str) -> Result<Vec<String>, StoreError> {
        let references: Vec<String> = {
            let mut table = self.write.open_table(REFERENCES)?;
            let row = table.remove(key(&[name.as_str(), manifest]).as_str())?;
            row.map(|row| row.value().into_iter().map(String::from).collect()).unwrap_or_default()
        };
        self.record_changed_references(name, &references)?;
        let mut free = Vec::new();
        for text in references {
            let of = key(&[name.as_str(), &text]);
            self.write.open_table(REFERENCED_BY)?.remove(key(&[&of, manifest]).as_str())?;
            if !self.has_rows(REFERENCED_BY, &of)? {
                self.remove_blob(name, &digest(&text)?)?;
                free.push(text);
            }
        }
        Ok(free)
    }

    /// Whether something keeps a manifest: a tag, its own age as one that lost its tags, or another manifest.
    fn is_kept(&self, name: &Name, text: &str) -> Result<bool, StoreError> {
        let of = key(&[name.as_str(), text]);
        if self.has_rows(TAGS_OF, &of)? || UNTAGGED.since(self.write, &of)?.is_some() {
            return Ok(true);
        }
        if self.has_rows(REFERENCED_BY, &of)? || self.subject_here(name, text)?.is_some() {
            return Ok(true);
        }
        if self.subject_elsewhere(name, text)? {
            return Ok(true);
        }
        let is_kept = self.has_rows(REFERRERS, &of)? && self.related(name, text)?.is_none();
        if is_kept && NEVER_TAGGED.since(self.write, &of)?.is_none() {
            NEVER_TAGGED.start(self.write, &of, self.now)?;
        }
        Ok(is_kept)
    }

    /// The subject of a manifest, if it is in the repository.
    pub(super) fn subject_here(&self, name: &Name, text: &str) -> Result<Option<String>, StoreError> {
        let Some(subject) = self.subject(name, text)? else { return Ok(None) };
        let manifests = self.write.open_table(MANIFESTS)?;
        let is_here = manifests.get(key(&[name.as_str(), &subject]).as_str())?.is_some();
        Ok(is_here.then_some(subject))
    }

    /// Whether a followed name has the subject of a manifest.
    pub(super) fn subject_elsewhere(&self, name: &Name, text: &str) -> Result<bool, StoreError> {
        let subject = self.subject(name, text)?;
        subject.map_or(Ok(false), |subject| self.is_elsewhere(name, &subject))
    }

    fn subject(&self, name: &Name, text: &str) -> Result<Option<String>, StoreError> {
        let manifests = self.write.open_table(MANIFESTS)?;
        let row = manifests.get(key(&[name.as_str(), text]).as_str())?;
        Ok(row.map(|row| row.value().3.to_string()).filter(|subject| !subject.is_empty()))
    }

    /// Whether a manifest is an index with a subject: only such a one may, over several steps, be kept by what it keeps.
    pub(super) fn may_keep_itself(&self, name: &Name, text: &str) -> Result<bool, StoreError> {
        let manifests = self.write.open_table(MANIFESTS)?;
        let Some(row) = manifests.get(key(&[name.as_str(), text]).as_str())? else { return Ok(false) };
        let (_, _, media_type, subject, ..) = row.value();
        Ok(!subject.is_empty() && media_type.parse::<MediaType>().is_ok_and(|kind| kind.is_index()))
    }

    /// The manifests that would keep this one if a tag led to them: what references it, what refers to it, its
    /// subject, and so on, with itself; none if a tag does lead to one of them.
    pub(super) fn related(&self, name: &Name, text: &str) -> Result<Option<HashSet<String>>, StoreError> {
        let (mut seen, mut waiting) = (HashSet::from([text.to_string()]), vec![text.to_string()]);
        while let Some(next) = waiting.pop() {
            let of = key(&[name.as_str(), &next]);
            if self.has_rows(TAGS_OF, &of)? {
                return Ok(None);
            }
            let mut keepers = self.parts_below(REFERENCED_BY, &of, "", ALL)?;
            keepers.extend(self.parts_below(REFERRERS, &of, "", ALL)?);
            keepers.extend(self.subject_here(name, &next)?);
            waiting.extend(keepers.into_iter().filter(|keeper| seen.insert(keeper.clone())));
        }
        Ok(Some(seen))
    }

    /// Removes a tag, and its manifest if nothing else keeps it. Returns false if the tag does not exist.
    pub fn remove_image(&self, name: &Name, tag: &Tag) -> Result<bool, StoreError> {
        let target = {
            let tags = self.write.open_table(TAGS)?;
            let row = tags.get(key(&[name.as_str(), tag.as_str()]).as_str())?;
            row.map(|row| row.value().to_string())
        };
        let Some(target) = target else { return Ok(false) };
        self.remove_tag(name, tag)?;
        let of = key(&[name.as_str(), &target]);
        // It is removed on purpose, so it does not wait as one that was overwritten does.
        if !self.has_rows(TAGS_OF, &of)? && UNTAGGED.stop(self.write, &of)? {
            match self.is_kept(name, &target)? {
                true => NEVER_TAGGED.start(self.write, &of, self.now)?,
                false => drop(self.remove_manifest(name, &digest(&target)?)?),
            }
        }
        Ok(true)
    }

    /// Removes at most `most` manifests of a repository and what they keep, then its blobs; true while there is more.
    pub fn remove_some(&self, name: &Name, most: usize) -> Result<bool, StoreError> {
        let manifests = self.parts_below(MANIFESTS, name.as_str(), "", most)?;
        for text in &manifests {
            self.remove_manifest(name, &digest(text)?)?;
        }
        if !manifests.is_empty() {
            return Ok(true);
        }
        let blobs = self.parts_below(BLOBS, name.as_str(), "", most)?;
        for text in &blobs {
            self.remove_blob(name, &digest(text)?)?;
        }
        Ok(!blobs.is_empty())
    }

    /// Removes a blob of this repository only. Returns false if the blob does not exist.
    pub fn remove_blob(&self, name: &Name, digest: &Digest) -> Result<bool, StoreError> {
        let Some(blob) = self.blob(name, digest)? else { return Ok(false) };
        let key = key(&[name.as_str(), &digest.to_string()]);
        self.write.open_table(BLOBS)?.remove(key.as_str())?;
        UNREFERENCED.stop(self.write, &key)?;
        let freed = self.release_root(name, BLOBS_OF, &blob)?;
        self.removed.borrow_mut().push(Removed::blob(name, &blob, freed));
        record_change(self.write, name, &ChangedItem::Blob { blob, added: false })?;
        Ok(true)
    }

    /// Lets go of the bytes; true where nothing else retains them.
    fn release_root(&self, name: &Name, kind: &str, blob: &RepositoryBlob) -> Result<bool, StoreError> {
        content::release_root(self.write, &gc_root_key(name, kind, &blob.digest), &blob.root)
    }

    /// Removes a repository without manifests from the list; blobs that are in their grace period are not published.
    fn end_repository(&self, name: &Name) -> Result<(), StoreError> {
        if self.has_rows(MANIFESTS, name.as_str())? {
            return Ok(());
        }
        self.write.open_table(REPOSITORIES)?.remove(name.as_str())?;
        for digest in self.parts_below(ELSEWHERE, name.as_str(), "", ALL)? {
            self.write.open_table(ELSEWHERE)?.remove(key(&[name.as_str(), &digest]).as_str())?;
        }
        match self.has_rows(BLOBS, name.as_str())? {
            true => record_change(self.write, name, &ChangedItem::Everything),
            false => Ok(()),
        }
    }
}
