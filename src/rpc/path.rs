//! Paths in arguments.

use ocipfs_node::{Cid, MutableName};

use super::{Rpc, error::Error};
use crate::{
    content::{CidPath, View},
    names::ipns::{self, Path},
};

/// Names that lead to names.
const MAX_DEPTH: usize = 8;

/// Finds out which content a path leads to: `/ipfs/<cid>...`, `/ipns/<name>...` or `<cid>...`.
pub async fn resolve(rpc: &Rpc, text: &str) -> Result<CidPath, Error> {
    let (node, timeout) = (rpc.content().node(), rpc.content().find_timeout());
    let mut path = Path::parse_lenient(text)?;
    if View::current().is_local() {
        for _ in 0..MAX_DEPTH {
            match &path {
                Path::Content(_) => break,
                Path::Name(name, below) => path = own_value(rpc, name, below)?,
            }
        }
        if let Path::Name(name, _) = path {
            return Err(Error::failed(format!("{name} resolves through more than {MAX_DEPTH} names")));
        }
    }
    Ok(ipns::follow(node, path, timeout).await?.at)
}

/// Returns what a name means that this node publishes itself, for a client that has no peer asked.
pub fn own_value(rpc: &Rpc, name: &MutableName, below: &str) -> Result<Path, Error> {
    let own = match name {
        MutableName::Key(key) => rpc.content().node().published(key),
        MutableName::Domain(_) => None,
    };
    let unknown = || Error::failed(format!("could not resolve name (offline): {name} is not published here"));
    let value = own.ok_or_else(unknown)?.value;
    Ok(if below.is_empty() { value } else { format!("{value}/{below}") }.parse()?)
}

/// Finds the CID that a path leads to. A CID alone is not looked up.
pub async fn resolve_cid(rpc: &Rpc, text: &str) -> Result<Cid, Error> {
    cid_of(rpc, &resolve(rpc, text).await?).await
}

/// Finds the CID that a path below a CID leads to.
pub async fn cid_of(rpc: &Rpc, at: &CidPath) -> Result<Cid, Error> {
    match at.names() {
        [] => {
            if let Some(block) = at.inline_root() {
                rpc.content().put_blocks(vec![block]).await?;
            }
            Ok(*at.root())
        }
        _ => Ok(rpc.content().entry(at).await?.root.cid),
    }
}
