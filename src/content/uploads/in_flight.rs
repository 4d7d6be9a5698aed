//! The uploads of which something comes, for people who watch.

use std::sync::atomic::Ordering;

use super::{SAVE_IDLE_AFTER, Uploads, locked, now};

/// How far an upload is. Its size is known at its end only.
#[derive(Clone, Debug)]
pub struct UploadInFlight {
    /// The repository.
    pub owner: String,
    /// The bytes that came.
    pub done: u64,
}

impl Uploads {
    /// Returns some uploads of which something came within a minute, at most `most`, and how many there are.
    pub fn in_flight(&self, most: usize) -> (Vec<UploadInFlight>, usize) {
        let (live, now) = (locked(&self.live), now());
        let is_idle = |used: u64| now.saturating_sub(used) >= SAVE_IDLE_AFTER.as_secs();
        let mut listed = Vec::new();
        let mut count = 0;
        for upload in live.values().filter(|upload| !is_idle(upload.progress.used.load(Ordering::Relaxed))) {
            count += 1;
            if listed.len() < most {
                let done = upload.progress.length.load(Ordering::Relaxed);
                listed.push(UploadInFlight { owner: upload.owner.clone(), done });
            }
        }
        (listed, count)
    }
}
