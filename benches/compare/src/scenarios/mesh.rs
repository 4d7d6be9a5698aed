//! Eight nodes that all know each other want one new blob at once, and one seeder has it.

use std::{
    fs,
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};

use super::Room;
use crate::{
    Failure,
    client::Url,
    memory::Memory,
    proxy::{Link, Proxy, Shaper, Way},
    report::{Row, Series, Target},
    server::{Added, Ocipfs, Serve},
};

const PULLERS: usize = 8;
const SENT: &str = "the seeder sent, in blobs";
/// 200 Mbit/s, each way of each node.
const CAP: u64 = 25_000_000;
/// Address without a listener. A capped node announces it, so that peers reach it only over its links.
const NOWHERE: &str = "/ip4/127.0.0.1/tcp/9";

pub fn run(room: &Room) -> Result<(), Failure> {
    let mesh = Mesh::start(room, None)?;
    let mut row = Figures::default();
    for _ in 0..room.plan.few() {
        let added = mesh.add(room)?;
        mesh.pull(&added, PULLERS)?.into(&mut row);
    }
    let title = format!("{PULLERS} nodes pull one new blob of {} MiB at once", mesh.mib);
    let row = row.row("swarm", title).check(SENT, "x", &row.copies, Target::at_most(1.3));
    room.show(row);
    Ok(())
}

pub fn run_capped(room: &Room) -> Result<(), Failure> {
    let mesh = Mesh::start(room, Some(CAP))?;
    let (mut one, mut all) = (Figures::default(), Figures::default());
    for _ in 0..room.plan.few().min(2) {
        mesh.pull(&mesh.add(room)?, 1)?.into(&mut one);
        mesh.pull(&mesh.add(room)?, PULLERS)?.into(&mut all);
    }
    let title = format!("{PULLERS} nodes at 200 Mbit/s each pull one new blob of {} MiB at once", mesh.mib);
    let times: Vec<f64> = all.seconds.iter().zip(&one.seconds).map(|(all, one)| all / one).collect();
    let mut alone = Series::new("ocipfs, one alone", "s");
    one.seconds.iter().for_each(|seconds| alone.push(*seconds));
    let row = all.row("capped-swarm", title).and(alone).check(SENT, "x", &all.copies, None);
    room.show(row.check("all to one alone", "x", &times, Target::at_most(2.0)));
    Ok(())
}

/// Results of the pulls of one kind.
#[derive(Default)]
struct Figures {
    seconds: Vec<f64>,
    copies: Vec<f64>,
    memory_mb: f64,
}

impl Figures {
    fn row(&self, scenario: &'static str, title: String) -> Row {
        let mut series = Series::new("ocipfs, until all are done", "s");
        self.seconds.iter().for_each(|seconds| series.push(*seconds));
        series.saw_memory(self.memory_mb);
        Row::new(scenario, title, vec![series])
    }
}

/// One pull by some of the nodes.
struct Pulled {
    seconds: f64,
    /// How often the seeder sent the blob.
    copies: Option<f64>,
    memory_mb: f64,
}

impl Pulled {
    fn into(self, figures: &mut Figures) {
        figures.seconds.push(self.seconds);
        figures.copies.extend(self.copies);
        figures.memory_mb = figures.memory_mb.max(self.memory_mb);
    }
}

/// The seeder, which is the first, and the others.
struct Mesh<'a> {
    nodes: Vec<Ocipfs<'a>>,
    mib: usize,
    lines: Option<Vec<Line>>,
    _proxies: Vec<Proxy>,
}

/// Link that a node's traffic passes, whichever side dialed.
struct Line {
    up: Arc<Shaper>,
    down: Arc<Shaper>,
}

impl Line {
    fn new(cap: u64) -> Self {
        Self { up: Shaper::new(cap), down: Shaper::new(cap) }
    }

