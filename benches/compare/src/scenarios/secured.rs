//! `GET` of a stored blob over TLS: a new connection for each, with its handshake, the body thrown away.

use super::{
    Room,
    turns::{Contender, Taken, in_turns},
};
use crate::{
    Failure,
    client::Url,
    memory::Memory,
    report::{Row, Target},
    secure::Secure,
    server::{DockerRegistry, Ocipfs, Serve},
};

/// The blob of the target.
const MIB: usize = 256;

pub fn run(room: &Room) -> Result<(), Failure> {
    let mib = room.plan.size(MIB);
    let (tar, digest) = room.new_tar(mib)?;
    let secure = Secure::new(&room.new_dir("certificate")?)?;
    let ours = Ocipfs::start(room, &Serve { tls: Some(&secure), ..Serve::default() })?;
    let added = ours.add(&tar.to_string_lossy())?;
    // The push is without TLS, to one that has the same storage.
    let plain = DockerRegistry::start(room)?;
    let path = plain.repository("compare").blob(&tar, &digest)?.path;
    let theirs = DockerRegistry::secured(room, &plain, &secure)?;
    let urls = [ours.blob(&added)?, Url { host: theirs.host().into(), path }];
    // This is the round to warm up, too.
    for url in &urls {
        let found = secure.hash(url)?;
        if found != digest {
            return Err(format!("{url} gave {found}, not {digest}").into());
        }
    }
    let [ours, theirs] = [ours.pid(), theirs.pid()].map(Memory::watch);
    let contenders = vec![
        Contender::new("ocipfs", || get(&secure, &urls[0], &ours)),
        Contender::new("docker-registry", || get(&secure, &urls[1], &theirs)),
    ];
    let series = in_turns(room, room.plan.rounds.max(10), contenders);
    let row = Row::new("tls", format!("GET of a stored blob of {mib} MiB over TLS"), series);
    room.show(row.ratio("docker-registry", Target::at_least(1.0)));
    Ok(())
}

fn get(secure: &Secure, url: &Url, memory: &Memory) -> Result<Taken, Failure> {
    let (length, took) = secure.timed(url)?;
    Ok(Taken::rate(length, took).with_memory(memory.most()))
}
