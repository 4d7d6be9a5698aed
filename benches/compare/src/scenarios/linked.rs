//! A blob that one peer has, behind a link of 1 Gbit/s with a round trip of milliseconds.

use std::{path::Path, time::Duration};

use super::{
    Room, cold,
    delayed::source,
    turns::{Contender, Taken, in_turns},
};
use crate::{
    Failure,
    client::Url,
    proxy::{Link, Proxy},
    report::{Row, Target},
    server::{Added, Nginx, Ocipfs, Stream},
};

const GIGABIT: u64 = 125_000_000;

pub fn run(room: &Room) -> Result<(), Failure> {
    let (dir, added) = source(room)?;
    let (tar, _) = room.new_tar(room.plan.mib)?;
    let nginx = Nginx::start(room)?;
    nginx.add(&tar)?;
    for ms in [10, 50, 100] {
        at(room, &dir, &added, &nginx, Link::new(Duration::from_millis(ms), Some(GIGABIT)), ms)?;
    }
    Ok(())
}

fn at(room: &Room, dir: &Path, added: &Added, nginx: &Nginx, link: Link, ms: u64) -> Result<(), Failure> {
    let mib = room.plan.mib;
    let (_source, _proxy, from) = Ocipfs::behind(room, link.clone(), Some(dir))?;
    let bare = Stream::serve(room, mib, Some(link.clone()))?;
    let mut proxy = Proxy::bind()?;
    proxy.lead(nginx.address(), link);
    let url = Url { host: proxy.address().to_string(), path: "/blob".into() };
    let contenders = vec![
        Contender::new("ocipfs", || cold::fetch(room, &from, added)),
        Contender::new("bare libp2p stream", || cold::stream(room, &bare, mib)),
        Contender::new("nginx", || get(&url)),
    ];
    let series = in_turns(room, room.plan.few(), contenders);
    let row = Row::new("link", format!("cold fetch of {mib} MiB at {ms} ms on 1 Gbit/s"), series);
    let share: Vec<f64> = row.values("nginx").iter().map(|rate| rate * 1e6 / GIGABIT as f64).collect();
    let row = row.ratio("bare libp2p stream", Target::at_least(0.9));
    room.show(row.check("the link itself: nginx to 1 Gbit/s", "x", &share, Target::at_least(0.95)));
    Ok(())
}

/// Gets it all; the rate is that of the body, without the round trip before it.
fn get(url: &Url) -> Result<Taken, Failure> {
    let (length, first, all) = url.timed()?;
    Ok(Taken::rate(length, all - first))
}
