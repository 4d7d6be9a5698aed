//! The tables. Keys are texts joined by NUL, so that what belongs together is one range, in the order of pages.

use ocipfs_node::Cid;
use ocipfs_oci::{Digest, Name};
use redb::{ReadOnlyTable, ReadTransaction, ReadableTable, TableDefinition, TableError};

use super::RepositoryBlob;
use crate::content::StoreError;

/// Size and root CID.
pub type BlobRow<'a> = (u64, &'a [u8]);
/// Size, root CID, media type, subject, artifact type, seconds since 1970; empty texts are none.
pub type ManifestRow<'a> = (u64, &'a [u8], &'a str, &'a str, &'a str, u64);
/// Repository, kind, whether it was added, digest, size, root CID.
pub type ChangeRow<'a> = (&'a str, u8, bool, &'a str, u64, &'a [u8]);

/// Repository -> nothing yet.
pub const REPOSITORIES: TableDefinition<&str, ()> = TableDefinition::new("repositories");
/// Repository, tag -> digest.
pub const TAGS: TableDefinition<&str, &str> = TableDefinition::new("tags");
/// Repository, digest -> its manifest.
pub const MANIFESTS: TableDefinition<&str, ManifestRow> = TableDefinition::new("manifests");
/// Repository, digest -> its blob.
pub const BLOBS: TableDefinition<&str, BlobRow> = TableDefinition::new("pieces");
/// Repository, subject, digest -> the descriptor, as JSON.
pub const REFERRERS: TableDefinition<&str, &str> = TableDefinition::new("referrers");
/// Number -> what changed.
pub const CHANGES: TableDefinition<u64, ChangeRow> = TableDefinition::new("changes");
/// Number -> a repository of which so much changed that all of it is to be read again: one row a repository.
pub const STALE: TableDefinition<u64, &str> = TableDefinition::new("stale repositories");
/// Repository, kind, digest -> the number of its last change.
pub const LAST_CHANGES: TableDefinition<&str, u64> = TableDefinition::new("last changes");
/// The number of the next change, which never goes back.
pub const NEXT_CHANGE: TableDefinition<(), u64> = TableDefinition::new("next change");

/// Repository, manifest -> the digests that it references: blobs, and manifests of an index.
pub const REFERENCES: TableDefinition<&str, Vec<&str>> = TableDefinition::new("references");
/// Repository, digest, manifest -> nothing: the manifests that reference a digest.
pub const REFERENCED_BY: TableDefinition<&str, ()> = TableDefinition::new("referenced by");
/// Repository, digest, tag -> when the tag was pushed, in seconds since 1970.
pub const TAGS_OF: TableDefinition<&str, u64> = TableDefinition::new("tags of manifests");
/// Repository, digest -> nothing: manifests that a followed name has of it, so that what refers to them is kept.
pub const ELSEWHERE: TableDefinition<&str, ()> = TableDefinition::new("manifests elsewhere");
/// Numbers that stand alone.
pub const META: TableDefinition<&str, u64> = TableDefinition::new("repositories meta");

pub fn key(parts: &[&str]) -> String {
    parts.join("\0")
}

/// The rows below `of`, after the entry `last`.
pub fn rows_below<'t, V: redb::Value + 'static>(
    table: &'t impl ReadableTable<&'static str, V>,
    of: &str,
    last: &str,
) -> Result<redb::Range<'t, &'static str, V>, StoreError> {
    let range = below(of, last);
    Ok(table.range(range.start.as_str()..range.end.as_str())?)
}

/// Keys of what is below `of`, after the entry `last`.
fn below(of: &str, last: &str) -> std::ops::Range<String> {
    // An entry of that name, and all that is below it, sorts before this.
    let start = if last.is_empty() { format!("{of}\0") } else { format!("{of}\0{last}\x01") };
    start..format!("{of}\x01")
}

/// The last part of a key.
pub fn last_part(key: &str) -> &str {
    key.rsplit_once('\0').map_or(key, |(_, last)| last)
}

/// The repository and the digest of a key that has just these two parts.
pub fn parse_key(text: &str) -> Result<(Name, Digest), StoreError> {
    let (name, text) = text.split_once('\0').ok_or_else(|| damaged(format!("key {text:?}")))?;
    Ok((name.parse().map_err(damaged)?, digest(text)?))
}

pub fn damaged(error: impl std::fmt::Display) -> StoreError {
    StoreError::Damaged(error.to_string())
}

pub fn digest(text: &str) -> Result<Digest, StoreError> {
    text.parse().map_err(damaged)
}

pub fn repository_blob(text: &str, size: u64, root: &[u8]) -> Result<RepositoryBlob, StoreError> {
    Ok(RepositoryBlob { digest: digest(text)?, size, root: Cid::try_from(root).map_err(damaged)? })
}

/// A table that is there once something was pushed.
pub fn open<K: redb::Key + 'static, V: redb::Value + 'static>(
    read: &ReadTransaction,
    table: TableDefinition<K, V>,
) -> Result<Option<ReadOnlyTable<K, V>>, StoreError> {
    match read.open_table(table) {
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        table => Ok(Some(table?)),
    }
}

/// Removes the rows that format 2 did not have.
#[cfg(test)]
pub fn forget_new(write: &redb::WriteTransaction) -> Result<(), StoreError> {
    use super::ages::{NEVER_TAGGED, UNREFERENCED, UNTAGGED};
    write.delete_table(REFERENCES)?;
    write.delete_table(REFERENCED_BY)?;
    write.delete_table(TAGS_OF)?;
    write.delete_table(META)?;
    [UNREFERENCED, UNTAGGED, NEVER_TAGGED].iter().try_for_each(|ages| ages.forget(write))
}
