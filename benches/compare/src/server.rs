//! The programs as children, each with a directory of its own, on loopback.

pub mod boxo;
pub mod crowd;
mod docker_registry;
pub mod kubo;
mod nginx;
mod ocipfs;
mod process;
pub mod raw;
pub mod stream;

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Command, Stdio},
};

pub use boxo::Boxo;
pub use crowd::Crowd;
pub use docker_registry::DockerRegistry;
pub use kubo::{Distant, Kubo, Settings as KuboSettings};
pub use nginx::Nginx;
pub use ocipfs::{Added, Ocipfs, Serve, TO_GREET, command as ocipfs_command};
pub use process::{Children, Process, finish, log};
pub use stream::Stream;

use crate::Failure;

/// Returns a free port, for programs that cannot choose one themselves.
fn free_port() -> Result<SocketAddr, Failure> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// `/ip4/127.0.0.1/tcp/PORT`, which is how peers write an address.
pub fn multiaddr(address: SocketAddr) -> String {
    format!("/ip4/{}/tcp/{}", address.ip(), address.port())
}

/// The other way round, whatever follows the port.
fn socket_address(multiaddr: &str) -> Result<SocketAddr, Failure> {
    let mut parts = multiaddr.split('/').skip(2).step_by(2);
    let (ip, port) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    format!("{ip}:{port}").parse().map_err(|_| format!("{multiaddr} is no address of TCP").into())
}

/// Builds a program of this workspace's root package.
pub fn build_ocipfs() -> Result<std::path::PathBuf, Failure> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--release", "--package", "ocipfs", "--bin", "ocipfs"])
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()?;
    // Cargo names the file, wherever its target directory is.
    let messages = String::from_utf8(output.stdout)?;
    let built = messages.lines().rev().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(message["executable"].as_str()?.into())
    });
    built.filter(|_| output.status.success()).ok_or_else(|| "ocipfs does not build".into())
}
