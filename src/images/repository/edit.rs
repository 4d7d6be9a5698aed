use ocipfs_oci::{Descriptor, Digest, Name, Tag};
use redb::{ReadableTable, TableDefinition, WriteTransaction};

use super::{
    Piece, Pushed,
    changes::{What, note},
    holder,
    tables::{
        MANIFESTS, PIECES, REFERRERS, REPOSITORIES, TAGS, below, damaged, digest, key, last_part, piece,
    },
};
use crate::content::{self, StoreError};

const PIECES_OF: &str = "blobs";
const MANIFESTS_OF: &str = "manifests";

/// Changes of repositories within one transaction.
pub struct Edit<'t>(&'t WriteTransaction);

impl<'t> Edit<'t> {
    /// Changes them in this transaction; afterwards [`Repositories::wake`](super::Repositories::wake).
    pub fn new(write: &'t WriteTransaction) -> Self {
        Self(write)
    }

    /// Adds a blob, whose bytes are stored.
    pub fn add_piece(&self, name: &Name, piece: &Piece) -> Result<(), StoreError> {
        let text = piece.digest.to_string();
        let row = (piece.size, piece.root.to_bytes());
        let row = (row.0, row.1.as_slice());
        let key = key(&[name.as_str(), &text]);
        if self.0.open_table(PIECES)?.insert(key.as_str(), row)?.is_some() {
            return Ok(());
        }
        self.0.open_table(REPOSITORIES)?.insert(name.as_str(), ())?;
        content::hold_for(self.0, &holder(name, PIECES_OF, &piece.digest), &piece.root)?;
        note(self.0, name, &What::Piece { piece: piece.clone(), added: true })
    }

    /// The blob of this digest.
    pub fn piece(&self, name: &Name, digest: &Digest) -> Result<Option<Piece>, StoreError> {
        let text = digest.to_string();
        let table = self.0.open_table(PIECES)?;
        let row = table.get(key(&[name.as_str(), &text]).as_str())?;
        row.map(|row| piece(&text, row.value().0, row.value().1)).transpose()
    }

    /// Whether there is a manifest of this digest.
    pub fn has_manifest(&self, name: &Name, digest: &Digest) -> Result<bool, StoreError> {
        let key = key(&[name.as_str(), &digest.to_string()]);
        Ok(self.0.open_table(MANIFESTS)?.get(key.as_str())?.is_some())
    }

    /// Adds a manifest, whose bytes are stored, and points tags at it. `referrer` is how its subject tells of it.
    pub fn put_manifest(
        &self,
        name: &Name,
        pushed: &Pushed,
        tags: &[Tag],
        referrer: Option<&Descriptor>,
    ) -> Result<(), StoreError> {
        let text = pushed.piece.digest.to_string();
        let subject = pushed.subject.as_ref().map(ToString::to_string).unwrap_or_default();
        let root = pushed.piece.root.to_bytes();
        let kind = pushed.artifact_type.as_deref().unwrap_or_default();
        let row = (
            pushed.piece.size,
            root.as_slice(),
            pushed.media_type.as_str(),
            subject.as_str(),
            kind,
            pushed.at,
        );
        let known = {
            let mut manifests = self.0.open_table(MANIFESTS)?;
            manifests.insert(key(&[name.as_str(), &text]).as_str(), row)?.is_some()
        };
        if let Some(referrer) = referrer {
            let json = serde_json::to_string(referrer).map_err(damaged)?;
            let key = key(&[name.as_str(), &subject, &text]);
            self.0.open_table(REFERRERS)?.insert(key.as_str(), json.as_str())?;
        }
        if !known {
            self.0.open_table(REPOSITORIES)?.insert(name.as_str(), ())?;
            content::hold_for(self.0, &holder(name, MANIFESTS_OF, &pushed.piece.digest), &pushed.piece.root)?;
            note(self.0, name, &What::Manifest { piece: pushed.piece.clone(), added: true })?;
        }
        self.set_tags(name, &text, tags)
    }

