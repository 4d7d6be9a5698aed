//! Scenarios, one file each, and the room in which each is measured.

mod added;
mod bundled;
mod cold;
mod crowd;
mod delayed;
mod fetched;
mod first_byte;
mod foreign;
mod imported;
mod linked;
mod memory;
mod mesh;
mod programs;
mod pushed;
mod range;
mod resolved;
mod room;
mod rpc;
mod ruled;
mod secured;
mod spread;
mod stored;
mod tags;
mod turns;

use std::{
    sync::mpsc::RecvTimeoutError,
    thread,
    time::{Duration, Instant},
};

pub use programs::Programs;
pub use room::{Plan, Room};

use crate::{Failure, interrupt::Interrupt, report::Row};

/// How often it is looked whether time is up.
const LOOK: Duration = Duration::from_millis(100);

/// A piece of work to measure.
pub struct Scenario {
    pub name: &'static str,
    pub what: &'static str,
    /// Whether the boxo peer is needed.
    pub with_boxo: bool,
    run: fn(&Room) -> Result<(), Failure>,
}

const fn scenario(name: &'static str, what: &'static str, run: fn(&Room) -> Result<(), Failure>) -> Scenario {
    Scenario { name, what, run, with_boxo: false }
}

/// All of them, in the order of a full run.
pub const ALL: [Scenario; 23] = [
    scenario("get", "GET of a stored blob", stored::run),
    scenario("tls", "GET of a stored blob over TLS", secured::run),
    scenario("rules", "many clients with tokens, by access rules", ruled::run),
    scenario("add", "add a tar of new bytes", added::run),
    scenario("import", "import a docker archive", imported::run),
    scenario("bundle", "export and import of bundles", bundled::run),
    scenario("resolve", "a tag in a layout of ten thousand", resolved::run),
    Scenario { with_boxo: true, ..scenario("fetch", "cold fetch from one peer", fetched::run) },
    Scenario { with_boxo: true, ..scenario("delay", "cold fetch over a latency", delayed::run) },
    scenario("foreign", "cold fetch from Kubo, and over HTTP, at 50 ms", foreign::run),
    scenario("link", "cold fetch over a latency at 1 Gbit/s", linked::run),
    scenario("first-byte", "first byte of a cold blob at 50 ms", first_byte::run),
    scenario("swarm", "eight nodes pull one blob at once", mesh::run),
    scenario("capped-swarm", "the same at 200 Mbit/s a node", mesh::run_capped),
    scenario("crowd", "cold pull among six hundred peers", crowd::run),
    scenario("range", "64 KiB of a cold blob", range::run),
    scenario("push", "push of a blob, and GET of it", pushed::run),
    scenario("push-many", "many clients push at once", pushed::run_many),
    scenario("follow", "push here, pull there", spread::run),
    scenario("tags", "pages of many tags", tags::run),
    scenario("rpc", "the RPC of Kubo", rpc::run),
    scenario("memory", "idle, and eight cold pulls at once", memory::run),
    scenario("pulls30", "memory under thirty pulls at once", memory::run_crowd),
];

impl Scenario {
    /// Runs it; what it measured goes to `show`, and one that takes too long is ended.
    pub fn run(
        &self,
        mut room: Room,
        limit: Duration,
        interrupt: &Interrupt,
        mut show: impl FnMut(Row),
    ) -> Result<(), String> {
        let (deadline, shown) = (Instant::now() + limit, room.rows());
        let (children, run) = (room.children.clone(), self.run);
        let running = thread::spawn(move || run(&room).map_err(|error| error.to_string()));
        loop {
            match shown.recv_timeout(LOOK) {
                Ok(row) => show(row),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) if interrupt.came() || Instant::now() > deadline => {
                    // Its thread ends by the errors that this brings.
                    children.end();
                    let why = || format!("not done after {} s", limit.as_secs());
                    return Err(if interrupt.came() { "interrupted".into() } else { why() });
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        running.join().unwrap_or_else(|_| Err("it panicked".into()))
    }
}
