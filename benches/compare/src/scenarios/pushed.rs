//! Pushes: one of a large blob, which is then got again, and many of smaller ones at once.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{
    Room,
    turns::{Contender, Taken, in_turns},
};
use crate::{
    Failure,
    memory::Memory,
    push::Repository,
    report::{Row, Target},
    server::{DockerRegistry, Ocipfs, Serve},
    tar::MIB,
};

const CLIENTS: usize = 32;
/// Blobs that each of them pushes, one after the other.
const EACH: usize = 4;
const BLOB_MIB: usize = 4;

pub fn run(room: &Room) -> Result<(), Failure> {
    let (ours, theirs) = (Ocipfs::start(room, &Serve::default())?, DockerRegistry::start(room)?);
    let memory = [ours.pid(), theirs.pid()].map(Memory::watch);
    let repositories = [ours.repository("compare"), theirs.repository("compare")];
    let mib = room.plan.mib;
    let contenders = vec![
        Contender::new("ocipfs", || push(room, &repositories[0], &memory[0])),
        Contender::new("docker-registry", || push(room, &repositories[1], &memory[1])),
    ];
    let row = Row::new("push", format!("push of {mib} MiB"), in_turns(room, room.plan.rounds, contenders));
    show_bounded(room, row.ratio("docker-registry", Target::at_least(1.5)));
    let (tar, digest) = room.new_tar(mib)?;
    let [ours, theirs] = [repositories[0].blob(&tar, &digest)?, repositories[1].blob(&tar, &digest)?];
    for url in [&ours, &theirs] {
        url.get()?;
    }
    let get = |url: &crate::client::Url, memory: &Memory| {
        let (length, _, took) = url.timed()?;
        Ok(Taken::rate(length, took).with_memory(memory.most()))
    };
    let contenders = vec![
        Contender::new("ocipfs", || get(&ours, &memory[0])),
        Contender::new("docker-registry", || get(&theirs, &memory[1])),
    ];
    let series = in_turns(room, room.plan.rounds.max(10), contenders);
    let row = Row::new("push", format!("GET of {mib} MiB that were pushed"), series);
    room.show(row.ratio("docker-registry", Target::at_least(1.0)));
    Ok(())
}

fn push(room: &Room, to: &Repository, memory: &Memory) -> Result<Taken, Failure> {
    let (tar, digest) = room.new_tar(room.plan.mib)?;
    let size = std::fs::metadata(&tar)?.len();
    room.settle();
    let start = Instant::now();
    to.blob(&tar, &digest)?;
    let taken = Taken::rate(size, start.elapsed());
    std::fs::remove_file(tar)?;
    Ok(taken.with_memory(memory.most()))
}

pub fn run_many(room: &Room) -> Result<(), Failure> {
    let (ours, theirs) = (Ocipfs::start(room, &Serve::default())?, DockerRegistry::start(room)?);
    let memory = [ours.pid(), theirs.pid()].map(Memory::watch);
    let repositories = [ours.repository("compare"), theirs.repository("compare")];
    let contenders = vec![
        Contender::new("ocipfs", || push_many(room, &repositories[0], &memory[0])),
        Contender::new("docker-registry", || push_many(room, &repositories[1], &memory[1])),
    ];
    let title = format!("{CLIENTS} clients push {EACH} blobs of {BLOB_MIB} MiB each at once");
    let row = Row::new("push-many", title, in_turns(room, room.plan.few(), contenders));
    show_bounded(room, row.ratio("docker-registry", Target::at_least(1.0)));
    Ok(())
}

fn show_bounded(room: &Room, row: Row) {
    let memory = row.memory("ocipfs");
    room.show(row.check("RssAnon meanwhile", "MB", memory.as_slice(), Target::at_most(150.0)));
}

fn push_many(room: &Room, to: &Repository, memory: &Memory) -> Result<Taken, Failure> {
    let (tar, _) = room.new_tar(BLOB_MIB)?;
    let bytes = std::fs::read(&tar)?;
    std::fs::remove_file(tar)?;
    // Blobs that differ in their first bytes alone, made before anybody waits for them.
    let blob = |number: usize| {
        let mut blob = bytes.clone();
        blob[..8].copy_from_slice(&number.to_le_bytes());
        let digest = ocipfs_oci::Digest::sha256_of(&blob);
        (blob, digest)
    };
    let lots: Vec<Vec<_>> =
        (0..CLIENTS).map(|client| (0..EACH).map(|at| blob(client * EACH + at)).collect()).collect();
    room.settle();
    let start = Instant::now();
    thread::scope(|scope| {
        let pushes: Vec<_> = lots.iter().map(|lot| scope.spawn(move || push_lot(to, lot))).collect();
        pushes.into_iter().try_for_each(|push| push.join().map_err(|_| "a push panicked".to_string())?)
    })?;
    let took: Duration = start.elapsed();
    Ok(Taken::rate((CLIENTS * EACH * BLOB_MIB * MIB) as u64, took).with_memory(memory.most()))
}

fn push_lot(to: &Repository, lot: &[(Vec<u8>, ocipfs_oci::Digest)]) -> Result<(), String> {
    lot.iter().try_for_each(|(blob, digest)| to.bytes_as(blob, digest).map_err(|error| error.to_string()))
}
