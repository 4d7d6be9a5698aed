//! [Kubo](https://github.com/ipfs/kubo): its command line as a client, and a repository of its own without a network.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use tempfile::TempDir;

use crate::clients::KUBO;

/// A repository, and a working directory.
pub struct Kubo {
    dir: TempDir,
    api: Option<String>,
}

impl Kubo {
    /// A client of the RPC at `api`, a multiaddr.
    pub fn client(api: &str) -> Self {
        KUBO.available().unwrap();
        let kubo = Self { dir: tempfile::tempdir().unwrap(), api: Some(api.into()) };
        // A client needs a directory, and no repository in it.
        fs::create_dir(kubo.dir.path().join("repo")).unwrap();
        kubo
    }

    /// A repository of its own, which commands use without a daemon.
    pub fn offline() -> Self {
        KUBO.available().unwrap();
        let kubo = Self { dir: tempfile::tempdir().unwrap(), api: None };
        kubo.run(&["init", "--profile", "test"]);
        kubo
    }

    /// Where relative paths of its arguments begin.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Runs a command that must succeed, and returns what it printed.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> String {
        match self.try_run(args) {
            Ok(stdout) => stdout,
            Err(error) => panic!("{error}"),
        }
    }

    /// Runs a command.
    pub fn try_run(&self, args: &[&str]) -> Result<String, String> {
        String::from_utf8(self.bytes(args)?).map_err(|error| error.to_string())
    }

    /// Runs a command that prints bytes.
    pub fn bytes(&self, args: &[&str]) -> Result<Vec<u8>, String> {
        let mut command = Command::new(KUBO.program());
        command
            .current_dir(self.dir())
            .env("IPFS_PATH", self.dir().join("repo"))
            .env("IPFS_TELEMETRY", "off");
        if let Some(api) = &self.api {
            command.args(["--api", api]);
        }
        let done = command.args(args).stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
        match done.status.success() {
            true => Ok(done.stdout),
            false => Err(format!("ipfs {}: {}", args.join(" "), String::from_utf8_lossy(&done.stderr))),
        }
    }
}
