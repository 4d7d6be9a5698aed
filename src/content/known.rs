//! What is here of a blob that is asked for by its digest alone.

use std::time::Duration;

use ocipfs_oci::Digest;

use super::{
    Blob, Content, Error, Store, Stored,
    store::{Origin, whole_cid},
};

/// How a blob is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is not here.
    Absent,
    /// It came from peers, so that it may be given to clients that name only its digest.
    FromPeers(Stored),
    /// Clients pushed it or commands added it: it is given under the names that it has.
    Named,
}

impl Content {
    /// Returns how a blob is here.
    pub async fn presence(&self, digest: &Digest) -> Result<Presence, Error> {
        let digest = digest.clone();
        let find = move |store: &Store| {
            let Some(stored) = store.present_guarded(&digest)? else {
                // It may be a part of what is here.
                let origin = whole_cid(&digest).map(|raw| store.origin(&raw)).transpose()?.flatten();
                let is_named = origin.is_some_and(|origin| origin < Origin::Peers);
                return Ok(if is_named { Presence::Named } else { Presence::Absent });
            };
            let found = whole_cid(&stored.digest).map(|raw| store.whole(&raw)).transpose()?.flatten();
            Ok(match found {
                Some((stored, Origin::Peers)) => Presence::FromPeers(stored),
                _ => Presence::Named,
            })
        };
        Ok(self.store().run(find).await?)
    }

    /// How long a digest that no local repository has is searched among peers; zero for not at all.
    pub fn digest_timeout(&self) -> Duration {
        self.settings().digest_timeout
    }

    /// Returns the blob with this digest at a place that a peer told; none if the place leads nowhere, or is known to be
    /// wrong. Its bytes are not verified yet. It is retained as cached content once they are.
    pub async fn told_blob(&self, digest: &Digest, root: ocipfs_node::Cid) -> Option<Blob> {
        let stat = self.stat(&root.into()).await.ok()?;
        let blob = Blob { digest: digest.clone(), size: stat.size, at: root.into(), gc_root: Some(root) };
        self.refuse_rejected(&blob).ok()?;
        Some(blob)
    }
}
