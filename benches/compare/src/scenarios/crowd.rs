//! A cold pull by a node that is connected to hundreds of peers which have nothing, and by one that knows two.

use std::{thread, time::Duration};

use super::{
    Room, cold,
    turns::{Contender, in_turns},
};
use crate::{
    Failure, cpu, memory,
    report::{Row, Series, Target},
    server::{Crowd, Ocipfs, Serve},
};

const PEERS: usize = 600;
/// Handshakes with hundreds of peers take the processor for seconds, and freed memory stays with a node as long.
const TO_SETTLE: Duration = Duration::from_secs(10);

pub fn run(room: &Room) -> Result<(), Failure> {
    let crowd = Crowd::start(room, PEERS)?;
    pulls(room, &crowd)?;
    idle(room, crowd)
}

fn pulls(room: &Room, crowd: &Crowd) -> Result<(), Failure> {
    let mib = room.plan.mib;
    let (tar, _) = room.new_tar(mib)?;
    let source = Ocipfs::start(room, &Serve::default())?;
    let added = source.add(&tar.to_string_lossy())?;
    std::fs::remove_file(tar)?;
    let with = |others| {
        let mut peers: Vec<&str> = crowd.addresses().take(others).collect();
        peers.push(source.address());
        peers
    };
    let (many, two) = (with(PEERS), with(1));
    let few = "ocipfs, 2 peers";
    let contenders = vec![
        Contender::new(format!("ocipfs, {} peers", many.len()), || {
            cold::get_after(room, &many, &added, TO_SETTLE)
        }),
        Contender::new(few, || cold::get_after(room, &two, &added, TO_SETTLE)),
    ];
    let series = in_turns(room, room.plan.rounds, contenders);
    let title = format!("cold GET of {mib} MiB from one peer, with {PEERS} connected that have nothing");
    room.show(Row::new("crowd", title, series).ratio(few, Target::at_least(0.8)));
    Ok(())
}

/// Measures the cost of idle connections.
fn idle(room: &Room, crowd: Crowd) -> Result<(), Failure> {
    let seconds = if room.plan.quick { 5 } else { 20 };
    let alone = Ocipfs::start(room, &Serve::default())?;
    let peers: Vec<&str> = crowd.addresses().collect();
    let node = Ocipfs::connected_to(room, &peers)?;
    thread::sleep(TO_SETTLE);
    let used = cpu::used(node.pid(), Duration::from_secs(seconds))?;
    let [without, with] = [&alone, &node].map(|node| memory::now(node.pid()));
    drop(crowd);
    node.until_connected_to_none()?;
    thread::sleep(TO_SETTLE);
    let returned = (with - memory::now(node.pid())) / (with - without);
    let mut series = Series::new("ocipfs", "MB");
    series.push(with);
    let title = format!("RssAnon of a node that {PEERS} idle peers are connected to");
    let row = Row::new("crowd", title, vec![series]).check("RssAnon", "MB", &[with], Target::at_most(94.4));
    let row = row.check("of a core", "%", &[100.0 * used], Target::at_most(2.0));
    room.show(row.check("returned when they leave", "%", &[100.0 * returned], Target::at_least(50.0)));
    Ok(())
}
