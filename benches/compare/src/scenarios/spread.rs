//! How soon what is pushed to one node is pulled by its name through another that follows it.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::Room;
use crate::{
    Failure,
    report::{Row, Series, Target},
    server::{Ocipfs, Serve},
};

const PUSHES: usize = 100;
const LOOK: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(30);

pub fn run(room: &Room) -> Result<(), Failure> {
    let publisher = Ocipfs::start(room, &Serve::default())?;
    let peers = vec![publisher.address().to_string()];
    let follow = Some(publisher.name()?);
    let follower = Ocipfs::start(room, &Serve { peers, follow, ..Serve::default() })?;
    follower.until_connected(1)?;
    let (here, there) = (publisher.repository("compare"), follower.repository("compare"));
    let mut series = Series::new("ocipfs, push to pull", "ms");
    let mut taken = Vec::new();
    let pushes = if room.plan.quick { 5 } else { PUSHES };
    for number in 0..=pushes {
        let config = here.bytes(b"{}")?;
        let layer = here.bytes(format!("layer {number}").as_bytes())?;
        let tag = format!("v{number}");
        here.manifest(&tag, &config, &layer, &[])?;
        let start = Instant::now();
        let url = there.at(&format!("manifests/{tag}"));
        while url.status()? != 200 {
            if start.elapsed() > PATIENCE {
                return Err(format!("{url} is not there after {} s", PATIENCE.as_secs()).into());
            }
            thread::sleep(LOOK);
        }
        // The first one begins the following.
        if number > 0 {
            let ms = start.elapsed().as_secs_f64() * 1e3;
            series.push(ms);
            taken.push(ms);
        }
    }
    let worst = taken.iter().copied().fold(0.0, f64::max);
    let row = Row::new("follow", format!("{pushes} pushes until a follower has each"), vec![series]);
    let row = row.check("median", "ms", &taken, Target::at_most(300.0));
    room.show(row.check("worst", "ms", &[worst], Target::at_most(1000.0)));
    Ok(())
}
