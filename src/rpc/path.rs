//! Paths in arguments.

use ocipfs_node::Cid;

use super::{Rpc, error::Error};
use crate::{
    content::CidPath,
    names::ipns::{self, Path},
};

/// Finds out which content a path leads to: `/ipfs/<cid>...`, `/ipns/<name>...` or `<cid>...`.
pub async fn resolve(rpc: &Rpc, text: &str) -> Result<CidPath, Error> {
    let (node, timeout) = (rpc.content().node(), rpc.content().find_timeout());
    Ok(ipns::follow(node, Path::parse_lenient(text)?, timeout).await?.at)
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
