//! Decides what peers are served: all content, or all except content that was only pushed; and in either case what the access
//! rules say of the repositories that hold it.

use std::{fmt, io, str::FromStr};

use bytes::Bytes;
use ocipfs_node::{Blocks, Cid, inline_bytes};
use ocipfs_oci::Digest;
use ocipfs_unixfs::DagNode;
use serde::Deserialize;

use super::{
    Content, Error, Origin, Store, StoreError, Stored,
    store::{PartialBlob, is_block, whole_cid},
};

#[cfg(test)]
mod tests;

/// Sharing policy: the content that is announced and served to peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum SharePolicy {
    /// Content that commands added or that came from peers.
    Added,
    /// Pushed content, too.
    All,
}

impl FromStr for SharePolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "added" => Ok(Self::Added),
            "all" => Ok(Self::All),
            _ => Err(format!("invalid share policy {text:?}: expected `added` or `all`")),
        }
    }
}

impl TryFrom<String> for SharePolicy {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for SharePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Added => "added",
            Self::All => "all",
        })
    }
}

/// The store as peers see it.
pub struct Shared {
    /// Where the blocks are.
    pub store: Store,
    /// Which of them are given away.
    pub share: SharePolicy,
}

impl SharePolicy {
    /// Whether peers may know of what came this way: the one rule behind all that they can learn.
    pub fn permits(self, origin: Origin) -> bool {
        match self {
            Self::Added => origin > Origin::Pushed,
            Self::All => origin > Origin::FormerNetwork,
        }
    }

    /// Whether peers may be told of a block, be it here or not.
    pub fn shows(self, store: &Store, cid: &Cid) -> Result<bool, StoreError> {
        let hides_nothing = self == Self::All && !store.has_left_network();
        let is_permitted = hides_nothing || store.origin(cid)?.is_none_or(|origin| self.permits(origin));
        Ok(is_permitted && store.peers_see(cid)?)
    }

    /// Those of these blocks that are here for a partial file to take over. What peers may not know of counts as missing:
    /// the author of a file that names such a block would be shown it, while a peer that sends it proves that it has it.
    pub fn take_over(
        self,
        store: &Store,
        file: &PartialBlob,
        cids: Vec<Cid>,
    ) -> Result<Vec<Cid>, StoreError> {
        let mut available = Vec::new();
        for cid in cids {
            if inline_bytes(&cid).is_some() {
                available.push(cid);
            } else if let Some(origin) = self.origin_for_all(store, &cid)? {
                file.set_origin(origin);
                available.push(cid);
            }
        }
        Ok(available)
    }

    /// Those of these blocks that no file could take over now.
    pub fn missing(self, store: &Store, cids: Vec<Cid>) -> Result<Vec<Cid>, StoreError> {
        let mut missing = Vec::new();
        for cid in cids {
            if inline_bytes(&cid).is_none() && self.origin_for_all(store, &cid)?.is_none() {
                missing.push(cid);
            }
        }
        Ok(missing)
    }

    /// How a block came that is here and that all may learn of.
    fn origin_for_all(self, store: &Store, cid: &Cid) -> Result<Option<Origin>, StoreError> {
        let origin = store.origin(cid)?.filter(|origin| self.permits(*origin));
        Ok(if origin.is_some() && store.all_see(cid)? { origin } else { None })
    }

    /// Returns the keys to announce for these roots, as far as peers may be told of them: the roots, and for those that are
    /// stored files the CIDs that their bytes would have as one block, by which they are found by their digests.
    pub fn announced(self, store: &Store, roots: Vec<Cid>) -> Result<Vec<Cid>, StoreError> {
        let mut keys = self.shown(store, roots)?;
        let mut digests = Vec::new();
        for root in &keys {
            digests.extend(store.file(root)?.map(|stored| stored.digest));
        }
        keys.extend(self.announced_blobs(store, digests.iter())?);
        Ok(keys)
    }

