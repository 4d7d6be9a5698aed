//! What is installed, rendered or composed from this repository works with the program of this test run.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use libtest_mimic::Trial;

use crate::{clients, harness::last_line};

mod chart;
mod container;
mod debian;
mod manifests;
mod schemas;
mod yaml;

pub fn trials() -> Vec<Trial> {
    [chart::trials(), container::trials(), debian::trials(), manifests::trials()]
        .into_iter()
        .flatten()
        .collect()
}

/// A file of the repository.
fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A script of the repository.
fn script(path: &str) -> Command {
    let mut command = Command::new(file(path));
    command.env("PATH", clients::search_path());
    command
}

/// What is missing to make packages.
fn tools() -> Result<(), String> {
    clients::installed(&[("strip", "binutils"), ("tar", "tar"), ("gzip", "gzip"), ("sha256sum", "coreutils")])
}

/// What a package contains, made of the program of this test run: once, since the program is large before it is stripped.
fn dist() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dist-files");
        let mut make = script("bootstrap/dist");
        last_line(make.args(["--program", env!("CARGO_BIN_EXE_ocipfs"), "--to"]).arg(&dir));
        dir
    })
}
