//! BuildKit, with a daemon of its own.

use std::path::Path;

use super::{BUILDCTL, BUILDKITD, Daemon, Room, installed, root_for};

/// A `buildkitd` of this test's own, and the `buildctl` that speaks to it.
///
/// It speaks plain HTTP to `127.0.0.1` without a setting.
pub struct BuildKit {
    // Before the room: the daemon ends first.
    _daemon: Daemon,
    room: Room,
}

impl BuildKit {
    /// Says what is missing to start it.
    pub fn available() -> Result<(), String> {
        root_for("buildkitd")?;
        installed(&[("runc", "runc")])?;
        BUILDKITD.available()?;
        BUILDCTL.available()
    }

    /// Starts a daemon that has no cache.
    pub fn start() -> Result<Self, String> {
        Self::available()?;
        let mut room = Room::new("buildkit")?;
        let host = format!("unix://{}", room.path("buildkitd.sock"));
        let settings = room.write("buildkitd.toml", "")?;
        let program = BUILDKITD.program().display().to_string();
        let daemon = Daemon::start(
            &room,
            &[
                &program,
                "--config",
                &settings,
                "--addr",
                &host,
                "--root",
                &room.path("buildkit"),
                "--containerd-worker=false",
                // As docker's and podman's vfs: it works on every file system.
                "--oci-worker-snapshotter=native",
                // Build steps have the network of the daemon, so no bridge is made.
                "--oci-worker-net=host",
            ],
        )?;
        room.set("BUILDKIT_HOST", host);
        Ok(Self { _daemon: daemon, room })
    }

    /// Builds `dir/Dockerfile` with further flags, and returns the log of its steps.
    pub fn build(&self, dir: &Path, flags: &[&str]) -> Result<String, String> {
        let (program, dir) = (BUILDCTL.program().display().to_string(), dir.display());
        let [context, dockerfile] = ["context", "dockerfile"].map(|name| format!("{name}={dir}"));
        let build = [&program, "build", "--progress=plain", "--frontend=dockerfile.v0"];
        let local = ["--local", &context, "--local", &dockerfile];
        // The log is what it says on stderr.
        let line = [&["sh", "-c", "exec \"$@\" 2>&1", "sh"], &build[..], &local, flags].concat();
        self.room.run(&line)
    }
}
