//! containerd, driven by `ctr`.

use std::{fs, path::Path};

use super::{Daemon, Room, installed, root_for};

/// A `containerd` of this test's own, and the `ctr` that speaks to it.
pub struct Containerd {
    // Before the room: the daemon ends first.
    _daemon: Daemon,
    room: Room,
}

impl Containerd {
    /// Says what is missing to start it.
    pub fn available() -> Result<(), String> {
        root_for("containerd")?;
        installed(&[("containerd", "containerd"), ("ctr", "containerd"), ("runc", "runc")])
    }

    /// Starts a daemon that has no images.
    pub fn start() -> Result<Self, String> {
        let mut room = Room::new("containerd")?;
        let [root, state, socket] = ["root", "state", "containerd.sock"].map(|name| room.path(name));
        let settings = format!(
            "version = 2\nroot = {root:?}\nstate = {state:?}\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = {socket:?}\n"
        );
        let settings = room.write("config.toml", &settings)?;
        let daemon = Daemon::start(&room, &["containerd", "--config", &settings])?;
        room.set("CONTAINERD_ADDRESS", socket);
        // As docker's and podman's vfs: it works on every file system.
        room.set("CONTAINERD_SNAPSHOTTER", "native".to_owned());
        Ok(Self { _daemon: daemon, room })
    }

    /// Pulls an image.
    pub fn pull(&self, reference: &str) -> Result<String, String> {
        self.room.run(&["ctr", "images", "pull", "--plain-http", &tagged(reference)])
    }

    /// Pulls an image for every platform that it has.
    pub fn pull_all_platforms(&self, reference: &str) -> Result<String, String> {
        self.room.run(&["ctr", "images", "pull", "--plain-http", "--all-platforms", reference])
    }

    /// Writes images that were pulled to one archive, with further flags.
    pub fn export(&self, flags: &[&str], archive: &Path, images: &[&str]) -> Result<String, String> {
        let archive = archive.display().to_string();
        self.room.run(&[&["ctr", "images", "export"], flags, &[&archive], images].concat())
    }

    /// Says what is missing to make eStargz of images.
    pub fn remote_available() -> Result<(), String> {
        Self::available()?;
        installed(&[("ctr-remote", "stargz-snapshotter")])
    }

    /// Writes the layers of an image as eStargz, and the image to an OCI archive with docker's `manifest.json`.
    pub fn export_estargz(&self, reference: &str, name: &str, archive: &Path) -> Result<String, String> {
        self.room.run(&[
            "ctr-remote",
            "images",
            "convert",
            "--estargz",
            "--oci",
            &tagged(reference),
            name,
        ])?;
        self.room.run(&["ctr", "images", "export", &archive.display().to_string(), name])
    }

    /// Pulls an image of `registry` (`HOST:PORT`), which a `hosts.toml` says to speak plain HTTP.
    pub fn pull_by_hosts_toml(&self, registry: &str, reference: &str) -> Result<String, String> {
        let dir = format!("certs.d/{registry}");
        fs::create_dir_all(self.room.path(&dir)).map_err(|error| error.to_string())?;
        let hosts = format!("[host.\"http://{registry}\"]\n  capabilities = [\"pull\", \"resolve\"]\n");
        self.room.write(&format!("{dir}/hosts.toml"), &hosts)?;
        self.room.run(&["ctr", "images", "pull", "--hosts-dir", &self.room.path("certs.d"), reference])
    }

    /// Pushes an image that was pulled, under another reference.
    pub fn push(&self, reference: &str, image: &str) -> Result<String, String> {
        self.room.run(&["ctr", "images", "push", "--plain-http", reference, image])
    }

    /// Lists the paths in an image that was pulled.
    pub fn image_files(&self, reference: &str) -> Result<Vec<String>, String> {
        let dir = tempfile::tempdir_in(self.room.path("tmp")).map_err(|error| error.to_string())?;
        let dir = dir.path().display().to_string();
        // One command, for the mount is seen by no other.
        let listed = r#"ctr images mount "$0" "$1" >&2 && find "$1" -mindepth 1 -printf '%P\n' && ctr images unmount --rm "$1" >&2"#;
        let found = self.room.run(&["sh", "-c", listed, reference, &dir])?;
        Ok(super::room::sorted(&found))
    }

    /// Runs `command` (nothing: what the image says itself) in the image, and returns what it printed.
    pub fn run(&self, image: &str, command: &[&str]) -> Result<String, String> {
        self.room.run(&[&["ctr", "run", "--rm", &tagged(image), "hello"], command].concat())
    }
}

/// ctr takes no tag for granted.
fn tagged(reference: &str) -> String {
    match reference.rsplit('/').next() {
        Some(last) if last.contains(':') => reference.into(),
        _ => format!("{reference}:latest"),
    }
}
