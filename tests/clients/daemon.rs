//! A daemon that ends with its handle, or with the test process, whatever ends that.

use std::{
    io::Read,
    os::unix::net::UnixDatagram,
    process::{Child, Stdio},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::Room;

const READY_WITHIN: Duration = Duration::from_secs(90);

/// Ends the daemon when stdin closes, and the namespace's every process with the daemon.
const TETHER: &str = r#"
exec 3<&0
"$@" 3<&- </dev/null &
daemon=$!
{ read -r _ <&3 || kill -KILL $daemon; } &
wait $daemon
"#;

/// A running `dockerd` or `containerd`.
pub struct Daemon {
    tether: Child,
    log: Option<JoinHandle<String>>,
}

impl Daemon {
    /// Starts `command` in `room`, and returns once it says it is ready.
    pub fn start(room: &Room, command: &[&str]) -> Result<Self, String> {
        let name = command[0];
        let socket = room.path("notify");
        let notify = UnixDatagram::bind(&socket).map_err(|error| format!("{socket}: {error}"))?;
        notify.set_read_timeout(Some(Duration::from_millis(100))).map_err(|error| error.to_string())?;
        let (mut reader, writer) = std::io::pipe().map_err(|error| error.to_string())?;
        let errors = writer.try_clone().map_err(|error| error.to_string())?;
        let mut command = room.script(TETHER, command);
        command.env("NOTIFY_SOCKET", socket).stdin(Stdio::piped()).stdout(writer).stderr(errors);
        let tether = command.spawn().map_err(|error| format!("{name}: {error}"))?;
        // `command` holds the pipe's write ends: while it lives, the log has no end.
        drop(command);
        let log = thread::spawn(move || {
            let mut log = Vec::new();
            let _ = reader.read_to_end(&mut log);
            String::from_utf8_lossy(&log).into_owned()
        });
        let mut daemon = Self { tether, log: Some(log) };
        match daemon.ready(&notify) {
            Ok(()) => Ok(daemon),
            Err(error) => Err(format!("{name} {error}:\n{}", daemon.stop())),
        }
    }

    /// Returns a process in the daemon's namespaces: the first child of the one that made them.
    pub fn pid(&self) -> Result<u32, String> {
        let made = self.tether.id();
        let path = format!("/proc/{made}/task/{made}/children");
        let children = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let first = children.split_whitespace().next().and_then(|pid| pid.parse().ok());
        first.ok_or(format!("{path}: empty"))
    }

    fn ready(&mut self, notify: &UnixDatagram) -> Result<(), String> {
        let started = Instant::now();
        let mut message = [0; 256];
        while started.elapsed() < READY_WITHIN {
            if let Ok(length) = notify.recv(&mut message)
                && message[..length].windows(7).any(|part| part == b"READY=1")
            {
                return Ok(());
            }
            if let Ok(Some(status)) = self.tether.try_wait() {
                return Err(format!("ended with {status}"));
            }
        }
        Err(format!("was not ready after {} s", READY_WITHIN.as_secs()))
    }

    /// Stops it, and returns the last lines it said.
    fn stop(&mut self) -> String {
        drop(self.tether.stdin.take());
        let _ = self.tether.wait();
        // The log ends when the last process that could write to it is gone.
        let log = self.log.take().and_then(|log| log.join().ok()).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop();
    }
}
