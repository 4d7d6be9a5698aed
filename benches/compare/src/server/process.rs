//! Children that do not outlive the scenario that started them.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, ErrorKind, Read},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::Failure;

const TO_LISTEN: Duration = Duration::from_secs(30);

/// Those of one scenario, so that one that takes too long can be ended from outside.
#[derive(Clone, Default)]
pub struct Children(Arc<Started>);

#[derive(Default)]
struct Started {
    ended: AtomicBool,
    children: Mutex<Vec<Weak<Mutex<Child>>>>,
}

impl Children {
    /// Ends them all, and lets no other start.
    pub fn end(&self) {
        self.0.ended.store(true, Ordering::Relaxed);
        for child in lock(&self.0.children).drain(..).filter_map(|child| child.upgrade()) {
            let _ = lock(&child).kill();
        }
    }

    /// Starts a program; what it says on stderr goes to `dir/log`.
    pub fn start(&self, command: &mut Command, dir: &Path) -> Result<Process, Failure> {
        if self.0.ended.load(Ordering::Relaxed) {
            return Err("too late".into());
        }
        fs::create_dir_all(dir)?;
        let program = command.get_program().to_string_lossy().into_owned();
        let errors = File::options().create(true).append(true).open(dir.join("log"))?;
        // A boxo peer ends when its stdin does.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors);
        let mut child = command.spawn().map_err(|error| match error.kind() {
            ErrorKind::NotFound => format!("{program} is not installed: {}", hint(&program)),
            _ => format!("cannot start {program}: {error}"),
        })?;
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().ok_or("no stdout")?);
        let pid = child.id();
        let child = Arc::new(Mutex::new(child));
        lock(&self.0.children).push(Arc::downgrade(&child));
        Ok(Process { child, pid, dir: dir.into(), _stdin: stdin, stdout })
    }
}

fn hint(program: &str) -> &'static str {
    match Path::new(program).file_name().and_then(|name| name.to_str()) {
        Some("docker-registry") => "apt-get install docker-registry",
        Some("skopeo") => "apt-get install skopeo",
        Some("nginx") => "apt-get install nginx-light",
        _ => "build it first",
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A child that is killed when this is dropped.
pub struct Process {
    child: Arc<Mutex<Child>>,
    pid: u32,
    dir: PathBuf,
    _stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Process {
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until it takes connections at `host`.
    pub fn until_listening(&self, host: &str) -> Result<(), Failure> {
        let start = Instant::now();
        while TcpStream::connect(host).is_err() {
            if start.elapsed() > TO_LISTEN || !matches!(lock(&self.child).try_wait(), Ok(None)) {
                return Err(format!("nobody listens on {host}: {}", log(&self.dir)).into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Reads a line of JSON from its stdout.
    pub fn line(&mut self) -> Result<serde_json::Value, Failure> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        serde_json::from_str(&line).map_err(|_| format!("{line:?} and {}", log(&self.dir)).into())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let mut child = lock(&self.child);
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Waits for a command that was started and gives what it printed.
pub fn finish(mut process: Process) -> Result<String, Failure> {
    let mut said = String::new();
    process.stdout.read_to_string(&mut said)?;
    let status = lock(&process.child).wait()?;
    match status.success() {
        true => Ok(said),
        false => Err(format!("{status}: {said}{}", log(&process.dir)).into()),
    }
}

/// The end of what a program said on stderr.
pub fn log(dir: &Path) -> String {
    let text = fs::read_to_string(dir.join("log")).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}
