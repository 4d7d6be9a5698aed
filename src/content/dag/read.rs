//! A document read into memory by its blocks, which stay blocks: versions of a document share what they have in common.

use std::collections::HashMap;

use bytes::Bytes;
use ocipfs_node::Cid;

use super::{
    nodes::Nodes,
    unixfs::{Child, Unit},
};
use crate::content::Error;

/// Deeper and wider than any document that fits into memory.
pub const MAX_DEPTH: usize = 16;
pub const MAX_PARTS: usize = 1 << 17;

enum Part {
    Here(Bytes),
    Missing(Child),
}

/// Reads the file `top`, whose size the caller has bounded.
pub async fn read(nodes: &mut Nodes, cid: Cid, top: Unit) -> Result<Bytes, Error> {
    let size = top.size();
    let mut parts = vec![Part::Missing(Child { cid, size })];
    let mut units = HashMap::from([(cid, top)]);
    for _ in 0..MAX_DEPTH {
        parts = expand(parts, &units)?;
        let missing = missing(&parts);
        if missing.is_empty() {
            return join(cid, parts, size);
        }
        if parts.len() > MAX_PARTS {
            return Err(corrupt(cid, format!("it has more than {MAX_PARTS} parts")));
        }
        units.clear();
        nodes.each(&missing, |cid, unit| drop(units.insert(cid, unit))).await?;
        if let Some(lost) = missing.iter().find(|cid| !units.contains_key(cid)) {
            return Err(nodes.failure().cloned().unwrap_or(ocipfs_node::Error::Offline(*lost).into()));
        }
    }
    Err(corrupt(cid, format!("it is deeper than {MAX_DEPTH} levels")))
}

fn missing(parts: &[Part]) -> Vec<Cid> {
    let mut missing: Vec<Cid> = parts
        .iter()
        .filter_map(|part| match part {
            Part::Missing(child) => Some(child.cid),
            Part::Here(_) => None,
        })
        .collect();
    missing.sort();
    missing.dedup();
    missing
}

/// Puts what came in its place: its own bytes, then its children.
fn expand(parts: Vec<Part>, units: &HashMap<Cid, Unit>) -> Result<Vec<Part>, Error> {
    let mut next = Vec::with_capacity(parts.len());
    for part in parts {
        let Part::Missing(Child { cid, size }) = part else {
            next.push(part);
            continue;
        };
        match units.get(&cid) {
            None => next.push(Part::Missing(Child { cid, size })),
            Some(unit @ Unit::File { data, children }) if unit.size() == size => {
                next.push(Part::Here(data.clone()));
                // An empty part has no bytes to wait for.
                let children = children.iter().filter(|child| child.size > 0);
                next.extend(children.cloned().map(Part::Missing));
            }
            Some(Unit::File { .. }) => {
                return Err(corrupt(cid, format!("it does not hold the {size} bytes that its parent says")));
            }
            Some(other) => return Err(corrupt(cid, format!("it is {} within a file", other.kind()))),
        }
    }
    Ok(next)
}

fn join(cid: Cid, parts: Vec<Part>, size: u64) -> Result<Bytes, Error> {
    let mut all = Vec::with_capacity(size as usize);
    for part in parts {
        if let Part::Here(data) = part {
            all.extend_from_slice(&data);
        }
    }
    match all.len() as u64 == size {
        true => Ok(all.into()),
        false => Err(corrupt(cid, format!("it has {} bytes, and says {size}", all.len()))),
    }
}

fn corrupt(cid: Cid, why: String) -> Error {
    Error::Corrupt { cid, why }
}
