//! docker, with a daemon of its own.

use std::{fs, path::Path};

use serde_json::Value;

use super::{Daemon, Room, installed, room::sorted, root_for};

/// A `dockerd` of this test's own, and the client that speaks to it.
///
/// It needs no setting for `127.0.0.0/8`, which docker takes for an insecure registry by itself.
pub struct Docker {
    // Before the room: the daemon ends first.
    _daemon: Daemon,
    room: Room,
}

impl Docker {
    /// Says what is missing to start it.
    pub fn available() -> Result<(), String> {
        root_for("docker")?;
        let docker = "docker.io";
        installed(&[("dockerd", docker), ("docker", docker), ("containerd", "containerd"), ("runc", "runc")])
    }

    /// Starts a daemon that has no network and no images.
    pub fn start() -> Result<Self, String> {
        Self::start_in_room(Room::new("docker")?)
    }

    /// Starts one in a named network namespace.
    pub fn start_in_network(name: &str) -> Result<Self, String> {
        let mut room = Room::new("docker")?;
        room.move_to_network(name);
        Self::start_in_room(room)
    }

    fn start_in_room(mut room: Room) -> Result<Self, String> {
        let host = format!("unix://{}", room.path("docker.sock"));
        let settings = room.write("daemon.json", "{}")?;
        let daemon = Daemon::start(
            &room,
            &[
                "dockerd",
                &format!("--config-file={settings}"),
                &format!("--host={host}"),
                &format!("--pidfile={}", room.path("docker.pid")),
                &format!("--data-root={}", room.path("data")),
                &format!("--exec-root={}", room.path("exec")),
                // vfs works on every file system, and mounts nothing.
                "--storage-driver=vfs",
                // The machine's firewall, bridges and sysctls are not ours.
                "--bridge=none",
                "--iptables=false",
                "--ip-forward=false",
            ],
        )?;
        room.set("DOCKER_HOST", host);
        Ok(Self { _daemon: daemon, room })
    }

    /// Pulls an image.
    pub fn pull(&self, reference: &str) -> Result<String, String> {
        self.room.run(&["docker", "pull", reference])
    }

    /// Pushes an image.
    pub fn push(&self, reference: &str) -> Result<String, String> {
        self.room.run(&["docker", "push", reference])
    }

    /// Gives an image another name.
    pub fn tag(&self, image: &str, reference: &str) -> Result<String, String> {
        self.room.run(&["docker", "tag", image, reference])
    }

    /// Logs in.
    pub fn login(&self, registry: &str, user: &str, password: &str) -> Result<String, String> {
        self.room.run(&["docker", "login", "--username", user, "--password", password, registry])
    }

    /// Forgets a login.
    pub fn logout(&self, registry: &str) -> Result<String, String> {
        self.room.run(&["docker", "logout", registry])
    }

    /// Lists the paths in the layers of an image that the daemon has.
    pub fn image_files(&self, reference: &str) -> Result<Vec<String>, String> {
        // `docker export` would add the `/dev`, `/etc` and `/proc` that docker gives a container.
        let dir = tempfile::tempdir_in(self.room.path("tmp")).map_err(|error| error.to_string())?;
        let [archive, manifest] = ["saved", "manifest.json"].map(|name| dir.path().join(name));
        self.save(reference, &archive)?;
        let [from, to] = [&archive, dir.path()].map(|path| path.display().to_string());
        self.room.run(&["tar", "-xf", &from, "-C", &to])?;
        let manifest = fs::read(&manifest).map_err(|error| format!("{}: {error}", manifest.display()))?;
        let manifest: Value = serde_json::from_slice(&manifest).map_err(|error| error.to_string())?;
        let mut files = String::new();
        for layer in manifest[0]["Layers"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            files += &self.room.run(&["tar", "-tf", &dir.path().join(layer).display().to_string()])?;
        }
        Ok(sorted(&files))
    }

    /// Builds `dir/Dockerfile` into `tag`, by the classic builder or by the BuildKit within `dockerd`.
    pub fn build(&self, dir: &Path, tag: &str, buildkit: bool) -> Result<String, String> {
        let builder = if buildkit { "DOCKER_BUILDKIT=1" } else { "DOCKER_BUILDKIT=0" };
        self.room.run(&["env", builder, "docker", "build", "--tag", tag, &dir.display().to_string()])
    }

    /// Runs `command` (nothing: what the image says itself) in the image, and returns what it printed.
    pub fn run(&self, image: &str, command: &[&str]) -> Result<String, String> {
        self.room.run(&[&["docker", "run", "--rm", "--network=none", image], command].concat())
    }

    /// Writes an image to a docker archive.
    pub fn save(&self, image: &str, archive: &Path) -> Result<String, String> {
        self.save_all(&[image], archive)
    }

    /// Writes images, by name or by ID, to one docker archive.
    pub fn save_all(&self, images: &[&str], archive: &Path) -> Result<String, String> {
        let archive = archive.display().to_string();
        self.room.run(&[&["docker", "save", "--output", &archive], images].concat())
    }

    /// Reads the images of a docker archive.
    pub fn load(&self, archive: &Path) -> Result<String, String> {
        self.room.run(&["docker", "load", "--input", &archive.display().to_string()])
    }

    /// Removes every image that no container has.
    pub fn forget_images(&self) -> Result<String, String> {
        self.room.run(&["docker", "image", "prune", "--all", "--force"])
    }

    /// Says what is missing to run [`compose`](Self::compose).
    pub fn compose_available() -> Result<(), String> {
        Self::available()?;
        installed(&[("docker-compose", "docker-compose")])
    }

    /// Pulls and runs the services of `dir/docker-compose.yml` until all of them have ended, and returns what they printed.
    pub fn compose(&self, dir: &Path) -> Result<String, String> {
        let file = dir.join("docker-compose.yml").display().to_string();
        self.room.run(&["docker-compose", "--no-ansi", "--file", &file, "up"])
    }

    /// Runs a script of the shell in which docker is this one, and returns what it printed.
    pub fn script(&self, script: &str, arguments: &[&str]) -> Result<String, String> {
        self.room.run(&[&["sh", "-c", script, "sh"], arguments].concat())
    }
}
