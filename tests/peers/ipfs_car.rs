//! [ipfs-car](https://github.com/storacha/ipfs-car), a command for CARs.

use std::{
    path::Path,
    process::{Command, Stdio},
    sync::OnceLock,
};

use super::helia;

const DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/ipfs-car");

/// Installs it if need be, and otherwise names what is missing.
pub fn available() -> Result<(), String> {
    static AVAILABLE: OnceLock<Result<(), String>> = OnceLock::new();
    helia::available()?;
    let install = || helia::install_in(DIR).map_err(|error| format!("ipfs-car: {error}"));
    AVAILABLE.get_or_init(install).clone()
}

/// Runs a command of it, and returns what it printed.
pub fn run(args: &[&str]) -> Result<Vec<u8>, String> {
    available()?;
    let program = Path::new(DIR).join("node_modules/ipfs-car/bin.js");
    let done = Command::new(helia::node()).arg(program).args(args).stdin(Stdio::null()).output();
    let done = done.map_err(|error| format!("ipfs-car: {error}"))?;
    match done.status.success() {
        true => Ok(done.stdout),
        false => Err(format!("ipfs-car {}: {}", args.join(" "), String::from_utf8_lossy(&done.stderr))),
    }
}
