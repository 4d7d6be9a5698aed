//! Comparison of ocipfs with other registries and peers: the same work by each, in turns, on loopback, in one
//! run.
//!
//! ```text
//! apt-get install docker-registry nginx-light skopeo golang     (Go 1.25 or newer, for the boxo peer)
//! cargo run --release -p ocipfs-compare
//! cargo run --release -p ocipfs-compare -- --only get,fetch --rounds 20 --mib 1024
//! cargo run --release -p ocipfs-compare -- --ocipfs target/release/ocipfs     (built before)
//! cargo run --release -p ocipfs-compare -- --before old/ocipfs     (an older build beside this one)
//! cargo run --release -p ocipfs-compare -- --json table.json --svg table.svg
//! ```
//!
//! ```text
//! scenarios   what is measured, one file each; room: its directory and children; turns: A B A B
//! server      the programs as children: ocipfs, docker-registry, nginx, boxo, Kubo, a bare libp2p stream, light peers
//! proxy       links with a delay and a cap
//! client      HTTP by hand: a blocking socket and one buffer, so that the servers are measured
//! secure      the same over TLS, and a certificate
//! push        blobs and manifests by HTTP
//! rpc         the RPC of Kubo
//! report      rows, ratios and targets, as a table, JSON and a plot
//! builds      two builds of ocipfs, each scenario by one and then the other
//! ```
//!
//! Ratios are taken pair by pair, so that a busy machine slows both; above 1 ocipfs is the quicker.
//! Memory is the most anonymous memory seen in `/proc` meanwhile. What a scenario writes is below
//! `TMPDIR` (up to 20 GB) and is gone with it.

mod builds;
mod client;
mod cpu;
mod interrupt;
mod memory;
mod peers;
mod proxy;
mod push;
mod report;
mod rpc;
mod scenarios;
mod secure;
mod server;
mod tar;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::{Parser, Subcommand, builder::PossibleValuesParser, value_parser};
use libp2p::Multiaddr;

use interrupt::Interrupt;
use report::{Failed, Report, Row};
use scenarios::{ALL, Plan, Programs, Room, Scenario};

/// Error that stops a measurement.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Compare ocipfs with other registries and peers
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    end: Option<End>,
    /// The program; without it, `cargo build --release -p ocipfs` is run first
    #[arg(long, value_name = "PATH")]
    ocipfs: Option<PathBuf>,
    /// An older program: each scenario is run by both, in turns, and the figures of ocipfs are compared
    #[arg(long, value_name = "PATH")]
    before: Option<PathBuf>,
    #[arg(long, value_name = "PATH", default_value = "docker-registry")]
    docker_registry: PathBuf,
    #[arg(long, value_name = "PATH", default_value = "nginx")]
    nginx: PathBuf,
    /// The boxo peer; without it, tests/peers/boxo is built
    #[arg(long, value_name = "PATH")]
    boxo: Option<PathBuf>,
    /// Kubo's program; without it, it is built where it is needed
    #[arg(long, value_name = "PATH")]
    kubo: Option<PathBuf>,
    /// Measure only these
    #[arg(long, value_name = "ROW", value_delimiter = ',', value_parser = names())]
    only: Vec<String>,
    /// How often each takes its turn; what takes long, at most three times
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = value_parser!(u32).range(1..))]
    rounds: u32,
    /// The blob's size in MiB
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = value_parser!(u32).range(8..=8000))]
    mib: u32,
    /// One round of little, to see that all of it works
    #[arg(long)]
    quick: bool,
    /// A scenario that takes longer has failed
    #[arg(long, value_name = "N", default_value_t = 5)]
    minutes: u64,
    /// Write what was measured
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw it
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// The two ends of a bare libp2p stream, and a crowd of peers: they are processes of their own.
#[derive(Subcommand)]
#[command(hide = true)]
enum End {
    #[command(hide = true)]
    StreamSource { mib: usize },
    #[command(hide = true)]
    StreamSink { address: Multiaddr },
    #[command(hide = true)]
    Crowd { peers: usize },
}

