//! Memory of a process: its anonymous memory, and all that is resident, in MB (10^6 bytes).

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

const EVERY: Duration = Duration::from_millis(10);

/// Samples a process's memory until it is dropped.
pub struct Memory {
    most: Arc<Most>,
    stop: Arc<AtomicBool>,
}

/// The most that was seen.
#[derive(Default)]
struct Most {
    anonymous: AtomicU64,
    resident: AtomicU64,
}

impl Memory {
    pub fn watch(pid: u32) -> Self {
        let watch = Self { most: Arc::default(), stop: Arc::default() };
        let (most, stop) = (watch.most.clone(), watch.stop.clone());
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let status = status(pid);
                most.anonymous.fetch_max(bytes(&status, ANONYMOUS), Ordering::Relaxed);
                most.resident.fetch_max(bytes(&status, RESIDENT), Ordering::Relaxed);
                thread::sleep(EVERY);
            }
        });
        watch
    }

    /// Returns the most anonymous memory.
    pub fn most(&self) -> f64 {
        self.most.anonymous.load(Ordering::Relaxed) as f64 / 1e6
    }

    /// Returns the most resident memory, which includes pages of files that the system can drop.
    pub fn most_resident(&self) -> f64 {
        self.most.resident.load(Ordering::Relaxed) as f64 / 1e6
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

const ANONYMOUS: &str = "RssAnon:";
const RESIDENT: &str = "VmRSS:";

/// Returns the anonymous memory that the process uses now, in MB.
pub fn now(pid: u32) -> f64 {
    bytes(&status(pid), ANONYMOUS) as f64 / 1e6
}

fn status(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default()
}

fn bytes(status: &str, row: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(row));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}
