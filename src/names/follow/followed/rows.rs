//! Index rows of the followed content that is served, written in the transaction that retains it.

use std::sync::Arc;

use ocipfs_node::{Cid, IpnsName};
use ocipfs_oci::Name;
use redb::{ReadableTable, TableDefinition, WriteTransaction};

use crate::{
    content::{Database, StoreError, release_root, retain_root},
    names::follow::policy::Depth,
};

/// The directory, how much of it is here, whether manifests may come later, and since when, in seconds since 1970.
type VersionRow<'a> = (&'a [u8], u8, bool, u64);

/// Name, repository -> its newest complete version.
const REPOSITORIES: TableDefinition<&str, VersionRow> = TableDefinition::new("followed repositories");
/// Name -> the newest root of which every repository is complete, and the sequence of its record.
const ROOTS: TableDefinition<&str, (&[u8], u8, u64, u64)> = TableDefinition::new("followed roots");
/// Name -> the root that is being fetched, and whether that has begun and not ended: then versions of repositories may be
/// newer than those of the complete root.
const NEXT: TableDefinition<&str, (&[u8], bool)> = TableDefinition::new("followed next roots");

/// A complete version of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepositoryVersion {
    /// The directory that holds its layout.
    pub directory: Cid,
    /// How much of it is here.
    pub depth: Depth,
    /// An index names manifests that this version does not have.
    pub is_sparse: bool,
    /// Since when it is complete, in seconds since 1970.
    pub since: u64,
}

/// A root of which every repository is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowedRoot {
    /// The directory at the top of its tree.
    pub directory: Cid,
    /// How much of its repositories is here.
    pub depth: Depth,
    /// The sequence of its record.
    pub sequence: u64,
    /// Since when it is complete, in seconds since 1970.
    pub since: u64,
}

/// The rows. Every call blocks. Those that release a root return true: then it may be collected.
#[derive(Clone)]
pub struct FollowedRows(Arc<Database>);

fn cid(bytes: &[u8]) -> Result<Cid, StoreError> {
    Cid::try_from(bytes).map_err(|e| StoreError::Damaged(e.to_string()))
}

fn key(name: &IpnsName, repository: &str) -> String {
    format!("{name}\0{repository}")
}

