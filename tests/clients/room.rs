//! Where a client lives: its files, its settings, its namespaces.

use std::{
    fs, io,
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

use super::{is_root, search_path};

/// Seconds a client may take; two cores may be busy with a build.
const DEADLINE: &str = "120";

/// Where clients keep things whatever their settings say: sockets, dockerd's key, where blobs were seen.
const FIXED: [&str; 3] = ["/run", "/etc/docker", "/var/lib/containers"];

/// Puts the room's own directories in place of [`FIXED`], and gives runc cgroups where none are mounted.
/// All of it is in a mount namespace, so no mount outlives the client.
const FURNISH: &str = r#"
set -e
for dir in $FIXED; do mkdir -p "$dir"; mount --bind "$ROOM$dir" "$dir"; done
grep -Eq ' cgroup2? ' /proc/self/mounts || mount -t cgroup2 cgroup2 /sys/fs/cgroup
set +e
"#;

/// podman, buildah and skopeo read this instead of the machine's. podman would raise limits, which a sandbox
/// without `CAP_SYS_RESOURCE` refuses, and would take its locks from a segment that all of the machine shares.
const CONTAINERS: &str = r#"
[containers]
netns = "none"
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
"#;

/// A directory that holds everything a client reads and writes, removed with it.
pub struct Room {
    dir: TempDir,
    env: Vec<(&'static str, String)>,
    /// The network namespace of every command, if not that of the tests.
    network: Option<String>,
}

impl Room {
    /// Furnishes a room for `client`.
    pub fn new(client: &str) -> Result<Self, String> {
        let dir =
            tempfile::Builder::new().prefix(&format!("{client}-")).tempdir().map_err(|e| e.to_string())?;
        let mut room = Self { dir, env: Vec::new(), network: None };
        let fixed = FIXED.map(|dir| dir.trim_start_matches('/'));
        for name in fixed.iter().chain(&["tmp", ".config/containers"]) {
            fs::create_dir_all(room.path(name)).map_err(|error| error.to_string())?;
        }
        let root = room.path("");
        let storage = format!(
            "[storage]\ndriver = \"vfs\"\ngraphroot = \"{root}storage\"\nrunroot = \"{root}run/storage\"\n"
        );
        room.write(".config/containers/policy.json", r#"{"default": [{"type": "insecureAcceptAnything"}]}"#)?;
        for (variable, file, text) in [
            ("CONTAINERS_CONF", "containers.conf", CONTAINERS),
            ("CONTAINERS_STORAGE_CONF", "storage.conf", &storage),
            ("CONTAINERS_REGISTRIES_CONF", "registries.conf", ""),
        ] {
            let file = room.write(file, text)?;
            room.set(variable, file);
        }
        for (variable, value) in [("ROOM", ""), ("HOME", ""), ("XDG_RUNTIME_DIR", "run"), ("TMPDIR", "tmp")] {
            let value = room.path(value);
            room.set(variable, value);
        }
        room.set("FIXED", FIXED.join(" "));
        room.set("PATH", search_path());
        Ok(room)
    }

    /// Where `name` is in this room, as an argument for a client.
    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// Sets a variable for every command of this room.
    pub fn set(&mut self, variable: &'static str, value: String) {
        self.env.push((variable, value));
    }

    /// Moves every later command to a named network namespace.
    pub fn move_to_network(&mut self, name: &str) {
        self.network = Some(format!("--net=/run/netns/{name}"));
    }

    /// Writes a settings file and returns its path.
    pub fn write(&self, name: &str, text: &str) -> Result<String, String> {
        let path = self.path(name);
        fs::write(&path, text).map_err(|error| format!("{path}: {error}"))?;
        Ok(path)
    }

    /// Runs `command` (a program and its arguments) to its end, and returns what it printed.
    pub fn run(&self, command: &[&str]) -> Result<String, String> {
        // The shell stays as the namespace's first process: it reaps, and with it everything ends.
        let script = format!("{FURNISH}\"$@\"\nexit $?");
        let mut all = Command::new("timeout");
        all.args(["--kill-after=5", DEADLINE]).args(self.enter(&script)).args(command);
        let output = self.furnish(&mut all).stdin(Stdio::null()).output();
        outcome(command, output)
    }

    /// Runs `command` to its end in the namespaces of the process `pid`, and returns what it printed.
    pub fn run_beside(&self, pid: u32, command: &[&str]) -> Result<String, String> {
        let limited = [&["timeout", "--kill-after=5", DEADLINE], command].concat();
        outcome(command, self.beside(pid, &limited).stdin(Stdio::null()).output())
    }

    /// A command, not yet started, in the namespaces of the process `pid`.
    pub fn beside(&self, pid: u32, command: &[&str]) -> Command {
        let mut all = Command::new("nsenter");
        all.args(["--target", &pid.to_string(), "--mount", "--pid", "--"]).args(command);
        self.furnish(&mut all);
        all
    }

    /// A command, not yet started, whose first process runs `script` in the room with `command` as `$@`.
    pub fn script(&self, script: &str, command: &[&str]) -> Command {
        let script = format!("{FURNISH}{script}");
        let entered = self.enter(&script);
        let mut all = Command::new(entered[0]);
        all.args(&entered[1..]).args(command);
        self.furnish(&mut all);
        all
    }

    /// Every path below `dir`, sorted, as an image's listing.
    pub fn tree(&self, dir: &str) -> Result<Vec<String>, String> {
        let found = self.run(&["find", dir, "-mindepth", "1", "-printf", r"%P\n"])?;
        Ok(sorted(&found))
    }

    /// Namespaces need root; skopeo, which alone is run without, needs none.
    fn enter<'a>(&'a self, script: &'a str) -> Vec<&'a str> {
        if !is_root() {
            return vec!["env"];
        }
        let network = self.network.iter().flat_map(|network| ["nsenter", network]);
        let own = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c"];
        network.chain(own).chain([script, "sh"]).collect()
    }

    /// Nothing of the user's environment reaches a client: no proxy, context, login or log level.
    fn furnish<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env_clear().envs(self.env.iter().map(|(name, value)| (name, value)))
    }
}

/// What a command printed, or its end and what it said on stderr.
fn outcome(command: &[&str], output: io::Result<Output>) -> Result<String, String> {
    let Output { status, stdout, stderr } =
        output.map_err(|error| format!("{}: {error}", command.join(" ")))?;
    if status.success() {
        return Ok(String::from_utf8_lossy(&stdout).into_owned());
    }
    let ended = match status.code() {
        Some(124 | 137) => format!("was not done after {DEADLINE} s"),
        _ => format!("ended with {status}"),
    };
    Err(format!("`{}` {ended}:\n{}", command.join(" "), String::from_utf8_lossy(&stderr)))
}

/// The lines of a listing of paths, in the one form that `ls`, `tar` and `find` can agree on.
pub fn sorted(listing: &str) -> Vec<String> {
    let trim = |line: &str| line.trim_start_matches("./").trim_end_matches('/').to_owned();
    let mut paths: Vec<_> = listing.lines().map(trim).filter(|path| !path.is_empty()).collect();
    paths.sort();
    paths.dedup();
    paths
}
