//! The RPC of Kubo, by ocipfs and by Kubo: what nerdctl and stargz-snapshotter wait for.

use std::{
    cell::RefCell,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use super::{
    Room,
    turns::{Contender, Taken, in_turns},
};
use crate::{
    Failure,
    proxy::Link,
    report::{Row, Target},
    rpc::Rpc,
    server::{Kubo, Ocipfs, Serve, TO_GREET},
    tar::MIB,
};

const ROUND_TRIP: Duration = Duration::from_millis(50);
/// As stargz-snapshotter reads a layer.
const LENGTH: u64 = 64 << 10;
/// The link of lazy pulls: 200 Mbit/s.
const LAZY_CAP: u64 = 25_000_000;
const LAZY_ROUND_TRIP: Duration = Duration::from_millis(20);
/// How much of an image its start-up reads.
const START_UP_PERCENT: u64 = 5;
/// Ranges that one turn reads, one after the other.
const READS: u64 = 20;

pub fn run(room: &Room) -> Result<(), Failure> {
    // Built before anything is measured.
    room.programs.kubo()?;
    room.show(first_answer(room));
    room.show(add(room)?);
    room.show(cat(room)?);
    ranges(room)?.into_iter().for_each(|row| room.show(row));
    room.show(lazy(room)?);
    Ok(())
}

fn first_answer(room: &Room) -> Row {
    let contenders = vec![
        Contender::in_unit("s", "ocipfs", || {
            let start = Instant::now();
            let node = Ocipfs::start(room, &Serve { rpc: true, ..Serve::default() })?;
            let took = node.rpc()?.until_answered(start)?;
            node.discard()?;
            Ok(Taken::new(took.as_secs_f64()))
        }),
        Contender::in_unit("s", "Kubo", || {
            let node = Kubo::start(room, None)?;
            let took = node.until_answered;
            node.discard()?;
            Ok(Taken::new(took.as_secs_f64()))
        }),
    ];
    let row = Row::new("rpc", "first answer after the start", in_turns(room, room.plan.rounds, contenders));
    let took = row.values("ocipfs").to_vec();
    row.check("ocipfs", "s", &took, Target::at_most(0.2))
}

fn add(room: &Room) -> Result<Row, Failure> {
    let mib = room.plan.mib;
    let ours = Ocipfs::start(room, &Serve { rpc: true, ..Serve::default() })?;
    let kubo = Kubo::start(room, None)?;
    let contenders = vec![
        Contender::new("ocipfs", || added(room, ours.rpc()?)),
        Contender::new("Kubo", || added(room, kubo.rpc())),
    ];
    let series = in_turns(room, room.plan.rounds, contenders);
    Ok(Row::new("rpc", format!("add of {mib} MiB"), series).ratio("Kubo", Target::at_least(1.5)))
}

/// Adds bytes that neither has seen.
fn added(room: &Room, rpc: Rpc) -> Result<Taken, Failure> {
    let (tar, _) = room.new_tar(room.plan.mib)?;
    let size = tar.metadata()?.len();
    room.settle();
    let start = Instant::now();
    rpc.add(&tar)?;
    let taken = Taken::rate(size, start.elapsed());
    std::fs::remove_file(tar)?;
    Ok(taken)
}

fn cat(room: &Room) -> Result<Row, Failure> {
    let (tar, _) = room.new_tar(room.plan.mib)?;
    let ours = Ocipfs::start(room, &Serve { rpc: true, ..Serve::default() })?;
    let kubo = Kubo::start(room, None)?;
    let cid = ours.rpc()?.add(&tar)?;
    same(&cid, kubo.rpc().add(&tar)?)?;
    let contenders = vec![
        Contender::new("ocipfs", || read(ours.rpc()?, &cid, &tar)),
        Contender::new("Kubo", || read(kubo.rpc(), &cid, &tar)),
    ];
    let series = in_turns(room, room.plan.rounds, contenders);
    let title = format!("cat of a stored file of {} MiB", room.plan.mib);
    Ok(Row::new("rpc", title, series).ratio("Kubo", Target::at_least(1.0)))
}

fn read(rpc: Rpc, cid: &str, file: &Path) -> Result<Taken, Failure> {
    let start = Instant::now();
    let came = rpc.cat(cid, None)?;
    match came == file.metadata()?.len() {
        true => Ok(Taken::rate(came, start.elapsed())),
        false => Err(format!("{came} bytes came").into()),
    }
}

/// Each reads from its own kind, and both from Kubo: that sends a block of 256 KiB in two round trips over TCP, and over QUIC in one
/// and a half, as it paces what it sends.
fn ranges(room: &Room) -> Result<[Row; 3], Failure> {
    let (tar, _) = room.new_tar(room.plan.mib)?;
    let link = Link::new(ROUND_TRIP, None);
    let kubo = Kubo::distant(room, &link)?;
    let (ours, _other, at_ours) = Ocipfs::behind_with_rpc(room, link)?;
    let cid = kubo.node.rpc().add(&tar)?;
    same(&cid, ours.rpc()?.add(&tar)?)?;
    let by_ocipfs = |from: &[&str]| {
        let node = Ocipfs::connected_at_with_rpc(room, from, 1)?;
        let taken = read_ranges(node.rpc()?, &cid, room.plan.mib)?;
        node.discard()?;
        Ok(taken)
    };
    let by_kubo = |from: &str| {
        let node = Kubo::start(room, None)?;
        node.rpc().call(&format!("swarm/connect?arg={from}"))?;
        thread::sleep(TO_GREET);
        let taken = read_ranges(node.rpc(), &cid, room.plan.mib)?;
        node.discard()?;
        Ok(taken)
    };
    let row = |what: &str, least, contenders| {
        let series = in_turns(room, room.plan.few(), contenders);
        let ms = ROUND_TRIP.as_millis();
        let title = format!("cold cat of 64 KiB at random offsets, {ms} ms to the peer, {what}");
        Row::new("rpc", title, series).ratio("Kubo", Target::at_least(least))
    };
    let both = [&*kubo.tcp, &*kubo.quic];
    let own = vec![
        Contender::in_unit("reads/s", "ocipfs", || by_ocipfs(&[&at_ours])),
        Contender::in_unit("reads/s", "Kubo", || by_kubo(&kubo.tcp)),
    ];
    let over_tcp = vec![
        Contender::in_unit("reads/s", "ocipfs", || by_ocipfs(&both[..1])),
        Contender::in_unit("reads/s", "Kubo", || by_kubo(&kubo.tcp)),
    ];
    let over_quic = vec![
        Contender::in_unit("reads/s", "ocipfs", || by_ocipfs(&both)),
        Contender::in_unit("reads/s", "Kubo", || by_kubo(&kubo.quic)),
    ];
    Ok([
        row("of the same program", 3.0, own),
        row("Kubo for both, over TCP", 1.8, over_tcp),
        row("Kubo for both, over QUIC", 1.5, over_quic),
    ])
}

/// What stargz-snapshotter reads of a layer before a container's first output, beside a pull of all of it.
fn lazy(room: &Room) -> Result<Row, Failure> {
    let mib = room.plan.size(512);
    let (tar, _) = room.new_tar(mib)?;
    let link = Link::new(LAZY_ROUND_TRIP, Some(LAZY_CAP));
    let (source, _proxy, address) = Ocipfs::behind_with_rpc(room, link)?;
    let cid = source.rpc()?.add(&tar)?;
    let size = tar.metadata()?.len();
    let shares = RefCell::new(Vec::new());
    let start_up = || {
        let node = Ocipfs::connected_with_rpc(room, &address)?;
        let start = Instant::now();
        // The table of contents is at the end.
        node.rpc()?.cat(&cid, Some((size - LENGTH, LENGTH)))?;
        let joined = MIB as u64;
        let reads = (size * START_UP_PERCENT / 100).div_ceil(joined);
        for n in 1..=reads {
            let offset = scattered(n) % (size - joined);
            node.rpc()?.cat(&cid, Some((offset, joined)))?;
        }
        let took = start.elapsed();
        let received = node.status()?.received_bytes.unwrap_or_default();
        shares.borrow_mut().push(received as f64 * 100.0 / size as f64);
        node.discard()?;
        Ok(Taken::new(took.as_secs_f64()))
    };
    let whole = || {
        let node = Ocipfs::connected_with_rpc(room, &address)?;
        let start = Instant::now();
        node.rpc()?.cat(&cid, None)?;
        let took = start.elapsed();
        node.discard()?;
        Ok(Taken::new(took.as_secs_f64()))
    };
    let contenders = vec![
        Contender::in_unit("s", "ocipfs", start_up),
        Contender::in_unit("s", "ocipfs, all of it", whole),
    ];
    let series = in_turns(room, room.plan.few(), contenders);
    let title = format!("{START_UP_PERCENT} % of a layer of {mib} MiB, in ranges, at 200 Mbit/s");
    let row = Row::new("rpc", title, series).ratio("ocipfs, all of it", Target::at_most(0.3));
    Ok(row.check("received", "%", &shares.borrow(), Target::at_most(15.0)))
}

/// Reads at offsets that are the same for all contenders.
fn read_ranges(rpc: Rpc, cid: &str, mib: usize) -> Result<Taken, Failure> {
    let parts = (mib * MIB) as u64 / LENGTH;
    let start = Instant::now();
    for n in 1..=READS {
        let offset = scattered(n) % parts * LENGTH;
        let came = rpc.cat(cid, Some((offset, LENGTH)))?;
        if came != LENGTH {
            return Err(format!("{came} bytes came, not {LENGTH}").into());
        }
    }
    Ok(Taken::new(READS as f64 / start.elapsed().as_secs_f64()))
}

/// A number that says nothing of the one before (SplitMix64). A plain multiple would: what a reader fetches ahead of one offset
/// would serve a later one.
fn scattered(n: u64) -> u64 {
    let mixed = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

fn same(ours: &str, other: String) -> Result<(), Failure> {
    match ours == other {
        true => Ok(()),
        false => Err(format!("the CIDs differ: {ours} and {other}").into()),
    }
}
