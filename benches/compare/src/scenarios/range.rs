//! A small piece of a large cold blob: what is fetched for it.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use super::Room;
use crate::{
    Failure,
    report::{Row, Series, Target},
    server::{Ocipfs, Serve},
    tar::MIB,
};

const LENGTH: u64 = 64 << 10;
/// The layer manifest, the directory, the file's root and one node below it.
const PATH: f64 = 4.0;
/// Nodes that read it: what one of them takes depends on the moment.
const READERS: usize = 8;
/// Deadline for content that was requested and that no reader waits for.
const AFTERWARDS: Duration = Duration::from_secs(1);

pub fn run(room: &Room) -> Result<(), Failure> {
    let mib = room.plan.size(1024);
    let (tar, _) = room.new_tar(mib)?;
    let source = Ocipfs::start(room, &Serve::default())?;
    let added = source.add(&tar.to_string_lossy())?;
    fs::remove_file(tar)?;
    let mut took = Series::new("ocipfs", "ms");
    let (mut blocks, mut received) = (Vec::new(), Vec::new());
    for _ in 0..READERS {
        let node = Ocipfs::connected_to(room, &[source.address()])?;
        room.settle();
        let before = node.status()?;
        let start = Instant::now();
        // Over the edge of two blocks, whatever their size.
        node.blob(&added)?.range((mib / 2 * MIB) as u64 - LENGTH / 2, LENGTH)?;
        took.push(start.elapsed().as_secs_f64() * 1e3);
        thread::sleep(AFTERWARDS);
        let after = node.status()?;
        let grown = |now: Option<u64>, then: Option<u64>| Some((now? - then?) as f64);
        blocks.extend(grown(after.received_blocks, before.received_blocks));
        received.extend(grown(after.received_bytes, before.received_bytes).map(|bytes| bytes / MIB as f64));
        node.discard()?;
    }
    let row = Row::new("range", format!("64 KiB of a cold blob of {mib} MiB"), vec![took]);
    let row = row.check("blocks received", "", &blocks, Target::at_most(2.0 + PATH));
    room.show(row.check("received", "MiB", &received, Target::at_most(2.25)));
    Ok(())
}
