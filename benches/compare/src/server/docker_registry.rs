//! Debian's `docker-registry`, with its file system driver.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{Process, free_port};
use crate::{Failure, push::Repository, scenarios::Room, secure::Secure};

pub struct DockerRegistry {
    process: Process,
    host: String,
    storage: PathBuf,
}

impl DockerRegistry {
    pub fn start(room: &Room) -> Result<Self, Failure> {
        let dir = room.new_dir("docker-registry")?;
        let storage = dir.join("storage");
        Self::start_in(room, &dir, storage, None)
    }

    /// Starts one with TLS that serves what another one stores.
    pub fn secured(room: &Room, other: &Self, secure: &Secure) -> Result<Self, Failure> {
        let dir = room.new_dir("docker-registry")?;
        Self::start_in(room, &dir, other.storage.clone(), Some(secure))
    }

    fn start_in(room: &Room, dir: &Path, storage: PathBuf, secure: Option<&Secure>) -> Result<Self, Failure> {
        let host = free_port()?.to_string();
        let config = dir.join("config.yml");
        fs::write(&config, config_of(&host, &storage, secure))?;
        let mut command = Command::new(&room.programs.docker_registry);
        let process = room.children.start(command.arg("serve").arg(&config), dir)?;
        process.until_listening(&host)?;
        Ok(Self { process, host, storage })
    }

    /// Its address and port.
    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// A repository of it.
    pub fn repository(&self, name: &str) -> Repository {
        Repository::new(&self.host, name)
    }
}

fn config_of(host: &str, storage: &Path, secure: Option<&Secure>) -> String {
    let tls = secure.map(|Secure { certificate, key, .. }| {
        format!(", tls: {{certificate: {certificate:?}, key: {key:?}}}")
    });
    let tls = tls.unwrap_or_default();
    format!(
        "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
         storage: {{cache: {{blobdescriptor: inmemory}}, filesystem: {{rootdirectory: {storage:?}}}}}\n\
         http: {{addr: {host:?}{tls}}}\n"
    )
}
