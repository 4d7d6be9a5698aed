//! Clients that are Go modules: built once, below `target/`, by the Go that is installed.

use std::{fs, path::PathBuf, sync::OnceLock};

use super::Room;
use crate::go;

/// crane, of go-containerregistry.
pub static CRANE: Tool = Tool::new("crane", "github.com/google/go-containerregistry/cmd/crane", "v0.22.1");
/// oras, which attaches artifacts to images.
pub static ORAS: Tool = Tool::new("oras", "oras.land/oras/cmd/oras", "v1.3.6");
/// cosign, which signs them.
pub static COSIGN: Tool = Tool::new("cosign", "github.com/sigstore/cosign/v2/cmd/cosign", "v2.6.5");
/// helm, whose charts are artifacts of a registry.
pub static HELM: Tool = Tool::new("helm", "helm.sh/helm/v3/cmd/helm", "v3.18.6");

/// Kubo, the IPFS daemon and its command line.
pub static KUBO: Tool =
    Tool::required("ipfs", "github.com/ipfs/kubo", "github.com/ipfs/kubo/cmd/ipfs", "v0.43.0");

/// A client and where its source is.
pub struct Tool {
    name: &'static str,
    /// The module, where its `go.mod` replaces others: then it can be required, and not installed by itself.
    module: Option<&'static str>,
    package: &'static str,
    version: &'static str,
    built: OnceLock<Result<(), String>>,
}

impl Tool {
    const fn new(name: &'static str, package: &'static str, version: &'static str) -> Self {
        Self { name, module: None, package, version, built: OnceLock::new() }
    }

    const fn required(
        name: &'static str,
        module: &'static str,
        package: &'static str,
        version: &'static str,
    ) -> Self {
        Self { name, module: Some(module), package, version, built: OnceLock::new() }
    }

    /// Builds the client if need be, which takes minutes from nothing, and otherwise says what is missing.
    pub fn available(&self) -> Result<(), String> {
        let build = || self.build().map_err(|error| format!("{}: {error}", self.name));
        self.built.get_or_init(build).clone()
    }

    fn build(&self) -> Result<(), String> {
        let program = self.program();
        let dir = program.parent().expect("a directory").to_owned();
        fs::create_dir_all(&dir).map_err(|error| error.to_string())?;
        let Some(module) = self.module else {
            let package = format!("{}@{}", self.package, self.version);
            return go::build(&program, || program.exists(), &dir, &["install", &package]);
        };
        let requirement = format!("module programs\n\ngo 1.25\n\nrequire {module} {}\n", self.version);
        if !program.exists() {
            fs::write(dir.join("go.mod"), requirement).map_err(|error| error.to_string())?;
        }
        let out = program.display().to_string();
        go::build(&program, || program.exists(), &dir, &["build", "-mod=mod", "-o", &out, self.package])
    }

    /// Each version has a directory of its own, so that another one is built when it changes.
    pub fn program(&self) -> PathBuf {
        [env!("CARGO_TARGET_TMPDIR"), "clients", self.version, self.name].iter().collect()
    }

    /// Furnishes a room for the client.
    pub fn start(&self) -> Result<Client, String> {
        self.available()?;
        let mut room = Room::new(self.name)?;
        // Of a key that is made here; there is no terminal to ask for it.
        room.set("COSIGN_PASSWORD", String::new());
        Ok(Client { room, program: self.program().display().to_string() })
    }
}

/// A client with files of its own.
pub struct Client {
    room: Room,
    program: String,
}

impl Client {
    /// Runs a command of it, and returns what it printed.
    pub fn run(&self, args: &[&str]) -> Result<String, String> {
        self.room.run(&[&[self.program.as_str()], args].concat())
    }

    /// Where `name` is in its room.
    pub fn path(&self, name: &str) -> String {
        self.room.path(name)
    }

    /// Writes a file of its room and returns its path.
    pub fn write(&self, name: &str, text: &str) -> Result<String, String> {
        self.room.write(name, text)
    }
}
