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
/// kubeconform, which checks manifests with schemas of Kubernetes.
pub static KUBECONFORM: Tool =
    Tool::new("kubeconform", "github.com/yannh/kubeconform/cmd/kubeconform", "v0.7.0");
/// A module with these schemas, as OpenAPI documents.
const KUBERNETES_SCHEMAS: (&str, &str) =
    ("sigs.k8s.io/kubectl-validate@v0.0.4", "pkg/openapiclient/builtins");
/// regctl, of regclient.
pub static REGCTL: Tool = Tool::new("regctl", "github.com/regclient/regclient/cmd/regctl", "v0.11.7");
/// notation, which signs images with certificates.
pub static NOTATION: Tool = Tool::required(
    "notation",
    "github.com/notaryproject/notation",
    "github.com/notaryproject/notation/cmd/notation",
    "v1.3.2",
);
/// The conformance suite of the OCI distribution specification.
pub static CONFORMANCE: Tool = Tool::new(
    "conformance",
    "github.com/opencontainers/distribution-spec/conformance",
    "v0.0.0-20260831232431-97274622c111",
);
/// pebble, an ACME server for tests.
pub static PEBBLE: Tool = Tool::new("pebble", "github.com/letsencrypt/pebble/v2/cmd/pebble", "v2.10.3");
/// The client of [`BUILDKITD`].
pub static BUILDCTL: Tool = Tool::required(
    "buildctl",
    "github.com/moby/buildkit",
    "github.com/moby/buildkit/cmd/buildctl",
    "v0.20.2",
);
/// The daemon of BuildKit.
pub static BUILDKITD: Tool = Tool::required(
    "buildkitd",
    "github.com/moby/buildkit",
    "github.com/moby/buildkit/cmd/buildkitd",
    "v0.20.2",
);

/// What clients read from the environment: the passphrase of a key that is made here, as there is no terminal to ask for it.
pub const SETTINGS: [(&str, &str); 1] = [("COSIGN_PASSWORD", "")];

/// All of them.
pub fn all() -> [&'static Tool; 8] {
    [&CRANE, &ORAS, &COSIGN, &HELM, &NOTATION, &REGCTL, &BUILDCTL, &BUILDKITD]
}

/// nerdctl, docker's commands over containerd, with images in IPFS.
pub static NERDCTL: Tool = Tool::required(
    "nerdctl",
    "github.com/containerd/nerdctl/v2",
    "github.com/containerd/nerdctl/v2/cmd/nerdctl",
    "v2.0.5",
);
/// Kubo, the IPFS daemon and its command line.
pub static KUBO: Tool =
    Tool::required("ipfs", "github.com/ipfs/kubo", "github.com/ipfs/kubo/cmd/ipfs", "v0.43.0");

/// Downloads the schemas of Kubernetes, and returns the directory that has one for each version.
pub fn kubernetes_schemas() -> Result<PathBuf, String> {
    let (module, dir) = KUBERNETES_SCHEMAS;
    Ok(go::download(module)?.join(dir))
}

/// A client and where its source is.
pub struct Tool {
    name: &'static str,
    package: &'static str,
    version: &'static str,
    /// The module, where it replaces others: `go install` takes none of these.
    module: Option<&'static str>,
    built: OnceLock<Result<(), String>>,
}

impl Tool {
    const fn new(name: &'static str, package: &'static str, version: &'static str) -> Self {
        Self { name, package, version, module: None, built: OnceLock::new() }
    }

    /// One whose module replaces others.
    const fn required(
        name: &'static str,
        module: &'static str,
        package: &'static str,
        version: &'static str,
    ) -> Self {
        Self { name, package, version, module: Some(module), built: OnceLock::new() }
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
        let is_built = || program.exists();
        let Some(module) = self.module else {
            let package = format!("{}@{}", self.package, self.version);
            return go::build(&program, is_built, &dir, &["install", "-ldflags=-s -w", &package]);
        };
        // A module that only requires the other.
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let text = format!("module client\n\ngo 1.25.0\n\nrequire {module} {}\n", self.version);
        fs::write(dir.path().join("go.mod"), text).map_err(|error| error.to_string())?;
        let to = program.display().to_string();
        let build = ["build", "-mod=mod", "-ldflags=-s -w", "-o", &to, self.package];
        go::build(&program, is_built, dir.path(), &build)
    }

    /// Each version has a directory of its own, so that another one is built when it changes.
    pub fn program(&self) -> PathBuf {
        [env!("CARGO_TARGET_TMPDIR"), "clients", self.version, self.name].iter().collect()
    }

    /// Furnishes a room for the client.
    pub fn start(&self) -> Result<Client, String> {
        self.available()?;
        let mut room = Room::new(self.name)?;
        for (variable, value) in SETTINGS {
            room.set(variable, value.to_owned());
        }
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

    /// Sets a variable for its commands.
    pub fn set(&mut self, variable: &'static str, value: &str) {
        self.room.set(variable, value.to_owned());
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
