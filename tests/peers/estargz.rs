//! The reader of eStargz layers of stargz-snapshotter, as the program in `estargz`.

use std::{
    path::Path,
    process::{Command, Stdio},
    sync::OnceLock,
};

use crate::go;

const DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/estargz");
const PROGRAM: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/estargz");

/// Builds the program if need be, and otherwise names what is missing.
pub fn available() -> Result<(), String> {
    static AVAILABLE: OnceLock<Result<(), String>> = OnceLock::new();
    AVAILABLE.get_or_init(|| build().map_err(|error| format!("estargz: {error}"))).clone()
}

fn build() -> Result<(), String> {
    let program = Path::new(PROGRAM);
    go::build(program, || program.exists(), Path::new(DIR), &["build", "-o", PROGRAM, "."])
}

/// Reads a layer and checks each digest in it, that of its table of contents first; a line for each entry.
pub fn read(layer: &Path, toc_digest: &str) -> Result<Vec<String>, String> {
    let mut command = Command::new(PROGRAM);
    let done = command.arg(layer).arg(toc_digest).stdin(Stdio::null()).output();
    let done = done.map_err(|error| error.to_string())?;
    match done.status.success() {
        true => Ok(String::from_utf8_lossy(&done.stdout).lines().map(Into::into).collect()),
        false => Err(String::from_utf8_lossy(&done.stderr).into_owned()),
    }
}
