//! Debian's `docker-registry`, with its file system driver.

use std::{fs, path::Path, process::Command};

use ocipfs_oci::Digest;

use super::{Process, free_port};
use crate::{Failure, client::Url, scenarios::Room};

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

    /// Pushes the blob in one piece and says where it is.
    pub fn push(&self, tar: &Path, digest: &Digest) -> Result<Url, Failure> {
        let at = |path: String| Url { host: self.host.clone(), path };
        let opened = at("/v2/compare/blobs/uploads/".into()).send("POST", None)?;
        let location = opened.location.ok_or_else(|| format!("no upload: {}", opened.status))?;
        let path = location.trim_start_matches(&format!("http://{}", self.host));
        let sent = at(format!("{path}&digest={digest}")).send("PUT", Some(tar))?;
        match sent.status {
            201 => Ok(at(format!("/v2/compare/blobs/{digest}"))),
            status => Err(format!("docker-registry answered {status} to the upload").into()),
        }
    }
}

fn config_of(host: &str, storage: &Path) -> String {
    format!(
        "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
         storage: {{cache: {{blobdescriptor: inmemory}}, filesystem: {{rootdirectory: {storage:?}}}}}\n\
         http: {{addr: {host:?}}}\n"
    )
}
