//! Debian's `docker-registry`, with its file system driver.

use std::{fs, path::Path, process::Command};

use super::{Process, free_port};
use crate::{Failure, push::Repository, scenarios::Room};

pub struct DockerRegistry {
    process: Process,
    host: String,
}

impl DockerRegistry {
    pub fn start(room: &Room) -> Result<Self, Failure> {
        let dir = room.new_dir("docker-registry")?;
        let host = free_port()?.to_string();
        let config = dir.join("config.yml");
        fs::write(&config, config_of(&host, &dir.join("storage")))?;
        let mut command = Command::new(&room.programs.docker_registry);
        let process = room.children.start(command.arg("serve").arg(&config), &dir)?;
        process.until_listening(&host)?;
        Ok(Self { process, host })
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// A repository of it.
    pub fn repository(&self, name: &str) -> Repository {
        Repository::new(&self.host, name)
    }
}

fn config_of(host: &str, storage: &Path) -> String {
    format!(
        "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
         storage: {{cache: {{blobdescriptor: inmemory}}, filesystem: {{rootdirectory: {storage:?}}}}}\n\
         http: {{addr: {host:?}}}\n"
    )
}
