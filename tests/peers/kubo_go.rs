//! Kubo's RPC client in Go, as the program in `kubo-go`.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::OnceLock,
};

use crate::go;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/kubo-go/main.go");
const PROGRAM: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/kubo-go-0.43.0");
/// Its other requirements are those of Kubo.
const MODULE: &str = "module client\n\ngo 1.25.0\n\nrequire github.com/ipfs/kubo v0.43.0\n";

/// Builds the program if need be, and otherwise names what is missing.
pub fn available() -> Result<(), String> {
    static AVAILABLE: OnceLock<Result<(), String>> = OnceLock::new();
    AVAILABLE.get_or_init(|| build().map_err(|error| format!("Kubo's client in Go: {error}"))).clone()
}

fn build() -> Result<(), String> {
    let program = Path::new(PROGRAM);
    let modified = |path: &Path| fs::metadata(path).and_then(|file| file.modified()).ok();
    let is_built = || modified(program) > modified(Path::new(SOURCE));
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    fs::write(dir.path().join("go.mod"), MODULE).map_err(|error| error.to_string())?;
    fs::copy(SOURCE, dir.path().join("main.go")).map_err(|error| error.to_string())?;
    go::build(program, is_built, dir.path(), &["build", "-mod=mod", "-ldflags=-s -w", "-o", PROGRAM, "."])
}

/// Goes through its calls against the RPC at a multiaddr.
pub fn run(api: &str) -> Result<String, String> {
    let done = Command::new(PROGRAM).arg(api).stdin(Stdio::null()).output();
    let done = done.map_err(|error| error.to_string())?;
    match done.status.success() {
        true => Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned()),
        false => Err(String::from_utf8_lossy(&done.stderr).into_owned()),
    }
}
