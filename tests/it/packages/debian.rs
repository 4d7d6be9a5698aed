//! The Debian package, and the systemd units: installed into a root of the test, and started by the commands of the units, since no
//! systemd runs here.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

use libtest_mimic::Trial;

use super::{dist, script, tools};
use crate::{
    clients::{self, root_for},
    harness::{last_line, trials},
    invitations::first,
};

pub fn trials() -> Vec<Trial> {
    trials![
        needs available();
        the_debian_package_installs_a_program_units_pages_and_a_user,
        the_units_of_the_debian_package_join_by_an_invitation_and_run_the_node,
        a_removed_debian_package_leaves_the_node_directory,
    ]
}

fn available() -> Result<(), String> {
    root_for("dpkg")?;
    tools()?;
    clients::installed(&[("dpkg", "dpkg"), ("dpkg-deb", "dpkg"), ("useradd", "passwd")])
}

/// The package, made once.
fn package() -> &'static str {
    static MADE: OnceLock<String> = OnceLock::new();
    MADE.get_or_init(|| {
        // What is only tested need not be small.
        let mut make = script("packaging/deb");
        last_line(make.env("DEB_COMPRESSION", "none").arg(dist()).arg(env!("CARGO_TARGET_TMPDIR")))
    })
}

/// A system that packages are installed into.
struct System {
    dir: tempfile::TempDir,
}

impl System {
    /// Installs the package into a new one.
    fn with_package() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // The user of the package goes through it.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let system = Self { dir };
        for folder in ["etc", "var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers"] {
            fs::create_dir_all(system.path(folder)).unwrap();
        }
        let root = "root:x:0:0:root:/root:/bin/sh\n";
        let files =
            [("passwd", root), ("group", "root:x:0:\n"), ("shadow", "root:*:1::::::\n"), ("gshadow", "")];
        for (name, text) in files {
            fs::write(system.path("etc").join(name), text).unwrap();
        }
        for name in ["status", "available"] {
            fs::write(system.path("var/lib/dpkg").join(name), "").unwrap();
        }
        system.dpkg(&["--install", package()]);
        system
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path.trim_start_matches('/'))
    }

    /// Runs dpkg, whose scripts run outside of the system and are told where it is. Its C library is that of this machine.
    #[track_caller]
    fn dpkg(&self, arguments: &[&str]) -> String {
        let mut dpkg = Command::new("dpkg");
        dpkg.env("PATH", clients::search_path()).env("DEBIAN_FRONTEND", "noninteractive");
        dpkg.arg(format!("--root={}", self.dir.path().display()));
        dpkg.args(["--force-script-chrootless", "--force-depends", "--no-triggers"]).args(arguments);
        let done = dpkg.output().unwrap();
        let said =
            [done.stdout, done.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        assert!(done.status.success(), "{arguments:?}: {said}");
        said
    }

    /// The numbers of the package's user and group.
    fn owner(&self) -> (u32, u32) {
        let users = fs::read_to_string(self.path("etc/passwd")).unwrap();
        let line = users.lines().find(|line| line.starts_with("ocipfs:")).expect("a user");
        let numbers: Vec<u32> = line.split(':').filter_map(|field| field.parse().ok()).collect();
        (numbers[0], numbers[1])
    }

    /// The value of a setting of a unit.
    fn unit(&self, name: &str, key: &str) -> String {
        let path = self.path("usr/lib/systemd/system").join(format!("{name}.service"));
        let text = fs::read_to_string(&path).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("{} has no {key}: {text}", path.display())).to_owned()
    }

    /// The command of a unit, as its user.
    fn command_of(&self, unit: &str) -> Command {
        assert_eq!((self.unit(unit, "User"), self.unit(unit, "Group")), ("ocipfs".into(), "ocipfs".into()));
        let line = self.unit(unit, "ExecStart");
        let mut words = line.split_whitespace();
        let mut command = Command::new(self.path(words.next().expect("a program")));
        for word in words {
            match word.starts_with('/') {
                true => command.arg(self.path(word)),
                false => command.arg(word),
            };
        }
        let (user, group) = self.owner();
        command.env_clear().uid(user).gid(group).current_dir("/");
        command
    }
}

