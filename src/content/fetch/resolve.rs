//! From a CID and a path to a file, through directories plain and sharded.

use ocipfs_node::Cid;
use ocipfs_unixfs::{
    DagNode,
    hamt::{self, Bits, Slot},
};

use super::dag_fetcher::DagFetcher;
use crate::content::{CidPath, Error};

/// Deeper than 64 bits of hash can lead.
const MAX_SHARD_DEPTH: usize = 32;

/// A file's first block.
#[derive(Debug)]
pub struct ResolvedFile {
    pub cid: Cid,
    pub node: DagNode,
}

impl ResolvedFile {
    pub fn size(&self) -> u64 {
        self.node.size()
    }
}

/// Finds the file that `at` names.
pub async fn resolve(fetcher: &mut DagFetcher, at: &CidPath) -> Result<ResolvedFile, Error> {
    let (cid, node) = walk(fetcher, at).await?;
    match node {
        DagNode::File { .. } => Ok(ResolvedFile { cid, node }),
        other => Err(Error::NotAFile { at: at.clone(), kind: other.kind() }),
    }
}

/// Finds what `at` names, whatever it is.
pub async fn walk(fetcher: &mut DagFetcher, at: &CidPath) -> Result<(Cid, DagNode), Error> {
    let mut cid = *at.root();
    let mut node = fetcher.root().await?;
    for name in at.names() {
        cid = match &node {
            DagNode::Directory(links) => links
                .iter()
                .find(|(link, _)| link == name)
                .map(|(_, cid)| *cid)
                .ok_or_else(|| no_entry(at, name))?,
            DagNode::Shard { .. } => in_shard(fetcher, at, &node, name).await?,
            _ => return Err(no_entry(at, name)),
        };
        node = fetcher.inner(at, &cid).await?;
    }
    Ok((cid, node))
}

fn no_entry(at: &CidPath, name: &str) -> Error {
    Error::NoEntry { at: at.clone(), entry: name.into() }
}

async fn in_shard(fetcher: &mut DagFetcher, at: &CidPath, shard: &DagNode, name: &str) -> Result<Cid, Error> {
    let mut bits = Bits::of(name);
    let mut deeper;
    let mut shard = shard;
    for _ in 0..MAX_SHARD_DEPTH {
        let DagNode::Shard { fanout_bits, width, links } = shard else { break };
        match hamt::find(&mut bits, name, *width, *fanout_bits, links) {
            Slot::Entry(cid) => return Ok(*cid),
            Slot::Deeper(cid) => deeper = fetcher.inner(at, cid).await?,
            Slot::Empty => break,
        }
        shard = &deeper;
    }
    Err(no_entry(at, name))
}
