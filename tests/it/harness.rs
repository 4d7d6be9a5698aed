//! Nodes as processes, each with its own directory, on loopback with ports of the system's choice.

mod files;

use std::{
    collections::HashMap,
    fs,
    io::{BufRead, BufReader, Read},
    os::{
        fd::AsRawFd,
        unix::process::{CommandExt, ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use libtest_mimic::{Failed, Trial};
use serde_json::Value;
use tempfile::TempDir;

pub use files::{Layer, files_below, noise, stored, tar_of};

/// A story that takes longer has come to a stop.
const TOO_LONG: Duration = Duration::from_secs(180);

/// Makes a trial of an async function, named as the function is.
pub fn trial<F: Future<Output = ()> + Send + 'static>(
    name: &str,
    story: impl FnOnce() -> F + Send + 'static,
) -> Trial {
    trial_within(name, TOO_LONG, story)
}

/// Makes a trial with its own time limit.
pub fn trial_within<F: Future<Output = ()> + Send + 'static>(
    name: &str,
    limit: Duration,
    story: impl FnOnce() -> F + Send + 'static,
) -> Trial {
    Trial::test(name, move || run(story(), limit))
}

/// Makes a trial that needs a client. If the client is missing, the trial is ignored, or fails if
/// `OCIPFS_REQUIRE_CLIENTS=1` is set.
pub fn client_trial<F: Future<Output = ()> + Send + 'static>(
    name: &str,
    client: Result<(), String>,
    story: impl FnOnce() -> F + Send + 'static,
) -> Trial {
    match client {
        Ok(()) => trial(name, story),
        Err(missing) if std::env::var_os("OCIPFS_REQUIRE_CLIENTS").is_some_and(|v| v == "1") => {
            Trial::test(name, move || Err(missing.into()))
        }
        Err(missing) => {
            eprintln!("ignored: {name}: {missing}");
            Trial::test(name, || Ok(())).with_ignored_flag(true)
        }
    }
}

fn run(story: impl Future<Output = ()>, limit: Duration) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let outcome = runtime.block_on(async { tokio::time::timeout(limit, story).await });
    runtime.shutdown_background();
    outcome.map_err(|_| format!("not done after {} s", limit.as_secs()).into())
}

/// Runs blocking code outside the runtime, so that a story's deadline still holds.
pub async fn blocking<T: Send + 'static>(story: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(story).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Lists stories: `trials![one, two]`, or `trials![needs Docker::available(); one, two]`.
macro_rules! trials {
    (needs $client:expr; $($story:ident),* $(,)?) => {
        vec![$($crate::harness::client_trial(concat!(module_path!(), "::", stringify!($story)), $client, $story)),*]
    };
    ($($story:ident),* $(,)?) => {
        vec![$($crate::harness::trial(concat!(module_path!(), "::", stringify!($story)), $story)),*]
    };
}
pub(crate) use trials;

/// Program as built for this test run, without the settings of the user who runs it.
pub fn ocipfs(data_dir: &Path) -> Command {
    configured(Command::new(env!("CARGO_BIN_EXE_ocipfs")), data_dir)
}

/// The program, run by another user, who need not reach the directory of the build: it is opened by this process.
pub fn ocipfs_as(user: u32, data_dir: &Path) -> Command {
    static PROGRAM: OnceLock<fs::File> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| fs::File::open(env!("CARGO_BIN_EXE_ocipfs")).expect("the program"));
    let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
    command.uid(user).gid(user);
    configured(command, data_dir)
}

/// The program in a network namespace.
fn ocipfs_in(namespace: &str, data_dir: &Path) -> Command {
    let mut command = Command::new("ip");
    command.env("PATH", crate::clients::search_path());
    command.args(["netns", "exec", namespace, env!("CARGO_BIN_EXE_ocipfs")]);
    configured(command, data_dir)
}

fn configured(mut command: Command, data_dir: &Path) -> Command {
    let inherited: Vec<_> =
        std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("OCIPFS_")).collect();
    for (key, _) in inherited {
        command.env_remove(key);
    }
    command.env_remove("LIBP2P_FORCE_PNET").env_remove("SOURCE_DATE_EPOCH");
    command.env("OCIPFS_BOOTSTRAP", "none").env("OCIPFS_DATA_DIR", data_dir).stdin(Stdio::null());
    command
}

/// Exit code and output of a finished command.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Said {
    pub fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// The last line of stdout, which is what a script wants.
    pub fn last_line(&self) -> &str {
        self.stdout.lines().last().unwrap_or_default()
    }

    /// Holds that the command failed so, saying all of `texts` on stderr.
    #[track_caller]
    pub fn failed(&self, code: i32, texts: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        for text in texts {
            assert!(self.stderr.contains(text), "{text:?} is not in {self:?}");
        }
        assert!(!self.stderr.contains("panicked"), "{self:?}");
    }
}

/// Runs a command to its end.
pub fn finish(command: &mut Command) -> Said {
    Said::of(command.output().expect("the program starts"))
}

/// Runs a command that must succeed and gives the last line of its output.
#[track_caller]
pub fn last_line(command: &mut Command) -> String {
    let said = finish(command);
    assert_eq!(said.code, Some(0), "{said:?}");
    said.last_line().to_string()
}

/// A running `ocipfs serve`.
pub struct Serve {
    child: Child,
    data_dir: PathBuf,
    /// Its ready line: what `status --json` says.
    pub ready: Value,
    log: PathBuf,
    _own_dir: Option<TempDir>,
}

