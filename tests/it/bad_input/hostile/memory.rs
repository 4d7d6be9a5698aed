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

/// What a node may need, whatever its peers do.
const BOUND: u64 = 150 << 20;
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

/// Nothing of a process that has ended.
fn rss_anon(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) << 10
}
