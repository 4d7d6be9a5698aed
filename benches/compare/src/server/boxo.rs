//! The boxo peer of `tests/peers/boxo`: what Kubo is made of, in Go.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use super::{Process, finish, multiaddr, socket_address};
use crate::{
    Failure,
    memory::Memory,
    proxy::{Link, Proxy},
    scenarios::Room,
};

/// A peer that serves one file from a flatfs store.
pub struct Boxo {
    _process: Process,
    _proxy: Option<Proxy>,
    cid: String,
    /// Where others reach it.
    address: String,
}

/// How long a fetch took, from the dial on, and the most memory it needed.
pub struct Fetched {
    pub seconds: f64,
    pub memory_mb: f64,
}

impl Boxo {
    /// Adds `file` and serves it, behind a link if one is given.
    pub fn serve(room: &Room, file: &Path, link: Option<Link>) -> Result<Self, Failure> {
        let dir = room.new_dir("boxo")?;
        let mut proxy = link.as_ref().map(|_| Proxy::bind()).transpose()?;
        let mut command = Command::new(room.programs.boxo()?);
        command.arg("serve").arg("--store").arg(dir.join("store"));
        if let Some(proxy) = &proxy {
            command.arg("--announce").arg(multiaddr(proxy.address()));
        }
        let mut process = room.children.start(command.arg(file), &dir)?;
        let cid = text(&process.line()?["cid"])?;
        let ready = process.line()?;
        let listen = text(&ready["listen"][0])?;
        let mut address = format!("{listen}/p2p/{}", text(&ready["peer"])?);
        if let (Some(proxy), Some(link)) = (&mut proxy, link) {
            proxy.lead(socket_address(&listen)?, link);
            address = format!("{}/p2p/{}", multiaddr(proxy.address()), text(&ready["peer"])?);
        }
        Ok(Self { _process: process, _proxy: proxy, cid, address })
    }

    /// Fetches the file into a new flatfs store: `read` as `ipfs cat` does, `graph` as `ipfs pin` does.
    pub fn fetch(&self, room: &Room, how: &str) -> Result<Fetched, Failure> {
        let dir = room.new_dir("boxo")?;
        let mut command = Command::new(room.programs.boxo()?);
        command.arg("fetch").arg("--store").arg(dir.join("store")).args(["--how", how]);
        command.args(["--timeout", "240", &self.cid, &self.address, "-"]);
        let process = room.children.start(&mut command, &dir)?;
        let memory = Memory::watch(process.pid());
        let said = finish(process)?;
        std::fs::remove_dir_all(dir)?;
        let fetched: Value = serde_json::from_str(said.lines().last().unwrap_or_default())?;
        let ms = fetched["ms"].as_f64().ok_or_else(|| format!("boxo said {said}"))?;
        Ok(Fetched { seconds: ms / 1e3, memory_mb: memory.most() })
    }
}

/// Builds the peer.
pub fn build(dir: &Path) -> Result<PathBuf, Failure> {
    let program = dir.join("boxo-peer");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/peers/boxo");
    let go = if Path::new("/usr/local/go/bin/go").exists() { "/usr/local/go/bin/go" } else { "go" };
    let output =
        Command::new(go).args(["build", "-o"]).arg(&program).arg("./peer").current_dir(source).output()?;
    match output.status.success() {
        true => Ok(program),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().into()),
    }
}

fn text(value: &Value) -> Result<String, Failure> {
    Ok(value.as_str().ok_or_else(|| format!("boxo said {value} where a text was meant"))?.into())
}