    fn set_tags(&self, name: &Name, digest: &str, tags: &[Tag]) -> Result<(), StoreError> {
        let mut changed = false;
        for tag in tags {
            let mut table = self.0.open_table(TAGS)?;
            let before = table.insert(key(&[name.as_str(), tag.as_str()]).as_str(), digest)?;
            changed |= before.is_none_or(|before| before.value() != digest);
        }
        if changed { note(self.0, name, &What::Tags) } else { Ok(()) }
    }

    /// Removes a tag; what it pointed at stays. False where there is none.
    pub fn remove_tag(&self, name: &Name, tag: &Tag) -> Result<bool, StoreError> {
        if self.0.open_table(TAGS)?.remove(key(&[name.as_str(), tag.as_str()]).as_str())?.is_none() {
            return Ok(false);
        }
        note(self.0, name, &What::Tags)?;
        Ok(true)
    }

    /// Removes a manifest, and the tags that point at it. False where there is none.
    pub fn remove_manifest(&self, name: &Name, of: &Digest) -> Result<bool, StoreError> {
        let text = of.to_string();
        let removed = {
            let mut manifests = self.0.open_table(MANIFESTS)?;
            let row = manifests.remove(key(&[name.as_str(), &text]).as_str())?;
            let Some(row) = row else { return Ok(false) };
            let (size, root, _, subject, ..) = row.value();
            (piece(&text, size, root)?, (!subject.is_empty()).then(|| digest(subject)).transpose()?)
        };
        let (piece, subject) = removed;
        if let Some(subject) = subject {
            let key = key(&[name.as_str(), &subject.to_string(), &text]);
            self.0.open_table(REFERRERS)?.remove(key.as_str())?;
        }
        if self.remove_tags_of(name, &text)? {
            note(self.0, name, &What::Tags)?;
        }
        self.let_go(name, MANIFESTS_OF, &piece)?;
        note(self.0, name, &What::Manifest { piece, added: false })?;
        Ok(true)
    }

    fn remove_tags_of(&self, name: &Name, digest: &str) -> Result<bool, StoreError> {
        let mut tags = self.0.open_table(TAGS)?;
        let range = below(name.as_str(), "");
        let before = tags.range(range.start.as_str()..range.end.as_str())?;
        let mut gone = Vec::new();
        for row in before {
            let (key, to) = row?;
            if to.value() == digest {
                gone.push(last_part(key.value()).to_string());
            }
        }
        for tag in &gone {
            tags.remove(key(&[name.as_str(), tag]).as_str())?;
        }
        Ok(!gone.is_empty())
    }

    /// Removes a blob of this repository alone. False where there is none.
    pub fn remove_piece(&self, name: &Name, digest: &Digest) -> Result<bool, StoreError> {
        let Some(piece) = self.piece(name, digest)? else { return Ok(false) };
        let key = key(&[name.as_str(), &digest.to_string()]);
        self.0.open_table(PIECES)?.remove(key.as_str())?;
        self.let_go(name, PIECES_OF, &piece)?;
        note(self.0, name, &What::Piece { piece, added: false })?;
        Ok(true)
    }

    /// Lets go of the bytes, and of the repository with the last of them.
    fn let_go(&self, name: &Name, kind: &str, piece: &Piece) -> Result<(), StoreError> {
        content::let_go(self.0, &holder(name, kind, &piece.digest), &piece.root)?;
        if self.is_empty(name, PIECES)? && self.is_empty(name, MANIFESTS)? {
            self.0.open_table(REPOSITORIES)?.remove(name.as_str())?;
        }
        Ok(())
    }

    fn is_empty<V: redb::Value + 'static>(
        &self,
        name: &Name,
        table: TableDefinition<&'static str, V>,
    ) -> Result<bool, StoreError> {
        let range = below(name.as_str(), "");
        let table = self.0.open_table(table)?;
        let first = table.range(range.start.as_str()..range.end.as_str())?.next();
        Ok(first.transpose()?.is_none())
    }
}
