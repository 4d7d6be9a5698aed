//! [Verified fetch](https://github.com/ipfs/helia-verified-fetch), Helia's client of trustless gateways: `fetch/fetch.mjs`.

use std::{path::Path, process::Stdio, sync::OnceLock, time::Duration};

use super::helia;

const DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/fetch");
const LIMIT: Duration = Duration::from_secs(90);

/// Installs it if need be, which takes npm minutes, and otherwise names what is missing.
pub fn available() -> Result<(), String> {
    static AVAILABLE: OnceLock<Result<(), String>> = OnceLock::new();
    helia::available()?;
    let install = || helia::install_in(DIR).map_err(|error| format!("verified fetch: {error}"));
    AVAILABLE.get_or_init(install).clone()
}

/// Reads the file at a CID path, or the part of it that a `Range` header names, from a gateway into `out`.
pub async fn fetch(gateway: &str, path: &str, range: &str, out: &Path) -> Result<(), String> {
    available()?;
    let mut command = tokio::process::Command::new(helia::node());
    command.arg(Path::new(DIR).join("fetch.mjs")).args([gateway, path, range]).arg(out);
    let run = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let done = tokio::time::timeout(LIMIT, run).await.map_err(|_| "verified fetch: no answer".to_owned())?;
    let done = done.map_err(|error| format!("verified fetch: {error}"))?;
    if done.status.success() {
        return Ok(());
    }
    Err(format!("verified fetch ended with {}:\n{}", done.status, String::from_utf8_lossy(&done.stderr)))
}
