//! The client of nerdctl and stargz-snapshotter, as the program in `stargz-ipfs`.

use std::{
    path::Path,
    process::{Command, Stdio},
    sync::OnceLock,
};

use crate::go;

const DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/stargz-ipfs");
const PROGRAM: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/stargz-ipfs");

/// Builds the program if need be, and otherwise names what is missing.
pub fn available() -> Result<(), String> {
    static AVAILABLE: OnceLock<Result<(), String>> = OnceLock::new();
    AVAILABLE.get_or_init(|| build().map_err(|error| format!("stargz-ipfs: {error}"))).clone()
}

fn build() -> Result<(), String> {
    let program = Path::new(PROGRAM);
    go::build(program, || program.exists(), Path::new(DIR), &["build", "-o", PROGRAM, "."])
}

/// Adds a file through the RPC that `ipfs_path/api` names; returns its CID, its size, and a range of it in base64.
pub fn run(ipfs_path: &Path, file: &Path) -> Result<String, String> {
    let mut command = Command::new(PROGRAM);
    command.arg(file).env("IPFS_PATH", ipfs_path).stdin(Stdio::null());
    let done = command.output().map_err(|error| error.to_string())?;
    match done.status.success() {
        true => Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned()),
        false => Err(String::from_utf8_lossy(&done.stderr).into_owned()),
    }
}