fn names() -> PossibleValuesParser {
    PossibleValuesParser::new(ALL.iter().map(|scenario| scenario.name))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.end {
        Some(End::StreamSource { mib }) => server::stream::source(mib).map(|()| true),
        Some(End::StreamSink { address }) => server::stream::sink(address).map(|()| true),
        Some(End::Crowd { peers }) => server::crowd::crowd(peers).map(|()| true),
        None => compare(&arguments),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(1)
        }
    }
}

/// Says whether all scenarios came to their end, targets reached or not.
fn compare(arguments: &Arguments) -> Result<bool, Failure> {
    let dir = tempfile::tempdir()?;
    let chosen = |scenario: &&Scenario| {
        arguments.only.is_empty() || arguments.only.iter().any(|name| name == scenario.name)
    };
    let scenarios: Vec<_> = ALL.iter().filter(chosen).collect();
    let now = programs(arguments, arguments.ocipfs.as_deref(), dir.path())?;
    let before = arguments.before.as_deref();
    let before = before.map(|path| programs(arguments, Some(path), dir.path())).transpose()?;
    if scenarios.iter().any(|scenario| scenario.with_boxo) {
        // Who needs it says why it is missing.
        let _ = now.boxo();
    }
    let interrupt = Interrupt::watch();
    let mut report = Report::new();
    for scenario in scenarios {
        eprintln!("{}: {} ...", scenario.name, scenario.what);
        let run = Run { scenario, dir: dir.path(), minutes: arguments.minutes, interrupt: &interrupt };
        let show = |row| {
            print!("{row}");
            report.rows.push(row);
        };
        let outcome = match &before {
            None => run.with(&now, arguments.plan(), show),
            Some(before) => builds::in_turns(&run, before, &now, arguments.plan(), show),
        };
        if let Err(why) = outcome {
            eprintln!("{} failed: {why}", scenario.name);
            report.failures.push(Failed { scenario: scenario.name, why });
        }
        write(arguments, &report)?;
        if interrupt.came() {
            break;
        }
    }
    print!("{report}");
    Ok(report.failures.is_empty())
}

/// A scenario that is about to be run.
struct Run<'a> {
    scenario: &'a Scenario,
    dir: &'a Path,
    minutes: u64,
    interrupt: &'a Interrupt,
}

impl Run<'_> {
    /// Runs it in a room of its own, and passes on what it measured.
    fn with(&self, programs: &Arc<Programs>, plan: Plan, show: impl FnMut(Row)) -> Result<(), String> {
        let room = Room::new(self.dir, plan, Arc::clone(programs)).map_err(|error| error.to_string())?;
        self.scenario.run(room, Duration::from_secs(self.minutes * 60), self.interrupt, show)
    }
}

fn programs(arguments: &Arguments, ocipfs: Option<&Path>, dir: &Path) -> Result<Arc<Programs>, Failure> {
    let ocipfs = match ocipfs {
        // Children have other directories.
        Some(path) => fs::canonicalize(path).map_err(|error| format!("{}: {error}", path.display()))?,
        None => server::build_ocipfs()?,
    };
    let Arguments { docker_registry, nginx, boxo, kubo, .. } = arguments;
    let given = (boxo.clone(), kubo.clone());
    Ok(Arc::new(Programs::new(ocipfs, docker_registry.clone(), nginx.clone(), given, dir)))
}

/// After each scenario, so that a run that is broken off leaves what it has.
fn write(arguments: &Arguments, report: &Report) -> Result<(), Failure> {
    if let Some(path) = &arguments.json {
        fs::write(path, serde_json::to_string_pretty(report)? + "\n")?;
    }
    if let Some(path) = &arguments.svg {
        fs::write(path, report.svg())?;
    }
    Ok(())
}

impl Arguments {
    fn plan(&self) -> Plan {
        let Self { rounds, mib, quick, .. } = *self;
        match quick {
            true => Plan { rounds: 1, mib: mib.min(32) as usize, quick },
            false => Plan { rounds: rounds as usize, mib: mib as usize, quick },
        }
    }
}
