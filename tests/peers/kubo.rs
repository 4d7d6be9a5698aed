//! [Kubo](https://github.com/ipfs/kubo): its command line as a client, and a repository of its own without a network.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::clients::KUBO;

/// A repository, and a working directory.
pub struct Kubo {
    dir: TempDir,
    api: Option<String>,
    /// The network namespace that it runs in.
    namespace: Option<String>,
    /// Whether it refuses to start without a swarm key.
    is_private: bool,
}

impl Kubo {
    /// A client of the RPC at `api`, a multiaddr.
    pub fn client(api: &str) -> Self {
        KUBO.available().unwrap();
        let kubo = Self {
            dir: tempfile::tempdir().unwrap(),
            api: Some(api.into()),
            namespace: None,
            is_private: false,
        };
        // A client needs a directory, and no repository in it.
        fs::create_dir(kubo.dir.path().join("repo")).unwrap();
        kubo
    }

    /// A repository of its own, which commands use without a daemon.
    pub fn offline() -> Self {
        Self::init(None)
    }

    /// A repository of its own, whose daemon and commands run in a network namespace.
    pub fn in_namespace(namespace: &str) -> Self {
        Self::init(Some(namespace.into()))
    }

    /// A repository of its own in the private swarm of a key, without which its daemon would not start.
    pub fn private(key: &Path) -> Self {
        let mut kubo = Self::init(None);
        fs::copy(key, kubo.dir().join("repo/swarm.key")).unwrap();
        kubo.is_private = true;
        kubo
    }

    fn init(namespace: Option<String>) -> Self {
        KUBO.available().unwrap();
        let kubo = Self { dir: tempfile::tempdir().unwrap(), api: None, namespace, is_private: false };
        kubo.run(&["init", "--profile", "test"]);
        kubo
    }

    /// Starts the daemon of the repository, on loopback and without peers, with these settings besides (a key, and a value
    /// in JSON). Commands go to it while it runs.
    pub fn daemon(&self, settings: &[(&str, &str)]) -> Daemon {
        let quiet = [
            ("Bootstrap", "[]"),
            ("AutoConf.Enabled", "false"),
            ("AutoTLS.Enabled", "false"),
            ("Swarm.RelayClient.Enabled", "false"),
            ("Swarm.DisableNatPortMap", "true"),
            ("DNS.Resolvers", "{}"),
            ("Discovery.MDNS.Enabled", "false"),
            ("Ipns.DelegatedPublishers", "[]"),
            ("Addresses.API", "\"/ip4/127.0.0.1/tcp/0\""),
            ("Addresses.Gateway", "[]"),
            ("Addresses.Swarm", "[]"),
        ];
        self.set(quiet.iter().chain(settings));
        let log = fs::File::create(self.dir().join("daemon.log")).unwrap();
        let mut command = self.command();
        command.arg("daemon").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let daemon = Daemon(command.spawn().unwrap());
        let (begin, api) = (Instant::now(), self.dir().join("repo/api"));
        while !api.exists() {
            let log = || fs::read_to_string(self.dir().join("daemon.log")).unwrap_or_default();
            assert!(begin.elapsed() < Duration::from_secs(60), "Kubo's daemon does not start: {}", log());
            thread::sleep(Duration::from_millis(50));
        }
        daemon
    }

    /// Writes settings into the repository's file: one process of Kubo for each would take seconds.
    fn set<'a>(&self, settings: impl Iterator<Item = &'a (&'a str, &'a str)>) {
        let path = self.dir().join("repo/config");
        let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        for (key, value) in settings {
            let place = key.split('.').fold(&mut config, |place, part| {
                if !place.is_object() {
                    *place = serde_json::json!({});
                }
                &mut place[part]
            });
            *place = serde_json::from_str(value).unwrap_or_else(|error| panic!("{key} {value}: {error}"));
        }
        fs::write(path, serde_json::to_vec_pretty(&config).unwrap()).unwrap();
    }

    /// Where relative paths of its arguments begin.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Runs a command that must succeed, and returns what it printed.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> String {
        match self.try_run(args) {
            Ok(stdout) => stdout,
            Err(error) => panic!("{error}"),
        }
    }

    /// Runs a command.
    pub fn try_run(&self, args: &[&str]) -> Result<String, String> {
        String::from_utf8(self.bytes(args)?).map_err(|error| error.to_string())
    }

    /// Runs a command that prints bytes.
    pub fn bytes(&self, args: &[&str]) -> Result<Vec<u8>, String> {
        let mut command = self.command();
        if let Some(api) = &self.api {
            command.args(["--api", api]);
        }
        let done = command.args(args).stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
        match done.status.success() {
            true => Ok(done.stdout),
            false => Err(format!("ipfs {}: {}", args.join(" "), String::from_utf8_lossy(&done.stderr))),
        }
    }

    fn command(&self) -> Command {
        let mut command = match &self.namespace {
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.env("PATH", crate::clients::search_path());
                command.args(["netns", "exec", namespace]).arg(KUBO.program());
                command
            }
            None => Command::new(KUBO.program()),
        };
        command
            .current_dir(self.dir())
            .env("IPFS_PATH", self.dir().join("repo"))
            .env("IPFS_TELEMETRY", "off");
        if self.is_private {
            command.env("LIBP2P_FORCE_PNET", "1");
        }
        command
    }
}

/// A running daemon.
pub struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
