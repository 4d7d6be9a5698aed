use proptest::prelude::*;

use super::{node::File, swarm::Swarm, *};

const SEEDER: usize = 0;

/// What one seeder and its readers did.
struct Seeded {
    /// How often the seeder sent the file.
    copies: f64,
    /// How many blocks a reader received for each that it wanted. A request that moves may find its block on the way.
    received: f64,
}

/// Runs one seeder and `readers` that start at once.
async fn seeded(seed: u64, readers: usize, blocks: u32, link: Link) -> Seeded {
    let file = File::new(blocks);
    let mut swarm = Swarm::new(seed, &file, &vec![(Manner::Honest, link); readers + 1]);
    swarm.nodes[SEEDER].store(0..blocks);
    let all: Vec<usize> = (1..=readers).collect();
    all.iter().for_each(|reader| swarm.fetch_after(Duration::ZERO, *reader));
    let alone = Duration::from_secs_f64(blocks as f64 * BLOCK_BYTES as f64 / link.rate as f64);
    let took = swarm.run(&all, alone * readers as u32 * 2 + Duration::from_secs(30)).await.unwrap();
    assert_eq!(swarm.violations, Vec::<String>::new());
    let received: usize = all.iter().map(|reader| swarm.nodes[*reader].received_blocks).sum();
    let received = received as f64 / (readers as f64 * f64::from(blocks));
    let copies = swarm.nodes[SEEDER].uplink.sent_bytes as f64 / (blocks as f64 * BLOCK_BYTES as f64);
    println!(
        "{readers} readers, {blocks} MiB, {link:?}: {copies:.2} copies, {received:.2} received, {took:?}"
    );
    Seeded { copies, received }
}

