//! A foreign peer as a program: it serves or fetches files, and every line of its stdout is one JSON event.

use std::{
    fs::File,
    io::{Read, Seek},
    process::Stdio,
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD as STANDARD};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time,
};

/// Other tests load the machine while a peer starts, and while it adds what it is to serve.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Files that a peer serves, and its address.
pub struct Served {
    /// The files' CIDs, in their order.
    pub cids: Vec<String>,
    /// A multiaddr that ends with its peer id.
    pub address: String,
}

/// A file that a peer has fetched.
#[derive(Debug)]
pub struct Fetched {
    pub bytes: u64,
    /// In hexadecimal.
    pub sha256: String,
    /// By the peer's own clock.
    pub took: Duration,
}

/// A running program, killed on drop; it also ends with our end of its stdin.
pub struct Program {
    name: &'static str,
    child: Child,
    events: Lines<BufReader<ChildStdout>>,
    errors: File,
}

impl Program {
    /// Starts `command`; errors begin with `name`.
    pub fn start(name: &'static str, command: &mut Command) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("{name}: {error}");
        // A file, since a pipe would not be read while the peer serves.
        let errors = tempfile::tempfile().map_err(failed)?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors.try_clone().map_err(failed)?)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let stdout = child.stdout.take().ok_or(format!("{name}: no stdout"))?;
        Ok(Self { name, child, events: BufReader::new(stdout).lines(), errors })
    }

    /// Waits until it serves.
    pub async fn served(&mut self) -> Result<Served, String> {
        let mut cids = Vec::new();
        loop {
            let event = self.event(READY_WITHIN).await?;
            match event["event"].as_str() {
                Some("added") => cids.push(self.text(&event["cid"])?),
                Some("ready") => return Ok(Served { cids, address: self.text(&event["addrs"][0])? }),
                _ => return Err(format!("{}: unexpected {event}", self.name)),
            }
        }
    }

    /// Waits until it has fetched, for which it was given `timeout`.
    pub async fn fetched(&mut self, timeout: Duration) -> Result<Fetched, String> {
        let event = self.event(READY_WITHIN + timeout).await?;
        Ok(Fetched {
            bytes: self.number(&event["bytes"])?,
            sha256: self.text(&event["sha256"])?,
            took: Duration::from_millis(self.number(&event["ms"])?),
        })
    }

    /// Waits until it has signed a record; returns its name and the record.
    pub async fn record(&mut self) -> Result<(String, Vec<u8>), String> {
        let event = self.event(READY_WITHIN).await?;
        let record = STANDARD.decode(self.text(&event["record"])?);
        Ok((self.text(&event["name"])?, record.map_err(|error| format!("{}: {error}", self.name))?))
    }

    /// The next event, or what the peer says of its failure.
    async fn event(&mut self, within: Duration) -> Result<Value, String> {
        let name = self.name;
        let line = time::timeout(within, self.events.next_line())
            .await
            .map_err(|_| format!("{name}: silent for {} s", within.as_secs()))?
            .map_err(|error| format!("{name}: {error}"))?;
        let Some(line) = line else {
            let status = self.child.wait().await.map_err(|error| format!("{name}: {error}"))?;
            return Err(format!("{name} ended with {status}:\n{}", self.stderr()));
        };
        let event: Value = serde_json::from_str(&line).map_err(|error| format!("{name}: {line}: {error}"))?;
        if event["event"] == "error" {
            return Err(format!("{name}: {}", self.text(&event["message"])?));
        }
        Ok(event)
    }

    fn stderr(&mut self) -> String {
        let mut text = Vec::new();
        let _ = self.errors.rewind().and_then(|()| self.errors.read_to_end(&mut text));
        String::from_utf8_lossy(&text).into_owned()
    }

    fn text(&self, value: &Value) -> Result<String, String> {
        value.as_str().map(str::to_owned).ok_or_else(|| format!("{}: not a text: {value}", self.name))
    }

    fn number(&self, value: &Value) -> Result<u64, String> {
        value.as_u64().ok_or_else(|| format!("{}: not a number: {value}", self.name))
    }
}
