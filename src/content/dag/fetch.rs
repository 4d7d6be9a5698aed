use std::time::Duration;

use bytes::Bytes;
use ocipfs_node::{Cid, Session};

use super::unixfs::Unit;
use crate::content::{CidPath, Error};

/// The multihash code of a CID that carries its bytes in itself.
const IDENTITY: u64 = 0x00;

/// Gets the blocks of one DAG and says what they are.
pub struct Fetcher {
    session: Session,
    find_timeout: Duration,
    stall_timeout: Duration,
    verified: bool,
}

impl Fetcher {
    pub fn new(session: Session, find_timeout: Duration, stall_timeout: Duration) -> Self {
        Self { session, find_timeout, stall_timeout, verified: false }
    }

    /// For a blob that is here whole and was verified: its blocks are not hashed again.
    pub fn verified(self, verified: bool) -> Self {
        Self { verified, ..self }
    }

    pub fn is_verified(&self) -> bool {
        self.verified
    }

    pub fn stall_timeout(&self) -> Duration {
        self.stall_timeout
    }

    /// The root: looked for until the find time-out.
    pub async fn root(&self, cid: &Cid) -> Result<Unit, Error> {
        match inline(cid) {
            Some(data) => Unit::decode(cid, data),
            None => Unit::decode(cid, self.session.fetch_root(self.find_timeout).await?),
        }
    }

    /// A block below the root, on the way to a file: it must come within the stall time-out.
    pub async fn inner(&self, at: &CidPath, cid: &Cid) -> Result<Unit, Error> {
        let stalled = |_| Error::Stalled { at: at.clone(), after: self.stall_timeout };
        tokio::time::timeout(self.stall_timeout, self.block(cid)).await.map_err(stalled)?
    }

    /// A block below the root; who reads several at once watches their progress.
    pub async fn block(&self, cid: &Cid) -> Result<Unit, Error> {
        match inline(cid) {
            Some(data) => Unit::decode(cid, data),
            None if self.verified => Unit::decode(cid, self.session.fetch_verified(cid).await?),
            None => Unit::decode(cid, self.session.fetch(cid).await?),
        }
    }
}

fn inline(cid: &Cid) -> Option<Bytes> {
    (cid.hash().code() == IDENTITY).then(|| Bytes::copy_from_slice(cid.hash().digest()))
}
