//! How much memory a node takes while something goes on.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::harness::Serve;

/// Maximum memory of a node, whatever its peers do.
pub const BOUND: u64 = 150 << 20;
const SAMPLE_EVERY: Duration = Duration::from_millis(20);

/// Looks at a node's anonymous memory until it is asked.
pub struct Memory {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Memory {
    pub fn watch(node: &Serve) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (pid, stopped) = (node.pid(), stop.clone());
        let thread = thread::spawn(move || {
            let mut peak = 0;
            while !stopped.load(Ordering::Relaxed) {
                peak = peak.max(rss_anon(pid));
                thread::sleep(SAMPLE_EVERY);
            }
            peak
        });
        Self { stop, thread }
    }

    /// Holds that it was never too much.
    #[track_caller]
    pub fn was_bounded(self) {
        self.stayed_below(BOUND);
    }

    /// Holds that it was never more than `bound` bytes.
    #[track_caller]
    pub fn stayed_below(self, bound: u64) {
        self.stop.store(true, Ordering::Relaxed);
        let peak = self.thread.join().expect("it only reads");
        eprintln!("at most {} MiB", peak >> 20);
        assert!(peak > 0 && peak <= bound, "it took {} MiB", peak >> 20);
    }
}

/// Waits until a node's anonymous memory is at most this.
pub async fn falls_to(node: &Serve, bytes: u64, limit: Duration) {
    let falls = async {
        while rss_anon(node.pid()) > bytes {
            tokio::time::sleep(SAMPLE_EVERY).await;
        }
    };
    if tokio::time::timeout(limit, falls).await.is_err() {
        panic!("{} MiB instead of {} MiB", rss_anon(node.pid()) >> 20, bytes >> 20);
    }
}

/// Nothing of a process that has ended.
pub fn rss_anon(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) << 10
}