/// All keys of a name whose repository is `below` or within it; all of the name where that is empty.
fn is_below(key: &str, name: &str, below: &str) -> bool {
    let Some((of, repository)) = key.split_once('\0') else { return false };
    let rest = repository.strip_prefix(below);
    of == name && (below.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

fn repository_root_key(name: &str, repository: &str) -> String {
    format!("follow/{name}/{repository}")
}

fn complete_root_key(name: &IpnsName) -> String {
    format!("follow/{name}")
}

/// A repository name cannot contain a colon.
fn next_root_key(name: &IpnsName) -> String {
    format!("follow/{name}:next")
}

impl FollowedRows {
    pub fn new(database: Arc<Database>) -> Self {
        Self(database)
    }

    fn read<T>(
        &self,
        with: impl Fn(&redb::ReadTransaction) -> Result<Option<T>, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        self.0.read(|read| match with(read) {
            // A table is there once something was followed.
            Err(StoreError::Index(redb::Error::TableDoesNotExist(_))) => Ok(None),
            value => value,
        })
    }

    /// Returns the newest complete version of a repository.
    pub fn version(
        &self,
        name: &IpnsName,
        repository: &str,
    ) -> Result<Option<RepositoryVersion>, StoreError> {
        self.read(|read| {
            let row = read.open_table(REPOSITORIES)?.get(key(name, repository).as_str())?;
            row.map(|row| version(row.value())).transpose()
        })
    }

    /// Returns the newest root of which every repository is complete.
    pub fn root(&self, name: &IpnsName) -> Result<Option<FollowedRoot>, StoreError> {
        self.read(|read| {
            let row = read.open_table(ROOTS)?.get(name.to_string().as_str())?;
            let Some(row) = row else { return Ok(None) };
            let (directory, depth, sequence, since) = row.value();
            Ok(Some(FollowedRoot { directory: cid(directory)?, depth: Depth::of(depth), sequence, since }))
        })
    }

    /// Returns a page of the repositories that have a complete version: those after `last`, at most `most`.
    pub fn repositories(
        &self,
        name: &IpnsName,
        last: &str,
        most: usize,
    ) -> Result<Vec<(Name, RepositoryVersion)>, StoreError> {
        let (start, end) = (key(name, last), format!("{name}\x01"));
        let page = self.read(|read| {
            let table = read.open_table(REPOSITORIES)?;
            let mut page = Vec::new();
            for row in table.range(start.as_str()..end.as_str())? {
                let (key, row) = row?;
                let Some((_, repository)) = key.value().split_once('\0') else { continue };
                if repository != last || last.is_empty() {
                    let repository =
                        repository.parse().map_err(|_| StoreError::Damaged(repository.to_string()))?;
                    page.push((repository, version(row.value())?));
                }
                if page.len() == most {
                    break;
                }
            }
            Ok(Some(page))
        });
        Ok(page?.unwrap_or_default())
    }

    /// Returns how many repositories have a complete version.
    pub fn count(&self, name: &IpnsName) -> Result<u64, StoreError> {
        let (start, end) = (key(name, ""), format!("{name}\x01"));
        let count = self.read(|read| {
            Ok(Some(read.open_table(REPOSITORIES)?.range(start.as_str()..end.as_str())?.count() as u64))
        });
        Ok(count?.unwrap_or_default())
    }

    /// Returns whether a walk has begun since the last one that ended.
    pub fn is_unfinished(&self, name: &IpnsName) -> Result<bool, StoreError> {
        Ok(self.next(name)?.is_some_and(|(_, is_unfinished)| is_unfinished))
    }

    fn next(&self, name: &IpnsName) -> Result<Option<(Cid, bool)>, StoreError> {
        self.read(|read| {
            let row = read.open_table(NEXT)?.get(name.to_string().as_str())?;
            row.map(|row| Ok((cid(row.value().0)?, row.value().1))).transpose()
        })
    }

    /// Retains a root while it is fetched, in place of the one before.
    pub fn begin_root(&self, name: &IpnsName, root: &Cid) -> Result<bool, StoreError> {
        if self.next(name)? == Some((*root, true)) {
            return Ok(false);
        }
        let (name, root, gc_root_key) = (name.to_string(), *root, next_root_key(name));
        self.0.write_together(move |write| {
            let before = {
                let mut table = write.open_table(NEXT)?;
                let before = table.insert(name.as_str(), (root.to_bytes().as_slice(), true))?;
                before.map(|row| cid(row.value().0)).transpose()?
            };
            replace(write, &gc_root_key, before, Some(root))
        })
    }

    /// Serves another version of a repository from now on.
    pub fn serve_version(
        &self,
        name: &IpnsName,
        repository: &str,
        new: RepositoryVersion,
    ) -> Result<bool, StoreError> {
        let (key, gc_root_key) = (key(name, repository), repository_root_key(&name.to_string(), repository));
        let name = name.to_string();
        self.0.write_together(move |write| {
            if !has_next_root(write, &name)? {
                return Ok(false);
            }
            let bytes = new.directory.to_bytes();
            let row = (bytes.as_slice(), new.depth.row(), new.is_sparse, new.since);
            let before = {
                let mut table = write.open_table(REPOSITORIES)?;
                let before = table.insert(key.as_str(), row)?;
                before.map(|row| cid(row.value().0)).transpose()?
            };
            replace(write, &gc_root_key, before, Some(new.directory))
        })
    }

    /// Records that every repository below a root is complete.
    pub fn set_complete_root(&self, name: &IpnsName, root: FollowedRoot) -> Result<bool, StoreError> {
        let (key, gc_root_key) = (name.to_string(), complete_root_key(name));
        self.0.write_together(move |write| {
            if !has_next_root(write, &key)? {
                return Ok(false);
            }
            let next = {
                let table = write.open_table(NEXT)?;
                let row = table.get(key.as_str())?;
                row.map(|row| row.value().0.to_vec())
            };
            if let Some(next) = next {
                write.open_table(NEXT)?.insert(key.as_str(), (next.as_slice(), false))?;
            }
            let bytes = root.directory.to_bytes();
            let row = (bytes.as_slice(), root.depth.row(), root.sequence, root.since);
            let before = {
                let mut table = write.open_table(ROOTS)?;
                let before = table.insert(key.as_str(), row)?;
                before.map(|row| cid(row.value().0)).transpose()?
            };
            replace(write, &gc_root_key, before, Some(root.directory))
        })
    }

    /// Forgets repositories: `below` and those within it, unless `keep` says otherwise.
    pub fn remove(
        &self,
        name: &IpnsName,
        below: &str,
        keep: impl Fn(&str) -> bool + Clone + Send + 'static,
    ) -> Result<bool, StoreError> {
        let (name, below) = (name.to_string(), below.to_string());
        self.0.write_together(move |write| remove(write, &name, &below, &keep))
    }

    /// Forgets everything of a name that is not followed any more.
    pub fn forget(&self, name: &IpnsName) -> Result<bool, StoreError> {
        let (text, root, next) = (name.to_string(), complete_root_key(name), next_root_key(name));
        self.0.write_together(move |write| {
            let mut is_free = remove(write, &text, "", &|_: &str| false)?;
            let served = {
                let mut table = write.open_table(ROOTS)?;
                let row = table.remove(text.as_str())?;
                row.map(|row| cid(row.value().0)).transpose()?
            };
            is_free |= replace(write, &root, served, None)?;
            let fetching = {
                let mut table = write.open_table(NEXT)?;
                let row = table.remove(text.as_str())?;
                row.map(|row| cid(row.value().0)).transpose()?
            };
            Ok(is_free | replace(write, &next, fetching, None)?)
        })
    }

    /// Returns the names that have rows.
    pub fn names(&self) -> Result<Vec<IpnsName>, StoreError> {
        let names = self.read(|read| {
            let mut names = Vec::new();
            for row in read.open_table(NEXT)?.iter()? {
                names.extend(row?.0.value().parse::<IpnsName>().ok());
            }
            Ok(Some(names))
        });
        Ok(names?.unwrap_or_default())
    }
}

fn version((directory, depth, is_sparse, since): VersionRow) -> Result<RepositoryVersion, StoreError> {
    Ok(RepositoryVersion { directory: cid(directory)?, depth: Depth::of(depth), is_sparse, since })
}

/// Whether a name is followed still: one that was forgotten while a walk went on gets no rows.
fn has_next_root(write: &WriteTransaction, name: &str) -> Result<bool, StoreError> {
    Ok(write.open_table(NEXT)?.get(name)?.is_some())
}

/// Retains another root under a key. Returns whether the one before is unreferenced now.
fn replace(
    write: &WriteTransaction,
    gc_root_key: &str,
    before: Option<Cid>,
    now: Option<Cid>,
) -> Result<bool, StoreError> {
    if let Some(now) = now {
        retain_root(write, gc_root_key, &now)?;
    }
    match before.filter(|before| now != Some(*before)) {
        Some(before) => release_root(write, gc_root_key, &before),
        None => Ok(false),
    }
}

fn remove(
    write: &WriteTransaction,
    name: &str,
    below: &str,
    keep: &impl Fn(&str) -> bool,
) -> Result<bool, StoreError> {
    let mut gone = Vec::new();
    {
        let mut table = write.open_table(REPOSITORIES)?;
        let (start, end) = (format!("{name}\0{below}"), format!("{name}\x01"));
        for row in table.range(start.as_str()..end.as_str())? {
            let (key, row) = row?;
            let repository = key.value().split_once('\0').map_or("", |(_, repository)| repository);
            if !repository.starts_with(below) {
                break;
            }
            if is_below(key.value(), name, below) && !keep(repository) {
                gone.push((key.value().to_string(), repository.to_string(), cid(row.value().0)?));
            }
        }
        for (key, ..) in &gone {
            table.remove(key.as_str())?;
        }
    }
    let mut is_free = false;
    for (_, repository, directory) in gone {
        is_free |= replace(write, &repository_root_key(name, &repository), Some(directory), None)?;
    }
    Ok(is_free)
}

#[cfg(test)]
mod tests;
