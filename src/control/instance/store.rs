//! Handler of requests about the store: usage, pins, garbage collection and verification.

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
};

use ocipfs_node::Cid;

use super::{Instance, Notes, meter::Meter, reference::ImageRef};
use crate::{
    content::{self, CollectStep, Content, VerifyStep},
    control::{
        Collected, DamageInfo, Dropped, Failure, Note, Pin, Room, StoreReply, StoreRequest, Stored, Unit,
        Verified,
        failure::{content_failure, names_failure},
    },
    names::{BlobSource, NameKind, TreeOptions},
};

impl Instance {
    pub(super) async fn store(&self, request: StoreRequest, notes: Notes) -> Result<StoreReply, Failure> {
        Ok(match request {
            StoreRequest::Stat => StoreReply::Stored(Box::new(self.store_stat().await?)),
            StoreRequest::Pin { what } => StoreReply::Pinned(self.store_pin(&what, notes).await?),
            StoreRequest::Unpin { what } => StoreReply::Unpinned(self.store_unpin(&what).await?),
            StoreRequest::Pins => {
                let pins = self.content().pins().await.map_err(content_failure)?;
                StoreReply::Pins { pins: pins.iter().map(pin).collect() }
            }
            StoreRequest::Collect { dry, uploads: false } => {
                StoreReply::Collected(self.store_collect(dry, notes).await?)
            }
            StoreRequest::Collect { dry, uploads: true } => {
                StoreReply::Dropped(self.drop_uploads(dry).await?)
            }
            StoreRequest::Verify { repair } => StoreReply::Verified(self.store_verify(repair, notes).await?),
        })
    }

    async fn store_stat(&self) -> Result<Stored, Failure> {
        let stat = self.content().store_stat().await.map_err(content_failure)?;
        let content::StoreStat { blobs, bytes, layouts, blocks, partial, partial_bytes, damaged } = stat;
        let room = self.room().await?;
        Ok(Stored { blobs, bytes, layouts, blocks, partial, partial_bytes, damaged, room })
    }

    pub(super) async fn room(&self) -> Result<Room, Failure> {
        let usage = self.content().usage().await.map_err(content_failure)?;
        let content::Usage { used, kept, pinned, followed, cached, pins } = usage;
        let uploads = self.content().uploads().usage().await.map_err(|e| content_failure(e.into()))?;
        let (cache_size, max_size) = self.content().limits();
        Ok(Room {
            uploads: uploads.under_way,
            upload_bytes: uploads.under_way_bytes,
            abandoned_uploads: uploads.abandoned,
            abandoned_upload_bytes: uploads.abandoned_bytes,
            oldest_upload_seconds: uploads.oldest_seconds,
            used_bytes: used,
            index_bytes: self.content().index_bytes().await.map_err(content_failure)?,
            owned_bytes: kept,
            pinned_bytes: pinned,
            followed_bytes: followed,
            cached_bytes: cached,
            pins,
            cache_size,
            max_size,
        })
    }

    async fn store_pin(&self, what: &str, notes: Notes) -> Result<Pin, Failure> {
        // What is found here on the way must not be collected before it is retained.
        let _storing = self.content().gc_guard().await;
        let (cid, roots) = match cid_of(what) {
            Some(cid) => {
                let meter = Meter::begin(&notes, "fetch", Unit::Bytes, self.file_size(cid).await?);
                let progress = &mut |done| meter.set(done);
                self.content().fetch_all(cid, progress).await.map_err(content_failure)?;
                meter.finish();
                (cid, vec![cid])
            }
            None => self.fetch_image(&self.image_ref(what)?, &notes).await?,
        };
        self.content().pin(cid, roots).await.map_err(content_failure)?;
        Ok(pin(&cid))
    }

    /// Returns the size of a file; none where the CID is that of a directory or of other content.
    async fn file_size(&self, cid: Cid) -> Result<Option<u64>, Failure> {
        match self.content().stat(&cid.into()).await {
            Ok(file) => Ok(Some(file.size)),
            Err(error @ content::Error::Node(_)) => Err(content_failure(error)),
            Err(_) => Ok(None),
        }
    }

    /// Fetches an image whole: the CID in its name, or that its name leads to, and the roots it consists of.
    async fn fetch_image(&self, image_ref: &ImageRef, notes: &Notes) -> Result<(Cid, Vec<Cid>), Failure> {
        let (kind, image) = self.image_tree(image_ref, TreeOptions::default()).await?;
        image.warnings.iter().for_each(|text| drop(notes.send(Note::Warning(text.clone()))));
        let (mut roots, mut done) = (BTreeSet::new(), 0);
        let documents: u64 = image.documents.values().map(|bytes| bytes.len() as u64).sum();
        let total = documents + image.blobs.values().sum::<u64>();
        let (meter, mut root) = (Meter::begin(notes, "fetch", Unit::Bytes, Some(total)), root_of(&kind));
        for digest in image.documents.keys().chain(image.blobs.keys()) {
            let found = kind.locate_blob(self.resolver(), digest).await;
            // Some documents are made here, and are no blobs.
            let Ok(BlobSource::Blob(blob)) = found else {
                if image.blobs.contains_key(digest) {
                    found.map_err(names_failure)?;
                }
                continue;
            };
            let content = self.content();
            let mut reader = content.fetch(&blob).await.map_err(content_failure)?;
            let progress = &mut |here| meter.set(done + here);
            reader.wait_until_stored(progress).await.map_err(content_failure)?;
            done += blob.size;
            meter.set(done);
            is_kept(content, digest).await?;
            let file = content.stat(&blob.at).await.map_err(content_failure)?;
            root.get_or_insert(*blob.at.root());
            roots.extend(blob.gc_root.into_iter().chain([*blob.at.root(), file.cid]));
        }
        meter.finish();
        let root = root.ok_or_else(|| Failure::new(format!("{} has no blobs to pin", image_ref.text())))?;
        roots.insert(root);
        Ok((root, roots.into_iter().collect()))
    }

