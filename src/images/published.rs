//! Pushed repositories as one tree of image layouts: `/<repository>/{oci-layout,index.json,blobs/<algorithm>/<hex>}`.
//!
//! ```text
//! repository::changes ─► Published::advance ─► a new version of the tree (content), the changes settled: one commit
//! ```
//!
//! The root depends only on the repositories, not on their history.

mod index;

#[cfg(test)]
pub(crate) mod tests;

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use ocipfs_node::Cid;
use ocipfs_oci::{Digest, Name};

use super::{
    archive::blob_path,
    cache::Cache,
    export::OCI_LAYOUT,
    repository::{self, ChangedItem, Repositories, RepositoryBlob, changes, changes_of},
};
use crate::content::{
    self, Changes, Document, Error, Profile, Root, SharePolicy, Store, StoreError, TreeVersion,
};
use index::PublishedIndex;

/// Indexes of which it is remembered what they take up.
const INDEX_CACHE_ENTRIES: usize = 50_000;
/// Changes that one version takes up, so that catching up needs little memory.
const BATCH_SIZE: usize = if cfg!(test) { 30 } else { 2000 };
/// Rows that are read at a time.
const PAGE_SIZE: usize = 1000;

/// The tree, and the repositories that it shows.
pub struct Published {
    store: Store,
    repositories: Repositories,
    profile: Profile,
    /// Facts about indexes that were written here, by their roots. They stay valid whether an index was
    /// published or not.
    indexes: Arc<Cache<(Name, Cid), index::RememberedIndex>>,
}

/// Result of one publishing step.
#[derive(Debug)]
pub struct Advanced {
    /// The tree as it is now.
    pub version: TreeVersion,
    /// The version before, where there is another now.
    pub replaced: Option<TreeVersion>,
    /// Roots of the added blobs and manifests.
    pub added: Vec<Cid>,
    /// Roots of the removed blobs and manifests.
    pub removed: Vec<Cid>,
    /// Whether there was more than one lot.
    pub is_behind: bool,
}

impl Published {
    /// The tree of these repositories, as it is kept in this store.
    pub fn new(store: Store, repositories: Repositories, profile: Profile) -> Self {
        Self { store, repositories, profile, indexes: Arc::new(Cache::new(INDEX_CACHE_ENTRIES)) }
    }

    /// The repositories.
    pub fn repositories(&self) -> &Repositories {
        &self.repositories
    }

    /// The tree as it is now, if anything was ever pushed.
    pub fn current(&self) -> Result<Option<TreeVersion>, StoreError> {
        Ok(self.store.tree_versions()?.pop())
    }

    /// How many changes the tree is behind.
    pub fn behind(&self) -> Result<u64, StoreError> {
        repository::pending(&self.repositories)
    }

    /// Whether any change after a number is more than a blob, which is of no use before its manifest, and the number
    /// of the last change.
    pub fn matters(&self, after: u64) -> Result<(bool, u64), StoreError> {
        repository::matters(&self.repositories, after)
    }

    /// Gives the root of every blob and manifest that was pushed.
    pub fn for_each_root(&self, each: impl Fn(Cid) -> Result<(), StoreError>) -> Result<(), StoreError> {
        pages(
            |last| self.repositories.names(last, PAGE_SIZE),
            |name| self.for_each_root_of(&name, &mut |root| each(root)).map(|()| name.to_string()),
        )
    }

    /// Gives the root of every blob and manifest of a repository.
    fn for_each_root_of(
        &self,
        name: &Name,
        each: &mut dyn FnMut(Cid) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        pages(
            |last| self.repositories.manifests(name, last, PAGE_SIZE),
            |manifest| each(manifest.blob.root).map(|()| manifest.blob.digest.to_string()),
        )?;
        pages(
            |last| self.repositories.blobs(name, last, PAGE_SIZE),
            |blob| each(blob.root).map(|()| blob.digest.to_string()),
        )
    }

    /// Returns the roots of a repository that peers may not know of.
    pub fn hidden_roots(&self, name: &Name) -> Result<Vec<Cid>, StoreError> {
        let mut hidden = Vec::new();
        self.for_each_root_of(name, &mut |root| {
            if !SharePolicy::All.shows(&self.store, &root)? {
                hidden.push(root);
            }
            Ok(())
        })?;
        Ok(hidden)
    }

