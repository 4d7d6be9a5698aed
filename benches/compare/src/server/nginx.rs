//! Debian's nginx with a file to serve: what HTTP can do at best, by `sendfile`.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use super::{Process, free_port};
use crate::{Failure, client::Url, scenarios::Room};

pub struct Nginx {
    process: Process,
    address: SocketAddr,
    dir: PathBuf,
}

impl Nginx {
    pub fn start(room: &Room) -> Result<Self, Failure> {
        let dir = room.new_dir("nginx")?;
        fs::create_dir(dir.join("files"))?;
        let address = free_port()?;
        let config = dir.join("nginx.conf");
        fs::write(&config, config_of(address, &dir))?;
        let mut command = Command::new(&room.programs.nginx);
        command.arg("-p").arg(&dir).arg("-c").arg(&config).arg("-e").arg(dir.join("log"));
        let process = room.children.start(&mut command, &dir)?;
        process.until_listening(&address.to_string())?;
        Ok(Self { process, address, dir })
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves a file under the name `blob`.
    pub fn add(&self, file: &Path) -> Result<Url, Failure> {
        fs::hard_link(file, self.dir.join("files/blob"))?;
        Ok(Url { host: self.address.to_string(), path: "/blob".into() })
    }
}

/// One process in the foreground, which writes nowhere else.
fn config_of(address: SocketAddr, dir: &Path) -> String {
    let dir = dir.display();
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let places: String = kinds.map(|kind| format!("{kind}_temp_path {dir}/temp;\n")).concat();
    format!(
        "daemon off;\nmaster_process off;\npid {dir}/pid;\nevents {{}}\n\
         http {{\n{places}access_log off;\nsendfile on;\ntcp_nopush on;\n\
         server {{ listen {address}; root {dir}/files; }}\n}}\n"
    )
}
