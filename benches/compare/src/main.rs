//! ocipfs beside Debian's `docker-registry`: both serve the same stored blob, in turns, in one run.
//!
//! ```text
//! apt-get install docker-registry
//! cargo run --release -p ocipfs-compare
//! cargo run --release -p ocipfs-compare -- --rounds 20 --mib 1024 --json
//! cargo run --release -p ocipfs-compare -- --ocipfs target/release/ocipfs     (built before)
//! ```
//!
//! Both run on loopback with directories of their own below the temporary directory (`TMPDIR`).
//! The client is a blocking socket and one buffer, so that the servers are measured: a new
//! connection for each `GET`, the body thrown away, A B A B after one round to warm up, in which the
//! bodies are hashed. The ratio is taken pair by pair, so that a busy machine slows both; above 1
//! ocipfs is the quicker. Memory is the most anonymous memory seen in `/proc` while serving.

mod client;
mod report;
mod server;

use std::{fs, io::Write, path::PathBuf, process::ExitCode, time::Instant};

use clap::Parser;
use ocipfs_oci::{Algorithm, Digest, Hasher};

use client::Url;
use report::{Report, Side};
use server::{DockerRegistry, Ocipfs};

const MIB: usize = 1 << 20;

/// What stopped the comparison, for whoever runs it.
type Failure = Box<dyn std::error::Error>;

/// Compare ocipfs with Debian's docker-registry in serving a stored blob
#[derive(Parser)]
struct Arguments {
    /// The program; without it, `cargo build --release -p ocipfs` is run first
    #[arg(long, value_name = "PATH")]
    ocipfs: Option<PathBuf>,
    /// The other program
    #[arg(long, value_name = "PATH", default_value = "docker-registry")]
    docker_registry: PathBuf,
    /// The blob's size in MiB
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=8000))]
    mib: u32,
    /// How often each is asked
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match compare(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(1)
        }
    }
}

fn compare(arguments: &Arguments) -> Result<(), Failure> {
    let dir = tempfile::tempdir()?;
    let theirs = DockerRegistry::start(&arguments.docker_registry, &dir.path().join("docker-registry"))?;
    let program = match &arguments.ocipfs {
        Some(path) => path.clone(),
        None => server::build()?,
    };
    let ours = Ocipfs::start(&program, &dir.path().join("ocipfs"))?;
    let size = arguments.mib as usize * MIB;
    let tar = dir.path().join("layer.tar");
    let digest = write_tar(&tar, size)?;

    let start = Instant::now();
    let ours_url = ours.add(&tar, &digest)?;
    let ours_put = start.elapsed();
    let start = Instant::now();
    let theirs_url = theirs.push(&tar, &digest)?;
    let theirs_put = start.elapsed();
    let stored = fs::metadata(&tar)?.len();
    let mut ours = Side::new("ocipfs", ours.pid(), stored, ours_put, ours);
    let mut theirs = Side::new("docker-registry", theirs.pid(), stored, theirs_put, theirs);

    for url in [&ours_url, &theirs_url] {
        let found = url.hash()?;
        if found != digest {
            return Err(format!("{url} gave {found}, not {digest}").into());
        }
    }
    for _ in 0..arguments.rounds {
        ours.get(&ours_url)?;
        theirs.get(&theirs_url)?;
    }
    let report = Report::new(stored, ours.finish(), theirs.finish());
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    Ok(())
}

/// Writes a tar of one file `data`: words that count up, so that no two blocks are the same.
fn write_tar(path: &std::path::Path, size: usize) -> Result<Digest, Failure> {
    let mut out = fs::File::create(path)?;
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut write = |bytes: &[u8]| {
        hasher.update(bytes);
        out.write_all(bytes)
    };
    write(&header(size))?;
    let mut word = 0u64;
    for _ in 0..size / MIB {
        let piece: Vec<u8> = (word..word + MIB as u64 / 8).flat_map(u64::to_le_bytes).collect();
        word += MIB as u64 / 8;
        write(&piece)?;
    }
    write(&[0; 1024])?;
    Ok(hasher.finish())
}

/// A ustar header: name, mode, owner, size, time, checksum, type, magic.
fn header(size: usize) -> [u8; 512] {
    let mut header = [0; 512];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, "data");
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{size:011o}\0"));
    put(136, "00000000000\0");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}