    /// The link over which `self` dials `other`.
    fn to(&self, other: &Self) -> Link {
        let way = |up: &Arc<Shaper>, down: &Arc<Shaper>| Way {
            shapers: vec![up.clone(), down.clone()],
            delay: Duration::ZERO,
        };
        Link { there: way(&self.up, &other.down), back: way(&other.up, &self.down) }
    }
}

impl<'a> Mesh<'a> {
    /// Starts the nodes one by one; each dials all before it, so that each pair has one connection.
    fn start(room: &'a Room, cap: Option<u64>) -> Result<Self, Failure> {
        let lines: Option<Vec<_>> = cap.map(|cap| (0..=PULLERS).map(|_| Line::new(cap)).collect());
        let mut mesh = Self { nodes: Vec::new(), mib: room.plan.size(128), lines, _proxies: Vec::new() };
        for _ in 0..=PULLERS {
            let peers = mesh.ways_to_all()?;
            let announce = mesh.lines.as_ref().map(|_| NOWHERE.into());
            mesh.nodes.push(Ocipfs::start(room, &Serve { peers, announce, ..Serve::default() })?);
        }
        for node in &mesh.nodes {
            node.until_connected(PULLERS)?;
        }
        Ok(mesh)
    }

    /// Where the next node reaches those that run.
    fn ways_to_all(&mut self) -> Result<Vec<String>, Failure> {
        let Some(lines) = &self.lines else {
            return Ok(self.nodes.iter().map(|node| node.address().into()).collect());
        };
        let own = &lines[self.nodes.len()];
        let mut ways = Vec::new();
        for (node, line) in self.nodes.iter().zip(lines) {
            let mut proxy = Proxy::bind()?;
            proxy.lead(node.swarm()?, own.to(line));
            ways.push(node.at(&proxy));
            self._proxies.push(proxy);
        }
        Ok(ways)
    }

    fn add(&self, room: &Room) -> Result<Added, Failure> {
        let (tar, _) = room.new_tar(self.mib)?;
        let added = self.nodes[0].add(&tar.to_string_lossy())?;
        fs::remove_file(tar)?;
        room.settle();
        Ok(added)
    }

    /// Lets `count` nodes get the blob at one instant.
    fn pull(&self, added: &Added, count: usize) -> Result<Pulled, Failure> {
        let pullers = &self.nodes[1..=count];
        let memory: Vec<_> = pullers.iter().map(|node| Memory::watch(node.pid())).collect();
        let urls = pullers.iter().map(|node| node.blob(added)).collect::<Result<Vec<_>, _>>()?;
        let before = self.sent()?;
        let seconds = get_at_once(urls)?;
        let copies = self.sent()?.zip(before).map(|(now, then)| (now - then) as f64 / added.size as f64);
        let memory_mb = memory.iter().map(Memory::most).fold(0.0, f64::max);
        Ok(Pulled { seconds, copies, memory_mb })
    }

    /// Returns the bytes that the seeder has sent: all bytes on its line, or else the block bytes that it
    /// counts itself.
    fn sent(&self) -> Result<Option<u64>, Failure> {
        match &self.lines {
            Some(lines) => Ok(Some(lines[0].up.passed())),
            None => Ok(self.nodes[0].status()?.sent_bytes),
        }
    }
}

/// Gets each and says after how many seconds all were done.
fn get_at_once(urls: Vec<Url>) -> Result<f64, Failure> {
    let barrier = Arc::new(Barrier::new(urls.len() + 1));
    let get = |url: Url| {
        let barrier = barrier.clone();
        thread::spawn(move || {
            barrier.wait();
            url.get().map_err(|error| error.to_string())
        })
    };
    let gets: Vec<_> = urls.into_iter().map(get).collect();
    barrier.wait();
    let start = Instant::now();
    for get in gets {
        get.join().map_err(|_| "a pull panicked")??;
    }
    Ok(start.elapsed().as_secs_f64())
}
