//! New bytes, uncompressed: `layer add` compared with a push to docker-registry. ocipfs hashes the bytes
//! and makes a DAG of them; who pushes is given the digest.

use std::time::Instant;

use super::{
    Room,
    turns::{Contender, Taken, in_turns},
};
use crate::{
    Failure,
    memory::Memory,
    report::{Row, Target},
    server::{DockerRegistry, Ocipfs, Serve},
};

pub fn run(room: &Room) -> Result<(), Failure> {
    let (ours, theirs) = (Ocipfs::start(room, &Serve::default())?, DockerRegistry::start(room)?);
    let memory = [ours.pid(), theirs.pid()].map(Memory::watch);
    let contenders = vec![
        Contender::new("ocipfs", || add(room, &ours, &memory[0])),
        Contender::new("docker-registry", || push(room, &theirs, &memory[1])),
    ];
    let series = in_turns(room, room.plan.rounds, contenders);
    let row =
        Row::new("add", format!("add an uncompressed tar of {} MiB of new bytes", room.plan.mib), series);
    room.show(row.ratio("docker-registry", Target::aiming_at(1.5, 2.0)));
    Ok(())
}

fn add(room: &Room, node: &Ocipfs, memory: &Memory) -> Result<Taken, Failure> {
    let (tar, _) = room.new_tar(room.plan.mib)?;
    room.settle();
    let start = Instant::now();
    let added = node.add(&tar.to_string_lossy())?;
    let taken = Taken::rate(added.size, start.elapsed());
    std::fs::remove_file(tar)?;
    Ok(taken.with_memory(memory.most()))
}

fn push(room: &Room, registry: &DockerRegistry, memory: &Memory) -> Result<Taken, Failure> {
    let (tar, digest) = room.new_tar(room.plan.mib)?;
    let size = std::fs::metadata(&tar)?.len();
    room.settle();
    let start = Instant::now();
    registry.repository("compare").blob(&tar, &digest)?;
    let taken = Taken::rate(size, start.elapsed());
    std::fs::remove_file(tar)?;
    Ok(taken.with_memory(memory.most()))
}