/// Ends with its handle.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn the_debian_package_installs_a_program_units_pages_and_a_user() {
    let system = System::with_package();
    for path in [
        "usr/bin/ocipfs",
        "usr/lib/systemd/system/ocipfs.service",
        "usr/lib/systemd/system/ocipfs-join.service",
        "usr/share/man/man1/ocipfs.1.gz",
        "usr/share/man/man1/ocipfs-serve.1.gz",
        "usr/share/bash-completion/completions/ocipfs",
        "usr/share/zsh/vendor-completions/_ocipfs",
        "usr/share/fish/vendor_completions.d/ocipfs.fish",
        "usr/share/doc/ocipfs/copyright",
    ] {
        let file = fs::metadata(system.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(file.len() > 0 && file.uid() == 0, "{path}");
    }
    assert!(system.dpkg(&["--status", "ocipfs"]).contains("Status: install ok installed"));
    assert_eq!(system.dpkg(&["--verify", "ocipfs"]), "");
    let node = fs::metadata(system.path("var/lib/ocipfs")).unwrap();
    assert_eq!((node.uid(), node.gid(), node.mode() & 0o777), (system.owner().0, system.owner().1, 0o700));
    let version = Command::new(system.path("usr/bin/ocipfs")).arg("--version").output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&version.stdout).trim(),
        concat!("ocipfs ", env!("CARGO_PKG_VERSION"))
    );
}

async fn the_units_of_the_debian_package_join_by_an_invitation_and_run_the_node() {
    let first = first();
    let system = System::with_package();
    let standard_input = system.unit("ocipfs-join", "StandardInput");
    let invitation = system.path(standard_input.strip_prefix("file:").expect("a file"));
    fs::create_dir_all(invitation.parent().unwrap()).unwrap();
    fs::write(&invitation, first.ask(&["-q", "swarm", "invite"])).unwrap();
    // systemd opens it, as root.
    fs::set_permissions(&invitation, fs::Permissions::from_mode(0o600)).unwrap();
    let joined =
        system.command_of("ocipfs-join").stdin(fs::File::open(&invitation).unwrap()).output().unwrap();
    assert!(joined.status.success(), "{}", String::from_utf8_lossy(&joined.stderr));

    let mut serve = system.command_of("ocipfs");
    serve.args(["--listen", "127.0.0.1:0", "--swarm-listen", "/ip4/127.0.0.1/tcp/0"]);
    let mut serve = Running(serve.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap());
    let mut ready = String::new();
    BufReader::new(serve.0.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    assert!(ready.starts_with("ready: "), "{ready}");
    first.until("the node of the package is a member", |status| status["peers"] == 1).await;
    let pid = serve.0.id().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success());
    assert_eq!(serve.0.wait().unwrap().code(), Some(0));
}

async fn a_removed_debian_package_leaves_the_node_directory() {
    let system = System::with_package();
    let key = system.path("var/lib/ocipfs/identity.key");
    fs::File::create(&key).unwrap().write_all(b"the only copy").unwrap();
    // An upgrade changes nothing of it.
    let owner = system.owner();
    system.dpkg(&["--install", package()]);
    assert_eq!(system.owner(), owner);
    system.dpkg(&["--remove", "ocipfs"]);
    assert!(!system.path("usr/bin/ocipfs").exists());
    let said = system.dpkg(&["--purge", "ocipfs"]);
    assert!(said.contains("/var/lib/ocipfs was kept"), "{said}");
    assert_eq!(fs::read(&key).unwrap(), b"the only copy");
    assert!(exists_below(&system.path("usr/share/man")).is_empty());
}

/// The files below a directory, if there is one.
fn exists_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path()) {
        if path.is_dir() { found.extend(exists_below(&path)) } else { found.push(path) }
    }
    found
}
