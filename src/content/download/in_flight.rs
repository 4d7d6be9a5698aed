//! The downloads in progress, for people who watch.

use ocipfs_node::Cid;
use ocipfs_oci::Digest;

use super::{Content, locked};

/// How far a download is.
#[derive(Clone, Debug)]
pub struct DownloadProgress {
    /// The root of the file.
    pub root: Cid,
    /// The digest that a reader expects, if one does.
    pub digest: Option<Digest>,
    /// The length of the file.
    pub size: u64,
    /// The bytes that came.
    pub done: u64,
    /// How many read it.
    pub readers: usize,
}

impl Content {
    /// Returns some downloads in progress, at most `most`, and how many there are.
    pub fn downloads_in_flight(&self, most: usize) -> (Vec<DownloadProgress>, usize) {
        let all = locked(&self.0.downloads.all);
        let listed = all.values().take(most).map(|shared| {
            let readers = locked(&shared.readers);
            DownloadProgress {
                root: shared.root,
                digest: readers.promised.first().map(|blob| blob.digest.clone()),
                size: shared.file.size(),
                done: shared.file.written().min(shared.file.size()),
                readers: readers.all.len(),
            }
        });
        (listed.collect(), all.len())
    }
}