/// Fails if the seeder sends more than `most` copies of the file, near or far from its readers.
async fn check_copies(readers: usize, blocks: u32, most: f64) {
    for link in [Link::LAN, Link { delay: Duration::from_millis(50), ..Link::LAN }] {
        for seed in 0..u64::from(runs().div_ceil(24)) {
            let Seeded { copies, received } = seeded(seed, readers, blocks, link).await;
            assert!(
                copies <= most && received <= 1.25,
                "seed {seed}: {copies:.2} copies, {received:.2} received"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_seeder_of_eight_readers_sends_at_most_1_3_copies() {
    check_copies(8, 128, 1.3).await;
}

#[tokio::test(start_paused = true)]
async fn a_seeder_of_sixteen_or_thirty_two_readers_sends_at_most_1_5_copies() {
    check_copies(16, 64, 1.5).await;
    check_copies(32, 32, 1.5).await;
}

#[tokio::test(start_paused = true)]
async fn a_seeder_of_sixty_four_readers_sends_at_most_1_5_copies() {
    check_copies(64, 16, 1.5).await;
}

/// On slow uplinks a block takes longer from the seeder to its first reader and on to the others.
#[tokio::test(start_paused = true)]
async fn a_seeder_with_a_slower_uplink_of_eight_or_sixteen_readers_sends_at_most_1_3_or_1_6_copies() {
    let link = Link { rate: 25_000_000, ..Link::LAN };
    for (readers, most) in [(8, 1.3), (16, 1.6)] {
        for seed in 0..2 {
            let Seeded { copies, received } = seeded(seed, readers, 64, link).await;
            assert!(
                copies <= most && received <= 1.5,
                "seed {seed}: {copies:.2} copies, {received:.2} received"
            );
        }
    }
}

/// The first blocks are held, until it is known that they come from the seeder alone.
#[tokio::test(start_paused = true)]
async fn readers_that_are_not_connected_to_each_other_wait_little_for_each_other() {
    let blocks = 64;
    for readers in [2, 8] {
        let file = File::new(blocks);
        let nodes = vec![(Manner::Honest, Link::LAN); readers + 1];
        let mut swarm = Swarm::connected(1, &file, &nodes, |from, to| from == SEEDER || to == SEEDER);
        swarm.nodes[SEEDER].store(0..blocks);
        let all: Vec<usize> = (1..=readers).collect();
        all.iter().for_each(|reader| swarm.fetch_after(Duration::ZERO, *reader));
        let took = swarm.run(&all, Duration::from_secs(60)).await.unwrap();
        let bytes = readers as u64 * u64::from(blocks) * BLOCK_BYTES as u64;
        let least = Duration::from_secs(1) * bytes as u32 / Link::LAN.rate as u32;
        println!("{readers} readers that share nothing: {took:?}, the uplink's time {least:?}");
        assert!(took < least.mul_f64(1.7), "{readers} readers: {took:?}");
    }
}

/// Blocks that slow readers are sent again and again are held for a bounded time, and slow readers keep no slots.
#[tokio::test(start_paused = true)]
async fn a_fast_reader_is_served_beside_forty_slow_ones() {
    let (blocks, slow) = (32, Link { rate: 1 << 20, ..Link::LAN });
    let file = File::new(blocks);
    let nodes = [vec![(Manner::Honest, Link::LAN); 2], vec![(Manner::Honest, slow); 40]].concat();
    let mut swarm = Swarm::new(1, &file, &nodes);
    swarm.nodes[SEEDER].store(0..blocks);
    (2..42).for_each(|reader| swarm.fetch_after(Duration::ZERO, reader));
    swarm.fetch_after(Duration::from_secs(2), 1);
    let took = swarm.run(&[1], Duration::from_secs(30)).await.unwrap() - Duration::from_secs(2);
    println!("32 MiB beside forty slow readers: {took:?}");
    assert!(took < Duration::from_secs(12), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_run() {
    let mut traces = Vec::new();
    for seed in [7, 7, 8] {
        let file = File::new(24);
        let mut swarm = Swarm::new(seed, &file, &[(Manner::Honest, Link::LAN); 5]);
        swarm.nodes[SEEDER].store(0..24);
        (1..5).for_each(|reader| swarm.fetch_after(Duration::from_millis(reader as u64), reader));
        swarm.run(&[1, 2, 3, 4], Duration::from_secs(60)).await.unwrap();
        traces.push(swarm.trace());
    }
    assert_eq!(traces[0], traces[1]);
    assert_ne!(traces[0], traces[2]);
}

/// A swarm as a seed or proptest makes it.
#[derive(Clone, Debug)]
struct Plan {
    seed: u64,
    blocks: u32,
    honest: Vec<HonestPlan>,
    hostile: Vec<(Manner, Link)>,
}

#[derive(Clone, Debug)]
struct HonestPlan {
    link: Link,
    /// Blocks that it has from the beginning, by bits.
    has: u64,
    starts_after: Duration,
    leaves_after: Option<Duration>,
}

fn link() -> impl Strategy<Value = Link> {
    // 4 Mbit/s to 1 Gbit/s, and up to 200 ms.
    let rate = prop_oneof![500_000..5_000_000u64, 5_000_000..125_000_000u64];
    (rate, 0..200u64).prop_map(|(rate, delay)| Link { rate, delay: Duration::from_millis(delay) })
}

fn honest() -> impl Strategy<Value = HonestPlan> {
    let leaves = prop::option::weighted(0.2, (0..8_000u64).prop_map(Duration::from_millis));
    let starts = (0..3_000u64).prop_map(Duration::from_millis);
    let has = prop_oneof![2 => Just(0), 1 => any::<u64>(), 1 => Just(u64::MAX)];
    (link(), has, starts, leaves).prop_map(|(link, has, starts_after, leaves_after)| HonestPlan {
        link,
        has,
        starts_after,
        leaves_after,
    })
}

fn plan() -> impl Strategy<Value = Plan> {
    let manner = prop_oneof![Just(Manner::Silent), Just(Manner::Claims), Just(Manner::Forges)];
    let honest = prop::collection::vec(honest(), 2..10);
    let hostile = prop::collection::vec((manner, link()), 0..10);
    (any::<u64>(), 1..60u32, honest, hostile).prop_map(|(seed, blocks, honest, hostile)| Plan {
        seed,
        blocks,
        honest,
        hostile,
    })
}

/// Runs a swarm. Each node that stays gets the file, if those that stay have it together.
async fn run(plan: Plan) -> Result<(), String> {
    let Plan { seed, blocks, mut honest, hostile } = plan;
    let stays = |node: &HonestPlan| node.leaves_after.is_none();
    honest[0].leaves_after = None;
    let held = honest.iter().filter(|node| stays(node)).fold(0, |held, node| held | node.has);
    honest[0].has |= !held;
    let nodes: Vec<_> = honest.iter().map(|node| (Manner::Honest, node.link)).chain(hostile).collect();
    let mut swarm = Swarm::new(seed, &File::new(blocks), &nodes);
    let mut readers = Vec::new();
    for (index, node) in honest.iter().enumerate() {
        let has: Vec<u32> = (0..blocks).filter(|n| node.has & (1 << (n % 64)) != 0).collect();
        let is_reader = has.len() < blocks as usize;
        swarm.nodes[index].store(has);
        if is_reader {
            swarm.fetch_after(node.starts_after, index);
        }
        match node.leaves_after {
            Some(after) => swarm.leave_after(after, index),
            None if is_reader => readers.push(index),
            None => {}
        }
    }
    // Even if each copy came over the slowest link, and each liar were believed once.
    let slowest = nodes.iter().map(|(_, link)| link.rate).min().unwrap_or(1);
    let bytes = blocks as u64 * BLOCK_BYTES as u64 * nodes.len() as u64;
    let limit = Duration::from_secs(120 + 2 * bytes / slowest);
    swarm.run(&readers, limit).await?;
    match swarm.violations.first() {
        None => Ok(()),
        Some(first) => Err(format!("{} violations: {first}", swarm.violations.len())),
    }
}

/// The number of random swarms.
fn runs() -> u32 {
    std::env::var("OCIPFS_TEST_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(24)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: runs(), failure_persistence: None, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_want_ends_and_no_block_is_requested_twice_of_one_peer_in_any_swarm(plan in plan()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
        prop_assert_eq!(runtime.block_on(run(plan)), Ok(()));
    }
}