    /// Takes up a lot of what changed, if anything did. Blocks.
    pub fn advance(&self) -> Result<Option<Advanced>, Error> {
        // A version shows one moment: what is pushed or deleted while it is made waits for the next one.
        self.at(self.repositories.snapshot()?).make_version()
    }

    fn at(&self, repositories: Repositories) -> Self {
        Self { store: self.store.clone(), repositories, profile: self.profile, indexes: self.indexes.clone() }
    }

    fn make_version(&self) -> Result<Option<Advanced>, Error> {
        let due = changes(&self.repositories, BATCH_SIZE)?;
        let Some((last, _)) = due.last() else { return Ok(None) };
        let last = *last;
        let before = self.current()?;
        let names: BTreeSet<&Name> = due.iter().map(|(_, change)| &change.repository).collect();
        let mut indexes = Vec::new();
        for name in &names {
            indexes.push((*name, self.index(before, name)?));
        }
        let mut all = Changes::default();
        for name in &names {
            self.later(&mut all, name, last)?;
        }
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        for (_, change) in &due {
            match (&change.item, change.item.blob()) {
                (_, Some(blob)) => self.blob(&mut all, &change.repository, blob, &mut added, &mut removed)?,
                (ChangedItem::Everything, None) => {
                    self.everything(&mut all, before, &change.repository, &mut added)?
                }
                (_, None) => {}
            }
        }
        for (name, index) in indexes {
            self.documents(&mut all, name, index);
        }
        let version = self.commit(before, &all, last)?;
        let replaced = before.filter(|before| before.number != version.number);
        Ok(Some(Advanced { version, replaced, added, removed, is_behind: due.len() == BATCH_SIZE }))
    }

    /// Adds what came to a repository after these changes: it is in the index, so it is there, and settled the next
    /// time.
    fn later(&self, all: &mut Changes, name: &Name, after: u64) -> Result<(), Error> {
        // One without manifests is not published.
        if !self.is_published(name)? {
            return Ok(());
        }
        for change in changes_of(&self.repositories, name, after)? {
            if let Some(blob) = change.item.blob()
                && let Some(root) = self.root(blob)?
            {
                all.set(&path(name, &blob.digest), root);
            }
        }
        Ok(())
    }

    fn commit(
        &self,
        before: Option<TreeVersion>,
        changes: &Changes,
        last: u64,
    ) -> Result<TreeVersion, Error> {
        let read = |cid: &Cid| self.node(cid);
        let changed = self.profile.change(before.map(|before| before.root), changes, &read)?;
        #[cfg(test)]
        tests::count(|counts| counts.made += changed.added.len() as u64);
        let same = before.filter(|before| before.root.cid == changed.root.cid);
        Ok(self.store.database().write(|write| {
            repository::settle(write, last)?;
            match same {
                Some(same) => Ok(same),
                None => content::add_tree(write, &changed),
            }
        })?)
    }

    /// A blob or a manifest as it is.
    fn blob(
        &self,
        all: &mut Changes,
        name: &Name,
        blob: &RepositoryBlob,
        added: &mut Vec<Cid>,
        removed: &mut Vec<Cid>,
    ) -> Result<(), Error> {
        let digest = &blob.digest;
        let now = match self.repositories.manifest(name, digest)? {
            Some(_) if !self.is_published(name)? => None,
            Some(manifest) => Some(manifest.blob),
            // Blobs without any manifest are not published.
            None if !self.is_published(name)? => None,
            None => self.repositories.blob(name, digest)?,
        };
        let root = now.map(|now| self.root(&now)).transpose()?.flatten();
        match root {
            Some(root) => {
                added.push(root.cid);
                all.set(&path(name, digest), root);
            }
            None => {
                removed.push(blob.root);
                all.unset(&path(name, digest));
            }
        }
        Ok(())
    }

    /// All that a repository has, in place of what the tree has of it.
    fn everything(
        &self,
        all: &mut Changes,
        before: Option<TreeVersion>,
        name: &Name,
        added: &mut Vec<Cid>,
    ) -> Result<(), Error> {
        let is_there = self.is_published(name)?;
        let mut add = |blob: &RepositoryBlob| -> Result<(), Error> {
            if is_there && let Some(root) = self.root(blob)? {
                added.push(root.cid);
                all.set(&path(name, &blob.digest), root);
            }
            Ok(())
        };
        pages(
            |last| self.repositories.manifests(name, last, PAGE_SIZE),
            |manifest| add(&manifest.blob).map(|()| manifest.blob.digest.to_string()),
        )?;
        pages(
            |last| self.repositories.blobs(name, last, PAGE_SIZE),
            |blob| add(&blob).map(|()| blob.digest.to_string()),
        )?;
        for algorithm in ["sha256", "sha512"] {
            let directory = format!("{name}/blobs/{algorithm}");
            for hex in self.names_in(before, &directory)? {
                // Where it is still there, it was set.
                all.unset(&format!("{directory}/{hex}"));
            }
        }
        Ok(())
    }

