//! nerdctl with a containerd of its own, a stargz snapshotter, and BuildKit.

use std::{
    fs,
    path::Path,
    process::{Child, Stdio},
    sync::OnceLock,
};

use super::{
    Daemon, Room,
    go::{BUILDCTL, BUILDKITD, NERDCTL},
    installed, root_for, stargz,
};

/// Starts what containerd needs before it: the snapshotter, and where there is one, the builder.
const START: &str = r#"
"$STARGZ" --socket "$ROOM/stargz.sock" --root "$ROOM/stargz" --insecure "$INSECURE" >"$ROOM/stargz.log" 2>&1 &
while [ ! -S "$ROOM/stargz.sock" ]; do sleep 0.05; done
if [ -n "$BUILDKITD" ]; then
    # containerd alone says when all is ready.
    env -u NOTIFY_SOCKET "$BUILDKITD" --addr "$BUILDKIT_HOST" --root "$ROOM/buildkit" --oci-worker=true --containerd-worker=false \
        --oci-worker-net=host --oci-worker-snapshotter=native >"$ROOM/buildkit.log" 2>&1 &
    while [ ! -S "${BUILDKIT_HOST#unix://}" ]; do sleep 0.05; done
fi
exec containerd --config "$1"
"#;

/// nerdctl, and the daemons that it drives.
pub struct Nerdctl {
    // Before the room: the daemon ends first.
    daemon: Daemon,
    room: Room,
    program: String,
}

impl Nerdctl {
    /// Says what is missing to start it.
    pub fn available() -> Result<(), String> {
        root_for("nerdctl")?;
        installed(&[
            ("containerd", "containerd"),
            ("runc", "runc"),
            ("busybox", "busybox-static"),
            ("openssl", "openssl"),
            ("nsenter", "util-linux"),
        ])?;
        stargz::available()?;
        NERDCTL.available()
    }

    /// Says what is missing to build images.
    pub fn builds() -> Result<(), String> {
        static BUILDS: OnceLock<Result<(), String>> = OnceLock::new();
        let all = || {
            Self::available()?;
            BUILDKITD.available()?;
            BUILDCTL.available()
        };
        BUILDS.get_or_init(all).clone()
    }

    /// Starts one without images. It finds the IPFS daemon by the file `api` in `ipfs`, and `insecure` is a registry that
    /// speaks plain HTTP.
    pub fn start(ipfs: &Path, insecure: &str) -> Result<Self, String> {
        Self::start_with(ipfs, insecure, "")
    }

    /// Starts one that builds images, too.
    pub fn start_to_build(ipfs: &Path, insecure: &str) -> Result<Self, String> {
        Self::builds()?;
        Self::start_with(ipfs, insecure, &BUILDKITD.program().display().to_string())
    }

    fn start_with(ipfs: &Path, insecure: &str, buildkitd: &str) -> Result<Self, String> {
        Self::available()?;
        let mut room = Room::new("nerdctl")?;
        let [root, state, socket, stargz, data] =
            ["root", "state", "containerd.sock", "stargz.sock", "nerdctl"].map(|name| room.path(name));
        let settings = format!(
            "version = 2\nroot = {root:?}\nstate = {state:?}\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = {socket:?}\n\
             [proxy_plugins.stargz]\ntype = \"snapshot\"\naddress = {stargz:?}\n"
        );
        let settings = room.write("config.toml", &settings)?;
        let certs = room.path("certs.d");
        let nerdctl = format!(
            "address = \"unix://{socket}\"\nnamespace = \"default\"\ndata_root = {data:?}\nsnapshotter = \"overlayfs\"\n\
             cni_netconfpath = {:?}\ncgroup_manager = \"cgroupfs\"\nhosts_dir = [{certs:?}]\nexperimental = true\n",
            room.path("cni")
        );
        let nerdctl = room.write("nerdctl.toml", &nerdctl)?;
        let buildkit = format!("unix://{}", room.path("buildkit.sock"));
        for (name, value) in [
            ("NERDCTL_TOML", nerdctl),
            ("IPFS_PATH", ipfs.display().to_string()),
            ("CONTAINERD_ADDRESS", socket),
            ("STARGZ", stargz::PROGRAM.into()),
            ("INSECURE", insecure.into()),
            ("BUILDKITD", buildkitd.into()),
            ("BUILDKIT_HOST", buildkit),
        ] {
            room.set(name, value);
        }
        let buildctl = BUILDCTL.program();
        let path = [buildctl.parent().unwrap_or(Path::new("/")).display().to_string(), super::search_path()];
        room.set("PATH", path.join(":"));
        let daemon = Daemon::start(&room, &["sh", "-c", START, "sh", &settings])?;
        Ok(Self { daemon, room, program: NERDCTL.program().display().to_string() })
    }

    /// Runs a command of it, and returns what it printed.
    pub fn run(&self, args: &[&str]) -> Result<String, String> {
        self.room.run_beside(self.daemon.pid()?, &[&[self.program.as_str()], args].concat())
    }

    /// Runs another program beside the daemons.
    pub fn beside(&self, command: &[&str]) -> Result<String, String> {
        self.room.run_beside(self.daemon.pid()?, command)
    }

    /// Starts a command that goes on until it is dropped.
    pub fn background(&self, args: &[&str]) -> Result<Background, String> {
        let pid = self.daemon.pid()?;
        let mut command = self.room.beside(pid, &[&[self.program.as_str()], args].concat());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Ok(Background(child.map_err(|error| error.to_string())?))
    }

    /// The program itself.
    pub fn program(&self) -> &str {
        &self.program
    }

    /// Writes a file of its room and returns its path.
    pub fn write(&self, name: &str, text: &str) -> Result<String, String> {
        let path = self.room.path(name);
        let dir = Path::new(&path).parent().map(fs::create_dir_all);
        dir.transpose().map_err(|error| error.to_string())?;
        self.room.write(name, text)
    }

    /// Where `name` is in its room.
    pub fn path(&self, name: &str) -> String {
        self.room.path(name)
    }
}

/// A running command.
pub struct Background(Child);

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
