//! A blob that one peer has, behind a round trip of milliseconds and no other limit.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Room, cold,
    turns::{Contender, in_turns},
};
use crate::{
    Failure,
    proxy::Link,
    report::{Row, Target},
    server::{Added, Boxo, Ocipfs, Serve, Stream},
};

/// Milliseconds, and how much quicker than boxo is asked.
const ROUND_TRIPS: [(u64, f64); 3] = [(10, 5.0), (50, 10.0), (100, 15.0)];

pub fn run(room: &Room) -> Result<(), Failure> {
    let (dir, added) = source(room)?;
    // At 3 to 8 MB/s a boxo peer would need minutes for more; its rate does not depend on the size.
    let less = (room.plan.mib / 16).max(1);
    let (tar, _) = room.new_tar(less)?;
    for (ms, asked) in ROUND_TRIPS {
        let row = at(room, &dir, &added, (&tar, less), Duration::from_millis(ms))?;
        let row = row.ratio("boxo, read", Target::at_least(asked));
        let row = row.ratio("boxo, graph", None).ratio("bare libp2p stream", None);
        let rates = row.values("ocipfs").to_vec();
        room.show(match ms {
            50 => row.check("ocipfs", "MB/s", &rates, Target::at_least(90.0)),
            _ => row,
        });
    }
    Ok(())
}

/// Leaves a node directory that has the blob.
pub fn source(room: &Room) -> Result<(PathBuf, Added), Failure> {
    let (tar, _) = room.new_tar(room.plan.mib)?;
    let source = Ocipfs::start(room, &Serve::default())?;
    let added = source.add(&tar.to_string_lossy())?;
    std::fs::remove_file(tar)?;
    Ok((source.dir().into(), added))
}

fn at(
    room: &Room,
    dir: &Path,
    added: &Added,
    (tar, less): (&Path, usize),
    round_trip: Duration,
) -> Result<Row, Failure> {
    let link = || Link::new(round_trip, None);
    let (_source, _proxy, from) = Ocipfs::behind(room, link(), Some(dir))?;
    let boxo = Boxo::serve(room, tar, Some(link()));
    let bare = Stream::serve(room, room.plan.mib, Some(link()))?;
    let contenders = vec![
        Contender::new("ocipfs", || cold::fetch(room, &from, added)),
        Contender::new("ocipfs, cold GET", || cold::get(room, &[&from], added)),
        Contender::new("boxo, read", || cold::boxo(room, &boxo, "read", less)),
        Contender::new("boxo, graph", || cold::boxo(room, &boxo, "graph", less)),
        Contender::new("bare libp2p stream", || cold::stream(room, &bare, room.plan.mib)),
    ];
    let series = in_turns(room, room.plan.few(), contenders);
    let title =
        format!("cold fetch of {} MiB at {} ms (boxo: {less} MiB)", room.plan.mib, round_trip.as_millis());
    Ok(Row::new("delay", title, series))
}
