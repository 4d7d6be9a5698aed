//! The process as the kernel sees it, under the names that every Prometheus client library uses. Nothing where there is no /proc.

use std::{
    fs,
    time::{SystemTime, UNIX_EPOCH},
};

use rustix::{
    param::{clock_ticks_per_second, page_size},
    process::{Resource, getrlimit},
};

/// What a scrape shows of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    pub cpu_seconds: f64,
    pub resident_bytes: u64,
    pub virtual_bytes: u64,
    pub threads: u64,
    /// Seconds since 1970.
    pub started: f64,
    pub open_files: u64,
    pub max_files: u64,
}

impl Process {
    pub fn read() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let uptime = fs::read_to_string("/proc/uptime").ok()?;
        let since_boot: f64 = uptime.split_whitespace().next()?.parse().ok()?;
        let booted = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs_f64() - since_boot;
        let mut process = Self::parse(&stat, clock_ticks_per_second() as f64, page_size() as u64)?;
        process.started += booted;
        process.open_files = open_files()?;
        process.max_files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Some(process)
    }

    /// Reads `/proc/self/stat`; the start is in seconds since the machine was booted.
    fn parse(stat: &str, ticks: f64, page: u64) -> Option<Self> {
        // The name of the program is in parentheses, and may hold some.
        let (_, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        // The first of these is the third field of proc_pid_stat(5).
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) as f64 / ticks,
            threads: field(20)?,
            started: field(22)? as f64 / ticks,
            virtual_bytes: field(23)?,
            resident_bytes: field(24)? * page,
            ..Self::default()
        })
    }
}

/// Newer kernels tell the number as the size of the directory; in older ones its entries are counted.
fn open_files() -> Option<u64> {
    const DIR: &str = "/proc/self/fd";
    match fs::metadata(DIR).ok()?.len() {
        0 => Some(fs::read_dir(DIR).ok()?.count() as u64),
        open => Some(open),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statistics_of_a_process_are_read_whatever_its_name_holds() {
        let stat = "12 (a) b (c) S 1 12 12 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 7 0 1000 4096000 25 18446744073709551615";
        let process = Process::parse(stat, 100.0, 4096).unwrap();
        let expected = Process {
            cpu_seconds: 2.0,
            resident_bytes: 102_400,
            virtual_bytes: 4_096_000,
            threads: 7,
            started: 10.0,
            ..Process::default()
        };
        assert_eq!(process, expected);
        assert_eq!(Process::parse("12 (a) S 1", 100.0, 4096), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_memory_threads_and_open_files() {
        let process = Process::read().unwrap();
        assert!(process.resident_bytes > 1 << 20 && process.threads > 0 && process.open_files >= 3);
        assert!(process.open_files < process.max_files && process.started > 1.7e9);
    }
}
