//! [boxo](https://github.com/ipfs/boxo), Kubo's library, as the program in `boxo/peer`.

use std::{
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
    time::{Duration, SystemTime},
};

use tempfile::TempDir;

use super::program::{Fetched, Program, Served};
use crate::go;

const DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/boxo");

const PROGRAM: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/boxo-peer");

/// Builds the program if need be, which takes Go minutes from nothing, and otherwise names what is missing.
pub fn available() -> Result<(), String> {
    static AVAILABLE: OnceLock<Result<(), String>> = OnceLock::new();
    AVAILABLE.get_or_init(|| build().map_err(|error| format!("boxo: {error}"))).clone()
}

fn build() -> Result<(), String> {
    go::build(Path::new(PROGRAM), built, Path::new(DIR), &["build", "-o", PROGRAM, "./peer"])
}

/// Whether the program is there, and newer than all that it is made of.
fn built() -> bool {
    let modified = |path: PathBuf| fs::metadata(path).and_then(|file| file.modified()).ok();
    let dir = Path::new(DIR);
    let sources = fs::read_dir(dir.join("peer")).into_iter().flatten().flatten().map(|file| file.path());
    let newest: Option<SystemTime> =
        sources.chain(["go.mod", "go.sum"].map(|name| dir.join(name))).map(modified).max().flatten();
    modified(PROGRAM.into()).is_some_and(|built| newest.is_some_and(|newest| built > newest))
}

/// A peer that serves files until it is dropped, or the test process ends.
pub struct Boxo {
    served: Served,
    _peer: Program,
    _store: TempDir,
}

impl Boxo {
    /// Adds `files` as the flags of `peer serve` say, and serves them.
    pub async fn serve(flags: &[&str], files: &[&Path]) -> Result<Self, String> {
        let (store, mut args) = stored("serve", flags)?;
        args.extend(files.iter().map(|file| file.as_os_str().to_owned()));
        let mut peer = start(&args)?;
        Ok(Self { served: peer.served().await?, _peer: peer, _store: store })
    }

    /// The files' CIDs, in their order.
    pub fn cids(&self) -> &[String] {
        &self.served.cids
    }

    /// Where it listens: a multiaddr that ends with its peer id.
    pub fn address(&self) -> &str {
        &self.served.address
    }
}

/// Has a new peer, with flags of `peer fetch`, fetch the file `cid` (or `cid/path`) from the peer at `multiaddr`
/// into `out`, which it replaces.
pub async fn fetch(
    flags: &[&str],
    cid: &str,
    multiaddr: &str,
    out: &Path,
    timeout: Duration,
) -> Result<Fetched, String> {
    let (_store, mut args) = stored("fetch", flags)?;
    let seconds = timeout.as_secs().max(1).to_string();
    args.extend(["--timeout", &seconds, cid, multiaddr].map(OsString::from));
    args.push(out.into());
    start(&args)?.fetched(timeout).await
}

/// Signs an IPNS record for `value` under a new key, with flags of `peer record`; returns its name and the record.
pub async fn record(flags: &[&str], value: &str) -> Result<(String, Vec<u8>), String> {
    let args = [&["record"], flags, &[value]].concat();
    start(&args.into_iter().map(OsString::from).collect::<Vec<_>>())?.record().await
}

/// The command with a store of our own: a peer that is killed does not remove its.
fn stored(command: &str, flags: &[&str]) -> Result<(TempDir, Vec<OsString>), String> {
    let store = tempfile::tempdir().map_err(|error| format!("boxo: {error}"))?;
    let own = [OsStr::new(command), OsStr::new("--store"), store.path().as_os_str()];
    let args = own.into_iter().chain(flags.iter().map(OsStr::new)).map(OsStr::to_owned).collect();
    Ok((store, args))
}

fn start(args: &[OsString]) -> Result<Program, String> {
    available()?;
    Program::start("boxo", tokio::process::Command::new(PROGRAM).args(args))
}
