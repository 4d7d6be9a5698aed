//! A document by its blocks, which stay blocks: versions of a document share what they have in common.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use ocipfs_node::Cid;
use ocipfs_unixfs::{Child, DagNode, RAW};

use super::nodes::Nodes;
use crate::content::Error;

/// Deeper and wider than any document that fits into memory.
pub const MAX_DEPTH: usize = 16;
pub const MAX_PARTS: usize = 1 << 17;
/// Parts that are fetched at once.
const MAX_WANTS: usize = 64;
/// Their bytes where there is memory for them, and where there is none.
pub const WINDOW: u64 = 2 << 20;
const MIN_WINDOW: u64 = 256 << 10;

enum ReadPart {
    Here(Bytes),
    Missing(Child, usize),
}

/// The bytes of a file in their order, of which few are in memory at a time.
pub struct FileParts {
    nodes: Nodes,
    root: Cid,
    size: u64,
    given: u64,
    /// How many parts are known by now.
    count: usize,
    waiting: VecDeque<ReadPart>,
}

impl FileParts {
    /// Begins to read the file `top`, whose size the caller has bounded.
    pub fn new(nodes: Nodes, root: Cid, top: DagNode) -> Result<Self, Error> {
        let size = top.size();
        let waiting = VecDeque::from(expand(root, &top, size, 0)?);
        Ok(Self { nodes, root, size, given: 0, count: waiting.len(), waiting })
    }

    /// Returns the next bytes; none at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            match self.waiting.pop_front() {
                Some(ReadPart::Here(data)) if data.is_empty() => {}
                Some(ReadPart::Here(data)) => {
                    self.given += data.len() as u64;
                    return Ok(Some(data));
                }
                Some(missing) => {
                    self.waiting.push_front(missing);
                    self.fetch().await?;
                }
                None if self.given == self.size => return Ok(None),
                None => {
                    let why = format!("file has {} bytes, but declares {}", self.given, self.size);
                    return Err(Error::Corrupt { cid: self.root, why });
                }
            }
        }
    }

    /// Fetches the parts that are not here, of which none stays in memory.
    pub async fn fetch_all(mut self) -> Result<(), Error> {
        while self.skip_local().await? {
            self.fetch().await?;
        }
        Ok(())
    }

    /// Goes on to the first part that is not a leaf or not here, without reading any; false at the end.
    async fn skip_local(&mut self) -> Result<bool, Error> {
        loop {
            while let Some(ReadPart::Here(_)) = self.waiting.front() {
                self.waiting.pop_front();
            }
            let leaf = |part: &ReadPart| match part {
                ReadPart::Missing(child, _) if child.cid.codec() == RAW => Some(child.cid),
                _ => None,
            };
            let leaves: Vec<Cid> = self.waiting.iter().take(MAX_WANTS).map_while(leaf).collect();
            let here = self.nodes.count_here(&leaves).await?;
            self.waiting.drain(..here);
            if here == 0 || here < leaves.len() {
                return Ok(!self.waiting.is_empty());
            }
        }
    }

    /// Fetches the parts that come next, and puts what is in them in their place.
    async fn fetch(&mut self) -> Result<(), Error> {
        let memory = self.nodes.memory_for_window();
        let run = self.next_missing(if memory.is_some() { WINDOW } else { MIN_WINDOW });
        let mut cids: Vec<Cid> = run.iter().map(|(child, _)| child.cid).collect();
        cids.sort();
        cids.dedup();
        let mut nodes = HashMap::new();
        self.nodes.each(&cids, |cid, node| drop(nodes.insert(cid, node))).await?;
        drop(memory);
        for (Child { cid, size }, depth) in run.into_iter().rev() {
            let Some(node) = nodes.get(&cid) else {
                return Err(self
                    .nodes
                    .failure()
                    .cloned()
                    .unwrap_or(ocipfs_node::FetchError::Offline(cid).into()));
            };
            for part in expand(cid, node, size, depth)?.into_iter().rev() {
                self.count += 1;
                self.waiting.push_front(part);
            }
            if self.count > MAX_PARTS {
                return Err(corrupt(self.root, format!("more than {MAX_PARTS} parts")));
            }
        }
        Ok(())
    }

    /// Takes the missing parts at the front: one, and more up to so many bytes.
    fn next_missing(&mut self, bytes: u64) -> Vec<(Child, usize)> {
        let (mut run, mut sum) = (Vec::new(), 0);
        while let Some(ReadPart::Missing(child, depth)) = self.waiting.front() {
            sum += child.size;
            if run.len() == MAX_WANTS || (sum > bytes && !run.is_empty()) {
                break;
            }
            run.push((child.clone(), *depth));
            self.waiting.pop_front();
        }
        run
    }
}

/// Returns the parts of a block: its own bytes, then its children.
fn expand(cid: Cid, node: &DagNode, size: u64, depth: usize) -> Result<Vec<ReadPart>, Error> {
    match node {
        DagNode::File { data, children } if node.size() == size => {
            if depth == MAX_DEPTH && !children.is_empty() {
                return Err(corrupt(cid, format!("deeper than {MAX_DEPTH} levels")));
            }
            // An empty part has no bytes to wait for.
            let children = children.iter().filter(|child| child.size > 0);
            let children = children.map(|child| ReadPart::Missing(child.clone(), depth + 1));
            Ok(std::iter::once(ReadPart::Here(data.clone())).chain(children).collect())
        }
        DagNode::File { .. } => {
            Err(corrupt(cid, format!("size differs from the {size} bytes that its parent declares")))
        }
        other => Err(corrupt(cid, format!("found {} inside a file", other.kind()))),
    }
}

fn corrupt(cid: Cid, why: String) -> Error {
    Error::Corrupt { cid, why }
}
