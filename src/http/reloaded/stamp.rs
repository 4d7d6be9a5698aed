//! By what files differ from their other versions.

use std::{
    fs::Metadata,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

/// A file that was changed so few seconds ago may change again without a change of its times.
const UNSETTLED_SECONDS: i64 = 2;

/// Inode, length and time of change of each file.
#[derive(Debug, PartialEq, Eq)]
pub struct Stamp(Vec<(u64, u64, i64, i64)>);

impl Stamp {
    /// Returns the stamp of files that are all there.
    pub fn of(paths: &[PathBuf]) -> Option<Self> {
        let of_one = |path| std::fs::metadata(path).ok().map(|metadata| one(&metadata));
        paths.iter().map(of_one).collect::<Option<_>>().map(Self)
    }

    /// Returns the stamp of files that do not change without another one.
    pub fn settled(paths: &[PathBuf]) -> Option<Self> {
        Self::of(paths).filter(Self::is_settled)
    }

    fn is_settled(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
        self.0.iter().all(|(_, _, changed, _)| now.saturating_sub(*changed) >= UNSETTLED_SECONDS)
    }
}

fn one(metadata: &Metadata) -> (u64, u64, i64, i64) {
    (metadata.ino(), metadata.len(), metadata.ctime(), metadata.ctime_nsec())
}