    async fn store_unpin(&self, what: &str) -> Result<Pin, Failure> {
        let cid = match cid_of(what) {
            Some(cid) => Some(cid),
            None => root_of(&NameKind::parse(&self.image_ref(what)?.name).map_err(names_failure)?),
        };
        let listed = "`ocipfs store ls` lists the pins by CID";
        let cid = cid.ok_or_else(|| {
            Failure::new(format!("{what} is mutable: unpin it by the CID that `store ls` shows")).hint(listed)
        })?;
        match self.content().unpin(&cid).await.map_err(content_failure)? {
            true => Ok(pin(&cid)),
            false => Err(Failure::new(format!("{cid} is not pinned")).hint(listed)),
        }
    }

    async fn store_collect(&self, dry: bool, notes: Notes) -> Result<Collected, Failure> {
        let swept = self.sweep_due(dry).await?;
        let marking = Meter::begin(&notes, "mark", Unit::Blocks, None);
        let deleting = Arc::new(OnceLock::<Meter>::new());
        let (marked, deleted) = (marking.clone(), deleting.clone());
        let begin_deleting = move |marked: &Meter, total| {
            marked.finish();
            Meter::begin(&notes, "delete", Unit::Bytes, Some(total))
        };
        let progress = move |step| match step {
            CollectStep::Marked(blocks) => marked.set(blocks),
            CollectStep::Deleted { done, total } => {
                deleted.get_or_init(|| begin_deleting(&marked, total)).set(done);
            }
        };
        let collected = self.content().collect_with(dry, progress).await.map_err(content_failure)?;
        deleting.get().unwrap_or(&marking).finish();
        let content::Collected { mut blobs, partial, blocks, mut bytes } = collected;
        // Content that is still in its repository does not count as unreferenced yet.
        for removed in swept.iter().filter(|removed| dry && removed.freed) {
            blobs += 1;
            bytes += removed.freed_bytes();
        }
        Ok(Collected { blobs, partial, blocks, bytes, dry })
    }

    async fn drop_uploads(&self, dry: bool) -> Result<Dropped, Failure> {
        let dropped = self.content().uploads().drop_abandoned(dry).await;
        let dropped = dropped.map_err(|error| content_failure(error.into()))?;
        Ok(Dropped { uploads: dropped.abandoned, bytes: dropped.abandoned_bytes, dry })
    }

    async fn store_verify(&self, repair: bool, notes: Notes) -> Result<Verified, Failure> {
        let mut phase: Option<(&str, Meter)> = None;
        let progress = &mut |step| {
            let (name, unit, done, total) = match step {
                VerifyStep::Hashed { done, total } => ("hash", Unit::Bytes, done, total),
                VerifyStep::Blocks { done, total } => ("hash blocks", Unit::Blocks, done, total),
                VerifyStep::Repaired { done, total } => ("repair", Unit::Bytes, done, total),
            };
            if let Some((_, ended)) = phase.take_if(|(last, _)| *last != name) {
                ended.finish();
            }
            phase.get_or_insert_with(|| (name, Meter::begin(&notes, name, unit, Some(total)))).1.set(done);
        };
        let verified = self.content().verify(repair, progress).await.map_err(content_failure)?;
        if let Some((_, ended)) = phase {
            ended.finish();
        }
        let content::Verified { blobs, blocks, bytes, damage } = verified;
        let info = |damage: content::Damage| DamageInfo {
            name: damage.name,
            cid: damage.cid.to_string(),
            why: damage.why,
            repaired: damage.repaired,
        };
        Ok(Verified { blobs, blocks, bytes, damage: damage.into_iter().map(info).collect() })
    }
}

/// Fails if a blob was streamed through and not stored, because it did not fit.
async fn is_kept(content: &Content, digest: &ocipfs_oci::Digest) -> Result<(), Failure> {
    let limit = content.limits().1.unwrap_or_default();
    match content.has(digest).await.map_err(content_failure)? {
        true => Ok(()),
        false => Err(content_failure(content::Error::Quota { limit })),
    }
}

fn pin(cid: &Cid) -> Pin {
    Pin { cid: cid.to_string() }
}

/// Takes `<cid>`, `ipfs://<cid>` and `/ipfs/<cid>`.
fn cid_of(text: &str) -> Option<Cid> {
    let text = text.strip_prefix("ipfs://").or(text.strip_prefix("/ipfs/")).unwrap_or(text);
    let cid: Cid = text.parse().ok()?;
    Some(Cid::new_v1(cid.codec(), *cid.hash()))
}

/// The CID that a name has in it.
fn root_of(kind: &NameKind) -> Option<Cid> {
    let cid = match kind {
        NameKind::Layer { cid, .. } => *cid,
        NameKind::Ipfs { at, .. } | NameKind::Dockerized { at, .. } => *at.root(),
        NameKind::Ipns { .. } | NameKind::Hosted { .. } => return None,
    };
    Some(Cid::new_v1(cid.codec(), *cid.hash()))
}
