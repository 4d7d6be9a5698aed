//! Where the bytes of a block came from: what peers may learn of it follows from that, and never from what refers to it.
//!
//! A file is *from peers* when every block of it came from peers, or was public when the file took it over. That is a
//! row of its id; what has no row was pushed. A layout, a path or a record that names a pushed block does not change it.

use ocipfs_node::Cid;
use redb::{ReadTransaction, ReadableTable, WriteTransaction};

use super::{
    Error, Store,
    blocks::{FORMER_OWNER, NO_OWNER},
    index,
    layout::BlockKey,
    sweep::is_removed,
    tables::{BLOCKS, FETCHED, FILES, ORIGINS, PARTIAL, ROOTS, SHARED, Tables, row},
    trees::TREE,
};

/// Where a block came from. Of several ways it came, the greatest counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// It was here when the node left another network, and was not pushed, added or sent again since.
    FormerNetwork,
    /// A client pushed it, or it is part of the published tree.
    Pushed,
    /// A command added it.
    Added,
    /// Peers sent it, or it belongs to no file: then it came from peers, or a command wrote it.
    #[default]
    Peers,
}

/// The values of a row of `ORIGINS`.
const FROM_PEERS: u8 = 1;
pub(super) const FROM_FORMER_NETWORK: u8 = 2;

impl Store {
    /// Returns where a block came from; none if it is not here.
    pub fn origin(&self, cid: &Cid) -> Result<Option<Origin>, Error> {
        let key = BlockKey::of(cid);
        let waiting = self.0.pending.get(&key).map(|waiting| waiting.origin);
        if waiting == Some(Origin::Peers) {
            return Ok(waiting);
        }
        Ok(waiting.max(self.0.database.read(|read| of_block(read, &key))?))
    }

    /// Returns where a partial file came from, as far as its rows say.
    pub(super) fn origin_of_file(&self, id: u64) -> Result<Origin, Error> {
        Ok(self.0.database.read(|read| noted(read, id))?.unwrap_or(Origin::Pushed))
    }
}

impl Tables<'_> {
    /// Records where a file came from.
    pub(super) fn set_origin(&mut self, id: u64, origin: Origin) -> Result<(), Error> {
        match origin {
            Origin::FormerNetwork => drop(self.origins.insert(id, FROM_FORMER_NETWORK)?),
            Origin::Pushed => drop(self.origins.remove(id)?),
            Origin::Added | Origin::Peers => drop(self.origins.insert(id, FROM_PEERS)?),
        }
        Ok(())
    }
}

/// Records that the stored file with this root came from peers.
pub fn note_from_peers(write: &WriteTransaction, root: &Cid) -> Result<(), Error> {
    let id = write.open_table(ROOTS)?.get(BlockKey::of(root).bytes())?.map(|id| id.value());
    if let Some(id) = id {
        write.open_table(ORIGINS)?.insert(id, FROM_PEERS)?;
    }
    Ok(())
}

/// Records the origins of files that came before origins had rows: what a pull, a followed name or a command retained counted
/// as public then. Partial blobs count as pushed.
pub fn from_holders(write: &WriteTransaction) -> Result<(), Error> {
    {
        let (files, fetched) = (write.open_table(FILES)?, write.open_table(FETCHED)?);
        let mut origins = write.open_table(ORIGINS)?;
        for file in files.iter()? {
            let (id, file) = file?;
            let root = Cid::try_from(file.value().2).map_err(|e| Error::Damaged(e.to_string()))?;
            if fetched.get(BlockKey::of(&root).bytes())?.is_some() || index::was_public(write, &root)? {
                origins.insert(id.value(), FROM_PEERS)?;
            }
        }
    }
    write.delete_table(FETCHED)?;
    Ok(())
}

/// Returns the origin of a file as its row records it.
pub(super) fn noted(read: &ReadTransaction, id: u64) -> Result<Option<Origin>, Error> {
    row(read, ORIGINS, id, |origin| match origin {
        FROM_FORMER_NETWORK => Origin::FormerNetwork,
        _ => Origin::Peers,
    })
}

fn of_block(read: &ReadTransaction, key: &BlockKey) -> Result<Option<Origin>, Error> {
    let Some(first) = row(read, BLOCKS, key.bytes(), |(owner, _)| owner)? else { return Ok(None) };
    let mut best = of_owner(read, first)?;
    let shared = read.open_table(SHARED)?;
    for other in shared.range((key.bytes(), 0)..=(key.bytes(), u64::MAX))? {
        if best == Some(Origin::Peers) {
            break;
        }
        best = best.max(of_owner(read, other?.0.value().1)?);
    }
    Ok(best)
}

/// Where an owner of a block has it from; none of one that is being removed.
pub(super) fn of_owner(read: &ReadTransaction, owner: u64) -> Result<Option<Origin>, Error> {
    match owner {
        NO_OWNER => return Ok(Some(Origin::Peers)),
        FORMER_OWNER => return Ok(Some(Origin::FormerNetwork)),
        TREE => return Ok(Some(Origin::Pushed)),
        id if is_removed(read, id)? => return Ok(None),
        _ => {}
    }
    if let Some(origin) = noted(read, owner)? {
        return Ok(Some(origin));
    }
    let root = match row(read, FILES, owner, |(_, _, root)| Cid::try_from(root))? {
        Some(root) => Some(root),
        None => row(read, PARTIAL, owner, |(root, ..)| Cid::try_from(root))?,
    };
    let root = root.transpose().map_err(|e| Error::Damaged(e.to_string()))?;
    let is_added = root.map(|root| index::is_added(read, &root)).transpose()?;
    Ok(Some(if is_added == Some(true) { Origin::Added } else { Origin::Pushed }))
}
