//! Pins: GC roots that a user adds, each with a name and a kind.

use ocipfs_node::{Cid, as_v1};
use redb::{ReadTransaction, TableDefinition, WriteTransaction};

use super::{
    Error, Index, damaged,
    retention::PIN,
    rows::{GcRootRows, ROOTS, open, roots_of},
};

/// Pinned CID -> whether all below it was fetched for the pin, and the name of the pin; no row means yes, and no name.
const PINS: TableDefinition<&[u8], (bool, &str)> = TableDefinition::new("pins");

/// A pin, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinInfo {
    /// The CID, as it was given.
    pub cid: Cid,
    /// Whether all below it was fetched for the pin.
    pub is_recursive: bool,
    /// Its name, which may be empty.
    pub name: String,
}

fn pin_key(pin: &Cid) -> Vec<u8> {
    [PIN.as_bytes(), &as_v1(pin).to_bytes()].concat()
}

/// Keeps `roots` because `pin` is pinned, in a transaction that may do more.
pub fn add_pin(
    write: &WriteTransaction,
    pin: &Cid,
    roots: &[Cid],
    is_recursive: bool,
    pin_name: &str,
) -> Result<(), Error> {
    let mut rows = GcRootRows::open(write)?;
    roots.iter().try_for_each(|root| rows.add_root(&pin_key(pin), root, false))?;
    let mut pins = write.open_table(PINS)?;
    if is_recursive && pin_name.is_empty() {
        pins.remove(as_v1(pin).to_bytes().as_slice())?;
    } else {
        pins.insert(as_v1(pin).to_bytes().as_slice(), (is_recursive, pin_name))?;
    }
    Ok(())
}

/// Returns the pinned CIDs.
pub fn pins(read: &ReadTransaction) -> Result<Vec<Cid>, Error> {
    let Some(roots) = open(read, ROOTS)? else { return Ok(Vec::new()) };
    let mut pins = Vec::new();
    for row in roots.range((PIN.as_bytes(), &[][..])..)? {
        let key = row?.0;
        let Some(pin) = key.value().0.strip_prefix(PIN.as_bytes()) else { break };
        let pin = Cid::try_from(pin).map_err(damaged)?;
        if pins.last() != Some(&pin) {
            pins.push(pin);
        }
    }
    pins.sort();
    Ok(pins)
}

fn pin_info(read: &ReadTransaction, pin: Cid) -> Result<Option<PinInfo>, Error> {
    let Some(roots) = open(read, ROOTS)? else { return Ok(None) };
    let rows = roots_of(&roots, &pin_key(&pin))?;
    if rows.is_empty() {
        return Ok(None);
    }
    let given = rows.iter().map(|(root, _)| *root).find(|root| as_v1(root) == as_v1(&pin));
    let row =
        open(read, PINS)?.map(|pins| pins.get(as_v1(&pin).to_bytes().as_slice())).transpose()?.flatten();
    let (is_recursive, pin_name) = row.map_or((true, String::new()), |row| {
        let (is_recursive, name) = row.value();
        (is_recursive, name.to_owned())
    });
    Ok(Some(PinInfo { cid: given.unwrap_or(pin), is_recursive, name: pin_name }))
}

impl Index {
    /// Keeps `roots` because `pin` is pinned.
    pub fn pin(&self, pin: &Cid, roots: &[Cid]) -> Result<(), Error> {
        self.0.write(|write| add_pin(write, pin, roots, true, ""))
    }

    /// Keeps a pinned CID.
    pub fn pin_as(&self, pin: &PinInfo) -> Result<(), Error> {
        let PinInfo { cid, is_recursive, name } = pin;
        self.0.write(|write| add_pin(write, cid, &[*cid], *is_recursive, name))
    }

    /// Removes a pin. Returns the roots that have no holder left, or none if it was not pinned.
    pub fn unpin(&self, pin: &Cid) -> Result<Option<Vec<Cid>>, Error> {
        let key = pin_key(pin);
        self.0.write(|write| {
            GcRootRows::released(write)?;
            let mut rows = GcRootRows::open(write)?;
            write.open_table(PINS)?.remove(as_v1(pin).to_bytes().as_slice())?;
            let is_pinned = !roots_of(&rows.roots, &key)?.is_empty();
            is_pinned.then(|| rows.clear(&key)).transpose()
        })
    }

    /// Returns the pinned CIDs.
    pub fn pins(&self) -> Result<Vec<Cid>, Error> {
        self.0.read(pins)
    }

    /// Returns all pins, sorted by their CIDs.
    pub fn pin_infos(&self) -> Result<Vec<PinInfo>, Error> {
        self.0.read(|read| {
            let infos = pins(read)?.into_iter().map(|pin| pin_info(read, pin));
            infos.filter_map(Result::transpose).collect()
        })
    }

    /// Returns the pin of a CID.
    pub fn pin_info(&self, pin: &Cid) -> Result<Option<PinInfo>, Error> {
        self.0.read(|read| pin_info(read, *pin))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use multihash_codetable::{Code, MultihashDigest};

    use super::*;
    use crate::content::store::Database;

    #[test]
    fn a_pin_is_listed_by_the_cid_it_was_given_with_its_name_and_kind() {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::new(Arc::new(Database::open(&dir.path().join("index.redb")).unwrap()));
        let hash = Code::Sha2_256.digest(b"x");
        let (v0, v1) = (Cid::new_v0(hash).unwrap(), Cid::new_v1(0x70, hash));
        let info = PinInfo { cid: v0, is_recursive: false, name: "releases".into() };
        index.pin_as(&info).unwrap();
        assert_eq!(index.pin_infos().unwrap(), std::slice::from_ref(&info));
        assert_eq!(index.pin_info(&v1).unwrap(), Some(info));
        index.pin(&v0, &[v0]).unwrap();
        assert_eq!(
            index.pin_info(&v0).unwrap(),
            Some(PinInfo { cid: v0, is_recursive: true, name: String::new() })
        );
        assert_eq!(index.unpin(&v1).unwrap().unwrap().len(), 1);
        assert_eq!((index.pin_info(&v0).unwrap(), index.pin_infos().unwrap()), (None, vec![]));
    }
}