    /// Returns the keys to announce for blobs that no root of their own is announced for.
    pub fn announced_blobs<'a>(
        self,
        store: &Store,
        digests: impl Iterator<Item = &'a Digest>,
    ) -> Result<Vec<Cid>, StoreError> {
        let mut keys = Vec::new();
        for raw in digests.filter_map(whole_cid) {
            keys.extend(self.shown_file(store, &raw)?.map(|_| raw));
        }
        Ok(keys)
    }

    /// Returns the stored file whose bytes would be this block, if peers may be told of it.
    pub fn shown_file(self, store: &Store, raw: &Cid) -> Result<Option<Stored>, StoreError> {
        match store.whole(raw)?.filter(|(_, origin)| self.permits(*origin)) {
            Some((stored, _)) if store.peers_see(&stored.root)? => Ok(Some(stored)),
            _ => Ok(None),
        }
    }

    /// Those of these blocks that peers may be told of.
    pub fn shown(self, store: &Store, cids: Vec<Cid>) -> Result<Vec<Cid>, StoreError> {
        let mut shown = Vec::new();
        for cid in cids {
            if self.shows(store, &cid)? {
                shown.push(cid);
            }
        }
        Ok(shown)
    }
}

impl Shared {
    fn is_hidden(&self, cid: &Cid) -> io::Result<bool> {
        Ok(!self.share.shows(&self.store, cid).map_err(io::Error::other)?)
    }

    /// Returns the stored file whose bytes would be this block, if peers may get it.
    fn whole(&self, raw: &Cid) -> io::Result<Option<Stored>> {
        self.share.shown_file(&self.store, raw).map_err(io::Error::other)
    }
}

impl Content {
    /// Returns a block that peers may get, if it is here and hashes to its CID.
    pub(super) async fn shared_block(&self, cid: &Cid) -> Result<Option<Bytes>, Error> {
        let (cid, share) = (*cid, self.settings().share);
        let read = move |store: &Store| match share.shows(store, &cid)? && store.is_visible(&cid)? {
            true => store.get_verified(&cid),
            false => Ok(None),
        };
        Ok(self.0.store.run(read).await?)
    }

    /// Returns the length of a block that peers may get, if it is here.
    pub(super) async fn shared_size(&self, cid: &Cid) -> Result<Option<u64>, Error> {
        let (cid, share) = (*cid, self.settings().share);
        let size = move |store: &Store| match store.size(&cid)? {
            Some(size) => Ok((share.shows(store, &cid)? && store.is_visible(&cid)?).then_some(size)),
            None => Ok(None),
        };
        Ok(self.0.store.run(size).await?)
    }
}

impl Blocks for Shared {
    fn size(&self, cid: &Cid) -> io::Result<Option<u64>> {
        match self.store.size(cid).map_err(io::Error::other)? {
            None => Ok(self.whole(cid)?.filter(is_block).map(|stored| stored.size)),
            size => Ok(if self.is_hidden(cid)? { None } else { size }),
        }
    }

    fn get(&self, cid: &Cid) -> io::Result<Option<Bytes>> {
        if self.is_hidden(cid)? {
            return Ok(None);
        }
        match self.store.get(cid).map_err(io::Error::other)? {
            None => match self.whole(cid)? {
                Some(stored) => self.store.read_whole(&stored).map_err(io::Error::other),
                None => Ok(None),
            },
            block => Ok(block),
        }
    }

    fn file_of(&self, raw: &Cid) -> io::Result<Option<Cid>> {
        if self.store.size(raw).map_err(io::Error::other)?.is_some() && !self.is_hidden(raw)? {
            return Ok(Some(*raw));
        }
        Ok(self.whole(raw)?.map(|stored| stored.root))
    }

    fn next(&self, cid: &Cid, block: &Bytes) -> Option<Cid> {
        DagNode::decode(cid, block.clone()).ok()?.next()
    }
}
