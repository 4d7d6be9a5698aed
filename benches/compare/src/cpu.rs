//! How busy a process is.

use std::{fs, thread, time::Duration};

use crate::Failure;

/// Clock ticks in a second, which Linux fixes for `/proc`.
const TICKS: f64 = 100.0;

/// The share of a core that a process uses over `time`, from now on.
pub fn used(pid: u32, time: Duration) -> Result<f64, Failure> {
    let before = ticks(pid)?;
    thread::sleep(time);
    Ok((ticks(pid)? - before) as f64 / TICKS / time.as_secs_f64())
}

/// Returns the CPU time that a process has used since its start, user and kernel, in clock ticks.
fn ticks(pid: u32) -> Result<u64, Failure> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The program's name, in parentheses, may have spaces.
    let (_, fields) = stat.rsplit_once(')').ok_or("no stat")?;
    let mut used = fields.split_whitespace().skip(11);
    let mut next = || -> Result<u64, Failure> { Ok(used.next().ok_or("no times")?.parse()?) };
    Ok(next()? + next()?)
}
