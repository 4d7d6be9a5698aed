//! A blob that one peer has, without any delay: into a store on disk, and over HTTP.

use super::{
    Room, cold,
    turns::{Contender, in_turns},
};
use crate::{
    Failure,
    report::{Row, Target},
    server::{Boxo, Ocipfs, Serve, Stream},
};

pub fn run(room: &Room) -> Result<(), Failure> {
    let mib = room.plan.mib;
    let (tar, _) = room.new_tar(mib)?;
    let source = Ocipfs::start(room, &Serve::default())?;
    let added = source.add(&tar.to_string_lossy())?;
    let boxo = Boxo::serve(room, &tar, None);
    let bare = Stream::serve(room, mib, None)?;
    let from = source.address();
    let contenders = vec![
        Contender::new("ocipfs", || cold::fetch(room, from, &added)),
        Contender::new("ocipfs, cold GET", || cold::get(room, &[from], &added)),
        Contender::new("boxo, graph", || cold::boxo(room, &boxo, "graph", mib)),
        Contender::new("boxo, read", || cold::boxo(room, &boxo, "read", mib)),
        Contender::new("bare libp2p stream", || cold::stream(room, &bare, mib)),
    ];
    let series = in_turns(room, room.plan.rounds, contenders);
    let row = Row::new("fetch", format!("cold fetch of {mib} MiB from one peer, no delay"), series);
    let boxo = || Target::aiming_at(2.0, 2.5);
    let row = row.ratio("boxo, graph", boxo()).ratio("boxo, read", boxo());
    room.show(row.ratio("bare libp2p stream", Target::aiming_at(0.5, 0.6)));
    Ok(())
}
