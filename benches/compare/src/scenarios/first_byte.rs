//! How many round trips a cold blob takes until its first byte is here.

use std::time::Duration;

use super::{
    Room,
    delayed::source,
    turns::{Contender, Taken, in_turns},
};
use crate::{
    Failure,
    proxy::Link,
    report::{Row, Target},
    server::{Added, Ocipfs},
};

const ROUND_TRIP: Duration = Duration::from_millis(50);

pub fn run(room: &Room) -> Result<(), Failure> {
    let (dir, added) = source(room)?;
    let (_source, _proxy, from) = Ocipfs::behind(room, Link::new(ROUND_TRIP, None), Some(&dir))?;
    let contenders = vec![
        Contender::in_unit("ms", "ocipfs", || first_byte(room, &from, &added, false)),
        Contender::in_unit("ms", "ocipfs, manifest first", || first_byte(room, &from, &added, true)),
    ];
    let series = in_turns(room, room.plan.rounds, contenders);
    let ms = ROUND_TRIP.as_millis();
    let row = Row::new("first-byte", format!("first byte of a cold blob at {ms} ms"), series);
    let trips: Vec<f64> = row.values("ocipfs").iter().map(|value| value / ms as f64).collect();
    room.show(row.check("round trips", "x", &trips, Target::at_most(4.0)));
    Ok(())
}

/// `manifest_first`, as clients do; otherwise the node knows nothing but the name.
fn first_byte(room: &Room, from: &str, added: &Added, manifest_first: bool) -> Result<Taken, Failure> {
    let node = Ocipfs::connected_to(room, &[from])?;
    if manifest_first {
        node.manifest(added)?.get()?;
    }
    let took = node.blob(added)?.first_byte()?;
    node.discard()?;
    Ok(Taken::new(took.as_secs_f64() * 1e3))
}
