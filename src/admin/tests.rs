use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

use super::Admin;
use crate::control::{Instance, Options};

/// Scrapes of each size.
const ROUNDS: usize = 20;

/// An instance with repositories, and what serves its metrics.
struct Bed {
    admin: Admin,
    instance: Instance,
    address: String,
    stop: CancellationToken,
    _dir: tempfile::TempDir,
}

/// What scrapes of a number of repositories cost.
struct Cost {
    /// Reads of the database by a sample, and by a scrape; the fewest of all rounds, since other tasks read as well.
    sample_reads: u64,
    scrape_reads: u64,
    lines: usize,
    sample: Duration,
    mean: Duration,
    slowest: Duration,
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Bed {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let instance = Instance::open(Options::alone(dir.path().join("node"))).await.unwrap();
        let (admin, stop) = (Admin::new(None), CancellationToken::new());
        admin.metrics.observe(instance.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(admin.clone().serve(listener, stop.clone()));
        Self { admin, instance, address, stop, _dir: dir }
    }

    fn reads(&self) -> u64 {
        self.instance.resolver().repositories().database().reads.load(Ordering::Relaxed)
    }

    /// Returns the answer to a request as Prometheus makes it.
    async fn scrape(&self) -> String {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address);
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        answer
    }

    async fn cost(&self, repositories: u32) -> Cost {
        self.instance.resolver().repositories().fill(repositories).unwrap();
        let (mut sample_reads, mut scrape_reads) = (u64::MAX, u64::MAX);
        let (mut sample, mut scrapes, mut answer) = (Duration::MAX, Vec::new(), String::new());
        for _ in 0..ROUNDS {
            let (before, begun) = (self.reads(), Instant::now());
            self.admin.metrics.take_sample().await;
            sample = sample.min(begun.elapsed());
            sample_reads = sample_reads.min(self.reads() - before);
            let (before, begun) = (self.reads(), Instant::now());
            answer = self.scrape().await;
            scrapes.push(begun.elapsed());
            scrape_reads = scrape_reads.min(self.reads() - before);
        }
        assert!(answer.contains(&format!("\nocipfs_repositories {repositories}\n")), "{answer}");
        Cost {
            sample_reads,
            scrape_reads,
            lines: answer.lines().count(),
            sample,
            mean: scrapes.iter().sum::<Duration>() / ROUNDS as u32,
            slowest: scrapes.into_iter().max().unwrap_or_default(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_reads_no_database_and_costs_the_same_with_ten_times_the_repositories() {
    let bed = Bed::start().await;
    let [few, many] = [bed.cost(1_000).await, bed.cost(10_000).await];
    assert_eq!((few.scrape_reads, many.scrape_reads), (0, 0), "it shows the last sample");
    assert!(few.sample_reads > 0, "the sample is read");
    assert_eq!(few.sample_reads, many.sample_reads);
    assert_eq!(few.lines, many.lines);
}

/// Run it with `cargo test --release -p ocipfs --lib scrape_over_http -- --ignored --nocapture`. A scrape should take 5 ms at most.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints a time, which says nothing on a busy machine"]
async fn scrape_over_http_of_a_node_with_a_hundred_thousand_repositories() {
    let bed = Bed::start().await;
    for repositories in [1, 100_000] {
        let Cost { sample_reads, scrape_reads, sample, mean, slowest, .. } = bed.cost(repositories).await;
        println!(
            "{repositories} repositories: scrape over HTTP {mean:?} on average, {slowest:?} at most, \
             {scrape_reads} reads; sample {sample:?}, {sample_reads} reads"
        );
    }
}
