//! Anonymous memory: of a node that does nothing, and of one that is asked for eight large blobs at once.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::Room;
use crate::{
    Failure, memory,
    memory::Memory,
    report::{Row, Series, Target},
    server::{Added, Ocipfs, Serve},
};

const PULLS: usize = 8;

/// Clients that pull a layer of so many MiB at once, and the memory of a node under them: 128 MiB.
const CROWD: usize = 30;
const CROWD_MIB: usize = 64;
const CROWD_RSS_MB: f64 = 134.2;

pub fn run(room: &Room) -> Result<(), Failure> {
    let seconds = if room.plan.quick { 5 } else { 30 };
    let (idle, start) = (Ocipfs::start(room, &Serve::default())?, Instant::now());
    // Another node's work meanwhile is not this one's.
    let source = Ocipfs::start(room, &Serve::default())?;
    let added = (0..PULLS).map(|_| add(room, &source)).collect::<Result<Vec<_>, _>>()?;
    thread::sleep(Duration::from_secs(seconds).saturating_sub(start.elapsed()));
    let mut series = Series::new("ocipfs", "MB");
    series.push(memory::now(idle.pid()));
    drop(idle);
    let row = Row::new("memory", format!("RssAnon of a node {seconds} s after its start"), vec![series]);
    let found = row.values("ocipfs").to_vec();
    room.show(row.check("idle", "MB", &found, Target::at_most(40.0)));
    pulls(room, &source, &added)
}

/// Thirty clients pull a layer each, first from a peer and then from the store.
pub fn run_crowd(room: &Room) -> Result<(), Failure> {
    let source = Ocipfs::start(room, &Serve::default())?;
    let mib = room.plan.size(CROWD_MIB);
    let added = (0..CROWD).map(|_| add_of(room, &source, mib)).collect::<Result<Vec<_>, _>>()?;
    let node = Ocipfs::connected_to(room, &[source.address()])?;
    for state in ["cold", "stored"] {
        let watched = [Memory::watch(node.pid()), Memory::watch(source.pid())];
        let mut rate = Series::new("ocipfs, all together", "MB/s");
        rate.push(pull_all(&node, &added)?);
        let title = format!("memory while {CROWD} {state} layers of {mib} MiB are pulled at once");
        let mut row = Row::new("pulls30", title, vec![rate]);
        for (who, memory) in ["who pulls", "who serves"].iter().zip(&watched) {
            let most = Target::at_most(CROWD_RSS_MB);
            row = row.check(format!("{who}, VmRSS"), "MB", &[memory.most_resident()], most);
            row = row.check(format!("{who}, RssAnon"), "MB", &[memory.most()], None);
        }
        room.show(row);
    }
    Ok(())
}

fn add(room: &Room, source: &Ocipfs) -> Result<Added, Failure> {
    add_of(room, source, room.plan.size(1024))
}

fn add_of(room: &Room, source: &Ocipfs, mib: usize) -> Result<Added, Failure> {
    let (tar, _) = room.new_tar(mib)?;
    let added = source.add(&tar.to_string_lossy())?;
    std::fs::remove_file(tar)?;
    Ok(added)
}

fn pulls(room: &Room, source: &Ocipfs, added: &[Added]) -> Result<(), Failure> {
    let node = Ocipfs::connected_to(room, &[source.address()])?;
    let watched = [Memory::watch(node.pid()), Memory::watch(source.pid())];
    let mut rate = Series::new("ocipfs, all together", "MB/s");
    rate.push(pull_all(&node, added)?);
    let title =
        format!("RssAnon while {PULLS} cold blobs of {} MiB are pulled at once", room.plan.size(1024));
    let [puller, source] = watched.map(|memory| memory.most());
    let row = Row::new("memory", title, vec![rate]);
    let row = row.check("who pulls", "MB", &[puller], Target::at_most(150.0));
    room.show(row.check("who serves", "MB", &[source], Target::at_most(150.0)));
    Ok(())
}

/// Pulls all of them at once; the MB that come in a second.
fn pull_all(node: &Ocipfs, added: &[Added]) -> Result<f64, Failure> {
    let urls = added.iter().map(|added| node.blob(added)).collect::<Result<Vec<_>, _>>()?;
    let start = Instant::now();
    let pulls: Vec<_> =
        urls.into_iter().map(|url| thread::spawn(move || url.get().map_err(|e| e.to_string()))).collect();
    let mut bytes = 0;
    for pull in pulls {
        bytes += pull.join().map_err(|_| "a pull panicked")??;
    }
    Ok(bytes as f64 / 1e6 / start.elapsed().as_secs_f64())
}
