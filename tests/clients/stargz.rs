//! The snapshotter that mounts eStargz layers, as the program in `tests/peers/stargz`.

use std::{fs, path::Path, sync::OnceLock};

use crate::go;

const DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/stargz");
/// The program.
pub const PROGRAM: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/stargz");

/// Builds the program if need be, which takes Go minutes from nothing, and otherwise names what is missing.
pub fn available() -> Result<(), String> {
    static AVAILABLE: OnceLock<Result<(), String>> = OnceLock::new();
    AVAILABLE.get_or_init(|| build().map_err(|error| format!("stargz: {error}"))).clone()
}

fn build() -> Result<(), String> {
    if !Path::new("/dev/fuse").exists() {
        return Err("there is no /dev/fuse".into());
    }
    go::build(Path::new(PROGRAM), is_built, Path::new(DIR), &["build", "-o", PROGRAM, "."])
}

/// Whether the program is there, and newer than all that it is made of.
fn is_built() -> bool {
    let modified = |path: &Path| fs::metadata(path).and_then(|file| file.modified()).ok();
    let sources = fs::read_dir(DIR).into_iter().flatten().flatten().map(|file| file.path());
    let newest = sources.filter_map(|path| modified(&path)).max();
    modified(Path::new(PROGRAM)).is_some_and(|built| newest.is_some_and(|newest| built > newest))
}
