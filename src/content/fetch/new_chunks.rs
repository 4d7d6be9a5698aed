//! The chunks of a file that an earlier version of it does not have: equal parts are not read.

use std::collections::HashSet;

use ocipfs_node::Cid;
use ocipfs_unixfs::{DagNode, RAW};

use super::{
    file_parts::{MAX_DEPTH, MAX_PARTS},
    nodes::Nodes,
};
use crate::content::Error;

/// Nodes that are in memory at once.
const CONCURRENCY: usize = 4;
/// No file of longer chunks is read in parts.
const MAX_CHUNK_BYTES: usize = 64 << 10;

/// Gives `take` the chunks of the file `new` that `old` does not have; `old` is read only where it is here. Of a version that
/// has more or fewer levels, some may be given although both have them. False where a chunk is long, or `take` refuses one.
///
/// # Errors
/// Fails where a node cannot be had or is not part of a file, and where there are more bytes than `most`, or too many nodes.
pub async fn new_chunks(
    nodes: &mut Nodes,
    new: Cid,
    old: Cid,
    most: u64,
    mut take: impl FnMut(&[u8]) -> bool,
) -> Result<bool, Error> {
    let (mut known, mut level, mut before) = (HashSet::new(), HashSet::from([new]), HashSet::from([old]));
    let mut left_bytes = most;
    for _ in 0..MAX_DEPTH {
        known.extend(before.iter().copied());
        let changed: Vec<Cid> = level.difference(&known).copied().collect();
        if changed.is_empty() {
            return Ok(true);
        }
        let left: Vec<Cid> = before.difference(&level).copied().collect();
        let mut below = HashSet::new();
        for some in changed.chunks(CONCURRENCY) {
            for (cid, node) in files(nodes, some).await? {
                let DagNode::File { data, children } = node else {
                    return Err(corrupt(cid, format!("found {} inside a file", node.kind())));
                };
                let is_long = children
                    .iter()
                    .any(|child| child.cid.codec() == RAW && child.size > MAX_CHUNK_BYTES as u64);
                if is_long || data.len() > MAX_CHUNK_BYTES || !take(&data) {
                    return Ok(false);
                }
                below.extend(children.iter().filter(|child| child.size > 0).map(|child| child.cid));
                let rest = left_bytes.checked_sub(data.len() as u64).filter(|_| below.len() <= MAX_PARTS);
                let too_large = || corrupt(new, format!("more than {most} bytes or {MAX_PARTS} parts"));
                left_bytes = rest.ok_or_else(too_large)?;
            }
        }
        level = below;
        before = children(nodes, &left).await?;
    }
    Err(corrupt(new, format!("deeper than {MAX_DEPTH} levels")))
}

async fn files(nodes: &mut Nodes, cids: &[Cid]) -> Result<Vec<(Cid, DagNode)>, Error> {
    let mut found = Vec::new();
    nodes.each(cids, |cid, node| found.push((cid, node))).await?;
    nodes.failure().map_or(Ok(found), |error| Err(error.clone()))
}

/// Returns the children of nodes of the earlier version, as far as those nodes are stored.
async fn children(nodes: &Nodes, parents: &[Cid]) -> Result<HashSet<Cid>, Error> {
    let mut below = HashSet::new();
    let take = |_, node| {
        if let DagNode::File { children, .. } = node {
            below.extend(children.into_iter().map(|child| child.cid));
        }
    };
    nodes.each_local(parents, take).await?;
    Ok(below)
}

fn corrupt(cid: Cid, why: String) -> Error {
    Error::Corrupt { cid, why }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use ocipfs_node::Node;
    use ocipfs_unixfs::{Builder, Profile};

    use super::*;
    use crate::content::{Content, Settings, Store};

    /// Puts a file of these chunks.
    async fn file(content: &Content, chunks: &[String]) -> Cid {
        let (mut builder, mut blocks) = (Builder::new(Profile::UnixfsV1), Vec::new());
        for chunk in chunks {
            blocks.extend(builder.push(Bytes::from(chunk.clone())));
        }
        let (root, nodes) = builder.finish();
        blocks.extend(nodes);
        content.put_fetched(blocks).await.unwrap();
        root.cid
    }

    #[tokio::test]
    async fn only_chunks_missing_from_the_earlier_version_of_a_file_are_new() {
        let dir = tempfile::tempdir().unwrap();
        let (store, node) = (Store::open(dir.path()).unwrap(), Node::offline(dir.path()).unwrap());
        let content = Content::new(store, node, Settings::default()).unwrap();
        let some = |numbers: &[usize]| numbers.iter().map(|n| n.to_string()).collect::<Vec<_>>();
        let all: Vec<usize> = (0..3000).collect();
        let (mut changed, mut more) = (all.clone(), all.clone());
        (changed[7], changed[2000]) = (100_007, 102_000);
        more.push(3000);
        for (new, old, expected) in [
            (&all[..], &all[..], &[][..]),
            (&changed, &all, &[100_007, 102_000]),
            (&more, &all, &[3000]),
            (&all, &more, &[]),
            (&all[..2], &all[..1], &[1]),
            (&all[..1], &all[..2], &[0]),
        ] {
            let [new, old] = [file(&content, &some(new)).await, file(&content, &some(old)).await];
            let mut chunks = HashSet::new();
            let take = |chunk: &[u8]| {
                chunks.extend((!chunk.is_empty()).then(|| Bytes::copy_from_slice(chunk)));
                true
            };
            assert!(new_chunks(&mut content.nodes(new), new, old, 1 << 20, take).await.unwrap());
            assert_eq!(chunks, some(expected).into_iter().map(Bytes::from).collect());
        }
        let (root, old) = (file(&content, &some(&all)).await, file(&content, &[]).await);
        assert!(
            !new_chunks(&mut content.nodes(root), root, old, 1 << 20, |_| false).await.unwrap(),
            "refused"
        );
        let many = new_chunks(&mut content.nodes(root), root, old, 100, |_| true).await;
        assert!(matches!(many, Err(Error::Corrupt { .. })), "{many:?}");
        let long = file(&content, &["x".repeat(MAX_CHUNK_BYTES + 1), "y".into()]).await;
        assert!(
            !new_chunks(&mut content.nodes(long), long, old, 1 << 20, |_| true).await.unwrap(),
            "too long"
        );
    }
}
