//! [kubo-rpc-client](https://github.com/ipfs/js-kubo-rpc-client), the client in JavaScript: `kubo-rpc/client.mjs`.

use std::{
    process::{Command, Stdio},
    sync::OnceLock,
};

use super::helia;

const DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/kubo-rpc");

/// Installs it if need be, and otherwise names what is missing.
pub fn available() -> Result<(), String> {
    static AVAILABLE: OnceLock<Result<(), String>> = OnceLock::new();
    let install = || helia::available().and_then(|()| helia::install_in(DIR));
    AVAILABLE.get_or_init(|| install().map_err(|error| format!("kubo-rpc-client: {error}"))).clone()
}

/// Goes through its calls against the RPC at a URL.
pub fn run(url: &str) -> Result<String, String> {
    let mut command = Command::new(helia::node());
    command.arg(format!("{DIR}/client.mjs")).arg(url).current_dir(DIR).stdin(Stdio::null());
    let done = command.output().map_err(|error| error.to_string())?;
    match done.status.success() {
        true => Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned()),
        false => Err(String::from_utf8_lossy(&done.stderr).into_owned()),
    }
}
