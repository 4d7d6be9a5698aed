//! buildah, which has no daemon.

use std::path::Path;

use super::{Room, installed, root_for};

/// A buildah with storage of its own.
pub struct Buildah {
    room: Room,
}

impl Buildah {
    /// Says what is missing to run it.
    pub fn available() -> Result<(), String> {
        root_for("buildah")?;
        installed(&[("buildah", "buildah")])
    }

    /// Makes room for one that has no images.
    pub fn new() -> Result<Self, String> {
        Ok(Self { room: Room::new("buildah")? })
    }

    /// Starts a working container on an image, pulled if need be, and returns the container's name.
    pub fn from(&self, reference: &str) -> Result<String, String> {
        let name = self.room.run(&["buildah", "from", "--tls-verify=false", reference])?;
        Ok(name.trim().to_owned())
    }

    /// Lists the paths in a working container.
    pub fn files(&self, container: &str) -> Result<Vec<String>, String> {
        let dir = self.room.run(&["buildah", "mount", container])?;
        self.room.tree(dir.trim())
    }

    /// Runs `command` in a working container, and returns what it printed.
    pub fn run(&self, container: &str, command: &[&str]) -> Result<String, String> {
        let line = [&["buildah", "run", "--isolation=chroot", container, "--"], command].concat();
        let said = self.room.run(&line)?;
        // Under load it now and then succeeds before it has copied what the command said: once more then.
        if said.is_empty() { self.room.run(&line) } else { Ok(said) }
    }

    /// Builds `dir/Dockerfile` into `tag`.
    pub fn build(&self, dir: &Path, tag: &str) -> Result<String, String> {
        let dir = dir.display().to_string();
        self.room.run(&["buildah", "bud", "--tls-verify=false", "--isolation=chroot", "--tag", tag, &dir])
    }

    /// Writes an image to `destination`: `oci-archive:FILE:TAG`, `docker-archive:FILE:NAME:TAG`.
    pub fn save(&self, image: &str, destination: &str) -> Result<String, String> {
        self.room.run(&["buildah", "push", image, destination])
    }

    /// Pushes an image.
    pub fn push(&self, reference: &str) -> Result<String, String> {
        self.room.run(&["buildah", "push", "--tls-verify=false", reference])
    }

    /// Makes a list of images, one for each architecture, and pushes it with all of them.
    pub fn push_list(&self, list: &str, images: &[(&str, &str)], to: &str) -> Result<String, String> {
        self.room.run(&["buildah", "manifest", "create", list])?;
        for (image, architecture) in images {
            self.room.run(&["buildah", "manifest", "add", "--arch", architecture, list, image])?;
        }
        let to = format!("docker://{to}");
        self.room.run(&["buildah", "manifest", "push", "--all", "--tls-verify=false", list, &to])
    }
}
