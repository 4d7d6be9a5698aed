//! A new node that has nothing, is connected to a peer that has a blob, and gets it.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{Room, turns::Taken};
use crate::{
    Failure,
    memory::Memory,
    server::{Added, Boxo, Ocipfs, Stream},
};

/// Fetches into the store, without an HTTP client.
pub fn fetch(room: &Room, address: &str, added: &Added) -> Result<Taken, Failure> {
    let node = Ocipfs::connected_to(room, &[address])?;
    let memory = Memory::watch(node.pid());
    let start = Instant::now();
    node.fetch(added)?;
    let taken = Taken::rate(added.size, start.elapsed()).with_memory(memory.most());
    node.discard()?;
    Ok(taken)
}

/// Gets the blob over HTTP.
pub fn get(room: &Room, addresses: &[&str], added: &Added) -> Result<Taken, Failure> {
    get_after(room, addresses, added, Duration::ZERO)
}

/// Gets the blob over HTTP once the node was connected for some time.
pub fn get_after(
    room: &Room,
    addresses: &[&str],
    added: &Added,
    settled: Duration,
) -> Result<Taken, Failure> {
    let node = Ocipfs::connected_to(room, addresses)?;
    thread::sleep(settled);
    let memory = Memory::watch(node.pid());
    let (length, _, took) = node.blob(added)?.timed()?;
    let taken = Taken::rate(length, took).with_memory(memory.most());
    node.discard()?;
    Ok(taken)
}

/// Lets another boxo peer fetch.
pub fn boxo(room: &Room, boxo: &Result<Boxo, Failure>, how: &str, mib: usize) -> Result<Taken, Failure> {
    let boxo = boxo.as_ref().map_err(ToString::to_string)?;
    let fetched = boxo.fetch(room, how)?;
    let taken = Taken::rate((mib as u64) << 20, Duration::from_secs_f64(fetched.seconds));
    Ok(taken.with_memory(fetched.memory_mb))
}

/// Lets another process read a stream to its end.
pub fn stream(room: &Room, stream: &Stream, mib: usize) -> Result<Taken, Failure> {
    let (seconds, memory_mb) = stream.fetch(room)?;
    Ok(Taken::rate((mib as u64) << 20, Duration::from_secs_f64(seconds)).with_memory(memory_mb))
}
