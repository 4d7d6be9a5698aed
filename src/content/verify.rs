//! Everything that is stored hashed again, and what is damaged fetched again.

use std::collections::BTreeMap;

use bytes::Bytes;
use ocipfs_node::{Block, Cid};

use super::{
    Content, Error,
    dag::Unit,
    store::{Damaged, Leaf, Mending},
};

/// Told how many bytes were hashed or fetched so far, and of how many.
pub type Progress<'a> = &'a mut (dyn FnMut(u64, u64) + Send);

/// What was looked at, and what is wrong with it.
#[derive(Clone, Debug, Default)]
pub struct Verified {
    /// Stored blobs.
    pub blobs: u64,
    /// Blocks that stand in the index.
    pub blocks: u64,
    /// The bytes that were hashed.
    pub bytes: u64,
    /// What was damaged.
    pub damage: Vec<Damage>,
}

/// A blob or a block that was not what its name says.
#[derive(Clone, Debug)]
pub struct Damage {
    /// The blob's digest, or of what is no blob the CID.
    pub name: String,
    /// Its root, or its own CID.
    pub cid: Cid,
    /// What is wrong with it.
    pub why: String,
    /// Whether it is right again; none where that was not tried.
    pub repaired: Option<bool>,
}

impl Content {
    /// Hashes everything that is stored; with `repair`, what is damaged is fetched again from peers.
    pub async fn verify(&self, repair: bool, progress: Progress<'_>) -> Result<Verified, Error> {
        let files = self.store().run(|store| store.all_files()).await?;
        let total = files.iter().map(|(file, _)| file.size).sum();
        let mut verified = Verified::default();
        let mut damaged = Vec::new();
        for (file, is_stored) in files {
            let size = file.size;
            let verify = move |store: &super::Store| match is_stored {
                true => store.verify_blob(&file, &mut |_| ()),
                false => store.verify_arriving(&file, &mut |_| ()),
            };
            damaged.extend(self.store().run(verify).await?);
            verified.blobs += u64::from(is_stored);
            verified.bytes += size;
            progress(verified.bytes, total);
        }
        let (blocks, wrong) = self.store().run(|store| store.verify_blocks()).await?;
        verified.blocks = blocks;
        // First the nodes that tell where the parts of a file belong.
        for cid in wrong {
            let mut damage =
                Damage { name: cid.to_string(), cid, why: "its bytes differ".into(), repaired: None };
            if repair {
                damage.repaired = Some(self.repair_block(&cid).await?);
            }
            verified.damage.push(damage);
        }
        for damaged in damaged {
            let repaired = if repair { Some(self.repair(&damaged, progress).await?) } else { None };
            verified.damage.push(described(damaged, repaired));
        }
        Ok(verified)
    }

    async fn repair_block(&self, cid: &Cid) -> Result<bool, Error> {
        let patience = self.settings().find_timeout;
        let Ok(fetched) = self.node().session(*cid).root(patience).await else { return Ok(false) };
        let block = Block { cid: *cid, data: fetched.block.data };
        self.store().run(move |store| store.mend_block(&block)).await?;
        Ok(true)
    }

    /// Fetches the damaged windows of a file; whether it is right then.
    async fn repair(&self, damaged: &Damaged, progress: Progress<'_>) -> Result<bool, Error> {
        if damaged.windows.is_empty() {
            return Ok(false);
        }
        let (begun, total) = (damaged.clone(), damaged.windows.iter().map(|leaf| leaf.length).sum());
        let mut mending = self.store().run(move |store| store.mend(&begun)).await?;
        let mut missing: BTreeMap<Vec<u8>, Vec<Leaf>> = BTreeMap::new();
        for leaf in &damaged.windows {
            missing.entry(leaf.cid.hash().to_bytes()).or_default().push(*leaf);
        }
        let mut session = self.node().session(damaged.file.root);
        session.want(damaged.windows.iter().map(|leaf| (leaf.cid, 0)).collect());
        let (mut done, patience) = (0, self.settings().find_timeout);
        while !missing.is_empty() {
            let Ok(Ok(fetched)) = tokio::time::timeout(patience, session.next()).await else { break };
            let Some(leaves) = missing.remove(&fetched.block.cid.hash().to_bytes()) else { continue };
            done += leaves.iter().map(|leaf| leaf.length).sum::<u64>();
            mending = write(mending, leaves, fetched.block.data).await?;
            progress(done, total);
        }
        let damaged = damaged.clone();
        Ok(self.store().run(move |store| store.mended(&damaged, mending)).await?)
    }
}

async fn write(mut mending: Mending, leaves: Vec<Leaf>, block: Bytes) -> Result<Mending, Error> {
    let write = move || {
        for leaf in leaves {
            if let Unit::File { data, .. } = Unit::decode(&leaf.cid, block.clone())? {
                mending.write(leaf.offset, &data)?;
            }
        }
        Ok(mending)
    };
    tokio::task::spawn_blocking(write).await.map_err(Error::stopped)?
}

fn described(damaged: Damaged, repaired: Option<bool>) -> Damage {
    let Damaged { file, is_stored, windows, why } = damaged;
    let name = if is_stored { file.digest.to_string() } else { file.root.to_string() };
    let parts: Vec<String> =
        windows.iter().take(4).map(|leaf| format!("{} at {}", leaf.cid, leaf.offset)).collect();
    let more = windows.len().saturating_sub(parts.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let parts =
        if parts.is_empty() { String::new() } else { format!(" (blocks {}{more})", parts.join(", ")) };
    Damage { name, cid: file.root, why: format!("{why}{parts}"), repaired }
}
