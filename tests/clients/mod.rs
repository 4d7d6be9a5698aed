//! Real container clients, each in a [`Room`] of its own.
//!
//! A helper starts what its client needs, speaks to a registry over plain HTTP on loopback, and leaves
//! nothing behind. Operations return the client's stdout, or an error that holds its command line, exit
//! code and stderr. `README.md` has the lines a person would type.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
    sync::{LazyLock, Mutex},
};

mod buildah;
mod buildkit;
mod containerd;
mod daemon;
mod docker;
mod go;
mod nerdctl;
mod podman;
mod room;
mod skopeo;
mod stargz;
mod umoci;

pub use buildah::Buildah;
pub use buildkit::BuildKit;
pub use containerd::Containerd;
pub use docker::Docker;
pub use go::{
    BUILDCTL, BUILDKITD, CONFORMANCE, COSIGN, CRANE, Client, HELM, KUBECONFORM, KUBO, NOTATION, ORAS, PEBBLE,
    REGCTL, SETTINGS, Tool, all, kubernetes_schemas,
};
pub use nerdctl::Nerdctl;
pub use podman::Podman;
pub use skopeo::Skopeo;
pub use umoci::Umoci;

use daemon::Daemon;
pub use room::Room;

/// The distribution's programs come first: a newer `docker` in `/usr/local` drives BuildKit only with buildx
/// installed, and `dockerd` is in `sbin`, which an ordinary `PATH` lacks.
pub fn search_path() -> String {
    let rest = std::env::var("PATH").unwrap_or_default();
    format!("/usr/sbin:/usr/bin:/sbin:/bin:{rest}")
}

/// Names the first of `programs` (a command and its Debian package) that is not installed.
pub fn installed(programs: &[(&str, &str)]) -> Result<(), String> {
    let path = search_path();
    for (program, package) in programs {
        if !path.split(':').any(|dir| Path::new(dir).join(program).is_file()) {
            return Err(format!("{program}: not installed (apt-get install {package})"));
        }
    }
    Ok(())
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Refuses `client` where namespaces, and files of any owner, are out of reach.
pub fn root_for(client: &str) -> Result<(), String> {
    if is_root() { Ok(()) } else { Err(format!("{client}: its storage and containers need root")) }
}

/// Writes to `dir/hello` a program that needs no file of an image but itself, and prints `prints`.
pub fn static_program(dir: &Path, prints: &str) -> PathBuf {
    static BUILT: LazyLock<Mutex<HashMap<String, Vec<u8>>>> = LazyLock::new(Mutex::default);
    let program = dir.join("hello");
    let mut built = BUILT.lock().unwrap();
    let bytes = built.entry(prints.to_owned()).or_insert_with(|| compile(prints));
    fs::write(&program, bytes).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    program
}

fn compile(prints: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let [source, program] = ["hello.c", "hello"].map(|name| dir.path().join(name));
    // Bytes, not a string literal: no text needs escaping.
    let bytes: String = prints.bytes().map(|byte| format!("{byte},")).collect();
    let code = format!(
        "#include <unistd.h>\nstatic const unsigned char text[] = {{{bytes}}};\n\
         int main(void) {{ return write(1, text, sizeof text) != sizeof text; }}\n"
    );
    fs::write(&source, code).unwrap();
    let done =
        Command::new("gcc").args(["-static", "-Os", "-s", "-o"]).arg(&program).arg(&source).output().unwrap();
    assert!(done.status.success(), "gcc -static: {}", String::from_utf8_lossy(&done.stderr));
    fs::read(program).unwrap()
}

/// Writes `dir/Dockerfile`: an image made of the layer at `reference`, which starts `entry`.
pub fn dockerfile(dir: &Path, reference: &str, entry: &str) {
    let text = format!("FROM scratch\nCOPY --from={reference} / /\nENTRYPOINT [\"{entry}\"]\n");
    fs::write(dir.join("Dockerfile"), text).unwrap();
}
