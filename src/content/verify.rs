//! Everything that is stored hashed again, and what is damaged fetched again.

use std::collections::HashMap;

use ocipfs_node::{Block, Cid};
use ocipfs_oci::Digest;

use super::{
    Blob, Content, Error, Store, StoreError, Stored,
    store::{Damaged, DamagedBlob},
};

/// How far a verification is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyStep {
    /// Bytes of files that were hashed.
    Hashed {
        /// So far.
        done: u64,
        /// Of all files.
        total: u64,
    },
    /// Blocks in the index that were hashed.
    Blocks {
        /// So far.
        done: u64,
        /// Of all.
        total: u64,
    },
    /// Bytes of damaged files that are here again.
    Repaired {
        /// So far.
        done: u64,
        /// Of all damaged files.
        total: u64,
    },
}

/// Told how far it is.
pub type Progress<'a> = &'a mut (dyn FnMut(VerifyStep) + Send);

/// The result of a verification.
#[derive(Clone, Debug, Default)]
pub struct Verified {
    /// Stored blobs.
    pub blobs: u64,
    /// Blocks that stand in the index.
    pub blocks: u64,
    /// The bytes that were hashed.
    pub bytes: u64,
    /// The damage found.
    pub damage: Vec<Damage>,
}

/// A blob or a block that was not what its name says.
#[derive(Clone, Debug)]
pub struct Damage {
    /// The blob's digest, or the CID of anything else.
    pub name: String,
    /// Its root, or its own CID.
    pub cid: Cid,
    /// Description of the damage.
    pub why: String,
    /// Whether it is right again; none where that was not tried.
    pub repaired: Option<bool>,
}

impl Content {
    /// Hashes everything that is stored. What is damaged is not stored from then on; with `repair`, it is fetched again from
    /// peers.
    pub async fn verify(&self, repair: bool, progress: Progress<'_>) -> Result<Verified, Error> {
        let files = self.store().run(|store| store.all_files()).await?;
        let total = files.iter().map(|(file, _)| file.size).sum();
        progress(VerifyStep::Hashed { done: 0, total });
        let mut verified = Verified::default();
        let mut found = HashMap::new();
        for (file, is_stored) in files {
            let size = file.size;
            let verify = move |store: &Store| match is_stored {
                true => demote_if_damaged(store, &file),
                false => drop_damaged_parts(store, &file),
            };
            match self.store().run(verify).await? {
                Some(damaged) if is_stored => {
                    drop(found.insert(damaged.file.digest.clone(), described(&damaged)))
                }
                // What is dropped comes again when it is read.
                Some(damaged) => verified.damage.push(Damage {
                    name: damaged.file.root.to_string(),
                    cid: damaged.file.root,
                    why: described(&damaged),
                    repaired: Some(true),
                }),
                None => {}
            }
            verified.blobs += u64::from(is_stored);
            verified.bytes += size;
            progress(VerifyStep::Hashed { done: verified.bytes, total });
        }
        let (blocks, wrong) = self.store().run(|store| store.verify_blocks()).await?;
        verified.blocks = blocks;
        progress(VerifyStep::Blocks { done: blocks, total: blocks });
        // First the nodes that tell where the parts of a file belong.
        for cid in wrong {
            let mut damage =
                Damage { name: cid.to_string(), cid, why: "content differs".into(), repaired: None };
            if repair {
                damage.repaired = Some(self.repair_block(&cid).await?);
            }
            verified.damage.push(damage);
        }
        let lost = self.store().run(Store::lost).await?;
        let (mut done, total) = (0, lost.iter().map(|lost| lost.size).sum());
        for lost in lost {
            let why = found.remove(&lost.digest).unwrap_or_else(|| missing(&lost));
            let told = &mut |here| progress(VerifyStep::Repaired { done: done + here, total });
            let repaired = if repair { Some(self.repair(&lost, told).await?) } else { None };
            done += lost.size;
            verified.damage.push(Damage { name: lost.digest.to_string(), cid: lost.root, why, repaired });
        }
        Ok(verified)
    }

    /// Refuses a blob whose copy here is damaged, so that clients push it again; a pull may find it at peers.
    pub(super) async fn refuse_lost(&self, blob: &Blob) -> Result<(), Error> {
        match self.is_damaged(&blob.digest).await? {
            true => Err(ocipfs_node::FetchError::Offline(*blob.at.root()).into()),
            false => Ok(()),
        }
    }

    /// Whether a blob was found damaged, and is not stored since.
    pub(super) async fn is_damaged(&self, digest: &Digest) -> Result<bool, Error> {
        let digest = digest.clone();
        Ok(self.store().run(move |store| store.is_lost(&digest)).await?)
    }

    async fn repair_block(&self, cid: &Cid) -> Result<bool, Error> {
        let patience = self.settings().find_timeout;
        let Ok(fetched) = self.node().block_fetcher(*cid).fetch_root(patience).await else {
            return Ok(false);
        };
        let block = Block { cid: *cid, data: fetched.block.data };
        self.store().run(move |store| store.repair_block(&block)).await?;
        Ok(true)
    }

    /// Fetches what is missing of a damaged blob; whether it is stored again.
    async fn repair(
        &self,
        lost: &DamagedBlob,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<bool, Error> {
        let fetched = async {
            let mut reader = self.fetch_at(&lost.root.into()).await?;
            reader.wait_until_stored(progress).await
        };
        // Content that does not fit counts as not found.
        if let Err(error) = fetched.await {
            tracing::info!(digest = %lost.digest, "cannot repair a damaged blob: {error}");
        }
        self.has(&lost.digest).await
    }
}

/// Verifies a stored blob and demotes it if it is damaged; returns the damage.
fn demote_if_damaged(store: &Store, file: &Stored) -> Result<Option<Damaged>, StoreError> {
    let damaged = store.verify_blob(file)?;
    if damaged.is_some() {
        store.demote(file)?;
    }
    Ok(damaged)
}

/// Verifies a partial blob and drops its damaged parts; returns the damage.
fn drop_damaged_parts(store: &Store, file: &Stored) -> Result<Option<Damaged>, StoreError> {
    let damaged = store.verify_partial(file)?;
    match &damaged {
        // The task that fetches it hashes it in the end.
        Some(found) if !store.drop_parts(&file.root, file.id, &found.windows)? => Ok(None),
        _ => Ok(damaged),
    }
}

fn described(damaged: &Damaged) -> String {
    let Damaged { windows, why, .. } = damaged;
    let parts: Vec<String> =
        windows.iter().take(4).map(|leaf| format!("{} at {}", leaf.cid, leaf.offset)).collect();
    let more = windows.len().saturating_sub(parts.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    if parts.is_empty() { why.clone() } else { format!("{why} (blocks {}{more})", parts.join(", ")) }
}

fn missing(lost: &DamagedBlob) -> String {
    let missing = indicatif::HumanBytes(lost.size - lost.right);
    format!("{missing} missing since the damage was found")
}
