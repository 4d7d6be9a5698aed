//! `GET` of a blob that is stored: a new connection for each, the body thrown away.

use super::{
    Room,
    turns::{Contender, Taken, in_turns},
};
use crate::{
    Failure,
    client::Url,
    memory::Memory,
    report::{Row, Target},
    server::{DockerRegistry, Nginx, Ocipfs, Serve, raw},
    tar::MIB,
};

pub fn run(room: &Room) -> Result<(), Failure> {
    let mib = room.plan.mib;
    let (tar, digest) = room.new_tar(mib)?;
    let (ours, theirs) = (Ocipfs::start(room, &Serve::default())?, DockerRegistry::start(room)?);
    let nginx = Nginx::start(room)?;
    let added = ours.add(&tar.to_string_lossy())?;
    let urls = [ours.blob(&added)?, theirs.repository("compare").blob(&tar, &digest)?, nginx.add(&tar)?];
    // This is the round to warm up, too.
    for url in &urls {
        let found = url.hash()?;
        if found != digest {
            return Err(format!("{url} gave {found}, not {digest}").into());
        }
    }
    let [ours, theirs, nginx] = [ours.pid(), theirs.pid(), nginx.pid()].map(Memory::watch);
    let contenders = vec![
        Contender::new("ocipfs", || get(&urls[0], &ours)),
        Contender::new("docker-registry", || get(&urls[1], &theirs)),
        Contender::new("nginx", || get(&urls[2], &nginx)),
        Contender::new("raw TCP", || tcp(mib)),
    ];
    let series = in_turns(room, room.plan.rounds.max(10), contenders);
    let row = Row::new("get", format!("GET of a stored blob of {mib} MiB"), series);
    room.show(
        row.ratio("docker-registry", Target::at_least(1.0)).ratio("nginx", None).ratio("raw TCP", None),
    );
    Ok(())
}

fn get(url: &Url, memory: &Memory) -> Result<Taken, Failure> {
    let (length, _, took) = url.timed()?;
    Ok(Taken::rate(length, took).with_memory(memory.most()))
}

fn tcp(mib: usize) -> Result<Taken, Failure> {
    let start = std::time::Instant::now();
    raw::send(mib)?;
    Ok(Taken::rate((mib * MIB) as u64, start.elapsed()))
}
