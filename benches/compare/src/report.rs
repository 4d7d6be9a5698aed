//! What was measured, as a table and as JSON.

use std::{
    fmt, fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{Failure, Url};

const EVERY: Duration = Duration::from_millis(5);

/// One program while it is measured; `keep` runs as long as it is.
pub struct Side<P> {
    name: &'static str,
    put: f64,
    rates: Vec<f64>,
    memory: Memory,
    _keep: P,
}

impl<P> Side<P> {
    pub fn new(name: &'static str, pid: u32, size: u64, put: Duration, keep: P) -> Self {
        Self { name, put: rate(size, put), rates: Vec::new(), memory: Memory::watch(pid), _keep: keep }
    }

    /// Gets the blob once.
    pub fn get(&mut self, url: &Url) -> Result<(), Failure> {
        let start = Instant::now();
        let size = url.get()?;
        self.rates.push(rate(size, start.elapsed()));
        Ok(())
    }

    pub fn finish(self) -> Figures {
        let Self { name, put, rates, memory, .. } = self;
        Figures { name, get_mb_s: Spread::of(&rates), put_mb_s: put, memory_mb: memory.most(), rates }
    }
}

fn rate(size: u64, took: Duration) -> f64 {
    size as f64 / 1e6 / took.as_secs_f64()
}

/// Samples a process's anonymous memory until it is dropped.
struct Memory {
    most: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Memory {
    fn watch(pid: u32) -> Self {
        let watch = Self { most: Arc::default(), stop: Arc::default() };
        let (most, stop) = (watch.most.clone(), watch.stop.clone());
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                most.fetch_max(anonymous(pid), Ordering::Relaxed);
                thread::sleep(EVERY);
            }
        });
        watch
    }

    fn most(&self) -> f64 {
        self.most.load(Ordering::Relaxed) as f64 / 1e6
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn anonymous(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

/// The least, the middle and the most of some figures.
#[derive(Serialize)]
pub struct Spread {
    min: f64,
    median: f64,
    max: f64,
}

impl Spread {
    fn of(figures: &[f64]) -> Self {
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        let last = sorted.len().saturating_sub(1);
        let median = (at(last / 2) + at(sorted.len() / 2)) / 2.0;
        Self { min: at(0), median, max: at(last) }
    }
}

/// What one program showed; rates in MB (10^6 bytes) a second.
#[derive(Serialize)]
pub struct Figures {
    name: &'static str,
    get_mb_s: Spread,
    put_mb_s: f64,
    memory_mb: f64,
    #[serde(skip)]
    rates: Vec<f64>,
}

/// Both, and what one is to the other.
#[derive(Serialize)]
pub struct Report {
    size: u64,
    rounds: usize,
    programs: [Figures; 2],
    /// Of ocipfs to the other, each pair by itself: above 1 ocipfs is quicker.
    ratio: Spread,
}

impl Report {
    pub fn new(size: u64, ours: Figures, theirs: Figures) -> Self {
        let ratios: Vec<f64> = ours.rates.iter().zip(&theirs.rates).map(|(a, b)| a / b).collect();
        Self { size, rounds: ratios.len(), ratio: Spread::of(&ratios), programs: [ours, theirs] }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "GET of a stored blob of {} bytes, {} rounds in turns", self.size, self.rounds)?;
        writeln!(
            f,
            "{:16} {:>10} {:>8} {:>8} {:>10} {:>11}",
            "", "GET MB/s", "min", "max", "PUT MB/s", "RssAnon MB"
        )?;
        for Figures { name, get_mb_s: get, put_mb_s, memory_mb, .. } in &self.programs {
            let Spread { min, median, max } = get;
            writeln!(f, "{name:16} {median:10.0} {min:8.0} {max:8.0} {put_mb_s:10.0} {memory_mb:11.0}")?;
        }
        let Spread { min, median, max } = &self.ratio;
        writeln!(f, "ratio pair by pair: min {min:.2}, median {median:.2}, max {max:.2}")
    }
}