    /// Whether a repository is there, and peers may know of it.
    fn is_published(&self, name: &Name) -> Result<bool, StoreError> {
        Ok(self.store.peers_see_repository(name.as_str()) && self.repositories.has(name)?)
    }

    /// Has every repository read again whose place in the tree is not as the access rules say by now. Returns those that
    /// peers may not know of.
    pub fn review(&self) -> Result<Vec<Name>, Error> {
        let (current, mut hidden) = (self.current()?, Vec::new());
        if !self.store.may_hide_repositories()? {
            return Ok(hidden);
        }
        pages(
            |last| self.repositories.names(last, PAGE_SIZE),
            |name| {
                let is_in_tree = self.find(current, &format!("{name}/oci-layout"))?.is_some();
                let is_published = self.is_published(&name)?;
                if is_in_tree != is_published {
                    self.repositories.publish_again(&name)?;
                }
                let last = name.to_string();
                if !is_published {
                    hidden.push(name);
                }
                Ok::<_, Error>(last)
            },
        )?;
        self.store.note_hidden_repositories(!hidden.is_empty())?;
        Ok(hidden)
    }

    fn find(&self, before: Option<TreeVersion>, path: &str) -> Result<Option<Cid>, Error> {
        let Some(before) = before else { return Ok(None) };
        content::lookup(before.root.cid, path, &|cid| self.node(cid))
    }

    fn names_in(&self, before: Option<TreeVersion>, path: &str) -> Result<Vec<String>, Error> {
        let Some(before) = before else { return Ok(Vec::new()) };
        content::entry_names(before.root.cid, path, &|cid| self.node(cid))
    }

    /// A node of the tree.
    fn node(&self, cid: &Cid) -> Result<Bytes, Error> {
        #[cfg(test)]
        tests::count(|counts| counts.reads += 1);
        self.store.get(cid)?.ok_or_else(|| ocipfs_node::FetchError::Offline(*cid).into())
    }

    /// The top of a blob's DAG; none where it is gone, or hidden since the node left a network.
    fn root(&self, blob: &RepositoryBlob) -> Result<Option<Root>, Error> {
        const RAW: u64 = 0x55;
        if !SharePolicy::All.shows(&self.store, &blob.root)? {
            return Ok(None);
        }
        if blob.root.codec() == RAW {
            return Ok(Some(Root { cid: blob.root, size: blob.size, dag_size: blob.size }));
        }
        let block = self.store.get(&blob.root)?;
        Ok(block.map(|block| Root::of(blob.root, block)).transpose()?)
    }

    /// `oci-layout` and `index.json`, which go with the repository.
    fn documents(&self, all: &mut Changes, name: &Name, index: Option<PublishedIndex>) {
        let (layout, path) = (format!("{name}/oci-layout"), format!("{name}/index.json"));
        match index {
            Some(_) => all.write(&layout, Document::file(Bytes::from_static(OCI_LAYOUT), self.profile)),
            None => all.erase(&layout),
        };
        match index {
            Some(PublishedIndex::Whole(document)) => all.write(&path, document),
            Some(PublishedIndex::Edited(edited)) => all.edit(&path, edited),
            None => all.erase(&path),
        };
    }
}

fn path(name: &Name, digest: &Digest) -> String {
    format!("{name}/{}", blob_path(digest))
}

/// Gives every row to `each`, page by page; it says where the next page begins.
fn pages<T, E: From<StoreError>>(
    page: impl Fn(&str) -> Result<Vec<T>, StoreError>,
    mut each: impl FnMut(T) -> Result<String, E>,
) -> Result<(), E> {
    let mut last = String::new();
    loop {
        let rows = page(&last)?;
        let full = rows.len() == PAGE_SIZE;
        for row in rows {
            last = each(row)?;
        }
        if !full {
            return Ok(());
        }
    }
}