impl Serve {
    /// Starts one with a directory of its own.
    pub fn start(arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut serve = Self::start_in(dir.path(), arguments);
        serve._own_dir = Some(dir);
        serve
    }

    /// Starts one in `data_dir`, on free ports of loopback unless `arguments` or a settings file there say otherwise.
    pub fn start_in(data_dir: &Path, arguments: &[&str]) -> Self {
        Self::start_with(data_dir, arguments, &HashMap::new())
    }

    /// Starts one in `data_dir` with further environment variables.
    pub fn start_with(data_dir: &Path, arguments: &[&str], environment: &HashMap<&str, &str>) -> Self {
        let mut command = ocipfs(data_dir);
        command.envs(environment);
        Self::start_command(command, data_dir, arguments)
    }

    /// Starts one in a network namespace, with a directory of its own.
    pub fn start_in_namespace(namespace: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut command = ocipfs_in(namespace, dir.path());
        command.envs(environment.iter().copied());
        let mut serve = Self::start_command(command, dir.path(), arguments);
        serve._own_dir = Some(dir);
        serve
    }

    /// Starts one in a network namespace and a directory, on the addresses that `arguments` or the settings there say.
    pub fn start_in_namespace_and(namespace: &str, data_dir: &Path, arguments: &[&str]) -> Self {
        Self::start_command(ocipfs_in(namespace, data_dir), data_dir, arguments)
    }

    /// Starts one of another user.
    pub fn start_as(user: u32, data_dir: &Path, arguments: &[&str]) -> Self {
        Self::start_command(ocipfs_as(user, data_dir), data_dir, arguments)
    }

    fn start_command(mut command: Command, data_dir: &Path, arguments: &[&str]) -> Self {
        fs::create_dir_all(data_dir).expect("a directory");
        let log = data_dir.join("serve.log");
        command.args(["--json", "serve"]).args(arguments);
        if !arguments.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        if !arguments.contains(&"--swarm-listen") && !data_dir.join("config.toml").exists() {
            command.args(["--swarm-listen", "/ip4/127.0.0.1/tcp/0"]);
        }
        let errors = fs::File::options().create(true).append(true).open(&log).expect("a log file");
        let mut child = command.stdout(Stdio::piped()).stderr(errors).spawn().expect("the program starts");
        let mut ready = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        stdout.read_line(&mut ready).expect("stdout is read");
        let data_dir = data_dir.to_path_buf();
        let Ok(ready) = serde_json::from_str(&ready) else {
            let _ = child.kill();
            // An error has more lines.
            let _ = stdout.read_to_string(&mut ready);
            panic!("no ready line: {ready:?}\n{}", fs::read_to_string(&log).unwrap_or_default());
        };
        Self { child, data_dir, ready, log, _own_dir: None }
    }

    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `127.0.0.1:PORT`.
    pub fn registry(&self) -> &str {
        self.ready["registry"].as_str().expect("a ready line")
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.registry())
    }

    pub fn peer(&self) -> &str {
        self.ready["identity"]["peer"].as_str().expect("a ready line")
    }

    /// An address that ends in the peer id.
    pub fn address(&self) -> &str {
        self.ready["identity"]["listen"][0].as_str().expect("a ready line")
    }

    /// Runs a command that speaks to this node.
    pub fn command(&self, arguments: &[&str]) -> Said {
        finish(ocipfs(&self.data_dir).args(arguments))
    }

    /// Runs a command that must succeed and returns its last line.
    #[track_caller]
    pub fn ask(&self, arguments: &[&str]) -> String {
        last_line(ocipfs(&self.data_dir).args(arguments))
    }

    pub fn status(&self) -> Value {
        self.json(&["status"])
    }

    /// Returns a number of `store stat`.
    pub fn stored(&self, what: &str) -> u64 {
        stored(&self.data_dir, what)
    }

    pub fn json(&self, command: &[&str]) -> Value {
        let said = self.command(&[command, &["--json"]].concat());
        serde_json::from_str(&said.stdout).unwrap_or_else(|e| panic!("{e}: {said:?}"))
    }

    /// Waits until the status is as `holds` wants it.
    pub async fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) {
        let start = Instant::now();
        loop {
            let status = self.status();
            if holds(&status) {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "still waiting: {what}: {status}");
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends a signal.
    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().expect("kill").success());
    }

    /// Stops it as a service manager would.
    pub fn stop(mut self) -> ExitStatus {
        self.signal("TERM");
        let status = self.child.wait().expect("a child");
        assert!(status.signal().is_none(), "ended by {status}");
        status
    }

    /// Waits until it has ended by itself.
    pub fn ended(mut self) -> ExitStatus {
        self.child.wait().expect("a child")
    }

    /// Ends it as a crash would.
    pub fn kill(mut self) -> PathBuf {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.data_dir.clone()
    }

    /// Anonymous memory in bytes: what the process itself needs.
    pub fn rss_anon(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("/proc");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("RssAnon");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of {}\n{}", self.data_dir.display(), self.log());
        }
    }
}

/// Waits for what must end before `limit`.
pub async fn within<T>(limit: Duration, waiting: impl Future<Output = T>) -> T {
    tokio::time::timeout(limit, waiting).await.unwrap_or_else(|_| panic!("not done within {limit:?}"))
}

/// Waits for a condition that another process brings about.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "still waiting: {what}");
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}

const PATIENCE: Duration = Duration::from_secs(60);
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);
