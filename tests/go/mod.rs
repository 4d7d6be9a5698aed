//! Programs that are built with Go, once, below `target/`.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// The oldest Go that all of them build with.
const OLDEST: (u32, u32) = (1, 25);

/// Builds `program` unless `is_built`, which is asked while no other process builds it.
///
/// `args` are those of `go`, run in `dir` with `GOBIN` set to the program's directory.
pub fn build(program: &Path, is_built: impl Fn() -> bool, dir: &Path, args: &[&str]) -> Result<(), String> {
    let name = program.display();
    // Held by the system, so a process that dies while it builds leaves no lock behind.
    let lock = File::create(program.with_extension("lock")).map_err(|error| format!("{name}: {error}"))?;
    lock.lock().map_err(|error| format!("{name}: {error}"))?;
    if is_built() {
        return Ok(());
    }
    check_version()?;
    let bin = program.parent().unwrap_or(dir);
    let done = go(dir, bin, args).map_err(|error| error.to_string())?;
    if done.status.success() {
        return Ok(());
    }
    Err(format!(
        "go {} ended with {}:\n{}",
        args.join(" "),
        done.status,
        String::from_utf8_lossy(&done.stderr)
    ))
}

/// Downloads a module, named with its version, unless it is here; returns the directory of its source.
pub fn download(module: &str) -> Result<PathBuf, String> {
    check_version()?;
    let here = Path::new(".");
    let done = go(here, here, &["mod", "download", "-json", module]).map_err(|error| error.to_string())?;
    let told = String::from_utf8_lossy(&done.stdout);
    let dir = told.lines().find_map(|line| line.trim().strip_prefix("\"Dir\": \"")?.strip_suffix("\","));
    dir.map(PathBuf::from)
        .ok_or_else(|| format!("go mod download {module}: {told}{}", String::from_utf8_lossy(&done.stderr)))
}

fn check_version() -> Result<(), String> {
    let wanted = format!("Go {}.{} or newer, from https://go.dev/dl", OLDEST.0, OLDEST.1);
    let here = Path::new(".");
    let said = go(here, here, &["env", "GOVERSION"]).map_err(|error| format!("go: {error} ({wanted})"))?;
    let said = String::from_utf8_lossy(&said.stdout).trim().to_owned();
    match version(&said) {
        Some(version) if version >= OLDEST => Ok(()),
        _ => Err(format!("{said:?} is too old ({wanted})")),
    }
}

/// Returns the first two numbers of `go1.26.8`.
fn version(said: &str) -> Option<(u32, u32)> {
    let mut numbers = said.strip_prefix("go")?.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Runs Go, which must not fetch a newer one of itself, nor need a C compiler.
fn go(dir: &Path, bin: &Path, args: &[&str]) -> std::io::Result<Output> {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/local/go/bin");
    Command::new("go")
        .args(args)
        .current_dir(dir)
        .env("PATH", path)
        .env("GOBIN", bin)
        .env("GOTOOLCHAIN", "local")
        .env("CGO_ENABLED", "0")
        // Its versions are newer than what the checksum database was told.
        .env("GONOSUMDB", "github.com/containerd/nerdctl")
        .stdin(Stdio::null())
        .output()
}
