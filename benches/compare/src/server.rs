//! The two programs as children, each with a directory of its own, on loopback.

use std::{
    fs,
    io::{BufRead, BufReader, ErrorKind},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use ocipfs_oci::Digest;

use crate::{Failure, Url};

const TO_START: Duration = Duration::from_secs(30);

/// A child that does not outlive the comparison.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(command: &mut Command) -> Result<Child, Failure> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).spawn().map_err(|error| match error.kind() {
        ErrorKind::NotFound if program == "docker-registry" => {
            "docker-registry is not installed: apt-get install docker-registry".into()
        }
        _ => format!("cannot start {program}: {error}").into(),
    })
}

/// Builds the release program of this workspace.
pub fn build() -> Result<PathBuf, Failure> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--release", "--package", "ocipfs", "--bin", "ocipfs"])
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()?;
    // Cargo names the file, wherever its target directory is.
    let messages = String::from_utf8(output.stdout)?;
    let built = messages.lines().rev().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(PathBuf::from(message["executable"].as_str()?))
    });
    built.filter(|_| output.status.success()).ok_or_else(|| "ocipfs does not build".into())
}

/// `ocipfs serve`, alone.
pub struct Ocipfs {
    process: Process,
    program: PathBuf,
    dir: PathBuf,
    host: String,
}

impl Ocipfs {
    pub fn start(program: &Path, dir: &Path) -> Result<Self, Failure> {
        fs::create_dir_all(dir)?;
        let mut command = Self::command(program, dir);
        command.args([
            "--json",
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--swarm-listen",
            "/ip4/127.0.0.1/tcp/0",
        ]);
        command.stdout(Stdio::piped()).stderr(fs::File::create(dir.join("log"))?);
        let mut process = Process(start(&mut command)?);
        let mut ready = String::new();
        let stdout = process.0.stdout.take().ok_or("no stdout")?;
        BufReader::new(stdout).read_line(&mut ready)?;
        let ready: serde_json::Value =
            serde_json::from_str(&ready).map_err(|_| format!("ocipfs did not start: {}", log(dir)))?;
        let host = ready["registry"].as_str().ok_or("no registry in the ready line")?.to_string();
        Ok(Self { process, program: program.into(), dir: dir.into(), host })
    }

    fn command(program: &Path, dir: &Path) -> Command {
        let mut command = Command::new(program);
        command.env("OCIPFS_BOOTSTRAP", "none").env("OCIPFS_DATA_DIR", dir);
        command
    }

    pub fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// Adds a layer and says where its blob is.
    pub fn add(&self, tar: &Path, digest: &Digest) -> Result<Url, Failure> {
        let output =
            Self::command(&self.program, &self.dir).args(["-q", "layer", "add"]).arg(tar).output()?;
        let text = String::from_utf8(output.stdout)?;
        let reference = text.lines().last().and_then(|line| line.split_once('/'));
        let (_, name) = reference.ok_or_else(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
        let (name, _) = name.rsplit_once(':').ok_or("a reference without a tag")?;
        Ok(Url { host: self.host.clone(), path: format!("/v2/{name}/blobs/{digest}") })
    }
}

/// Debian's `docker-registry`, with its file system driver.
pub struct DockerRegistry {
    process: Process,
    host: String,
}

impl DockerRegistry {
    pub fn start(program: &Path, dir: &Path) -> Result<Self, Failure> {
        fs::create_dir_all(dir)?;
        // It cannot be told to choose a port itself.
        let host = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let config = dir.join("config.yml");
        fs::write(&config, config_of(&host, &dir.join("storage")))?;
        let mut command = Command::new(program);
        command.arg("serve").arg(&config);
        command.stdout(Stdio::null()).stderr(fs::File::create(dir.join("log"))?);
        let mut process = Process(start(&mut command)?);
        let started = Instant::now();
        while TcpStream::connect(&host).is_err() {
            if started.elapsed() > TO_START || process.0.try_wait()?.is_some() {
                return Err(format!("docker-registry did not start: {}", log(dir)).into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(Self { process, host })
    }

    pub fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// Pushes the blob in one piece and says where it is.
    pub fn push(&self, tar: &Path, digest: &Digest) -> Result<Url, Failure> {
        let at = |path: String| Url { host: self.host.clone(), path };
        let opened = at("/v2/compare/blobs/uploads/".into()).ask("POST", None)?;
        let location = opened.location.ok_or_else(|| format!("no upload: {}", opened.status))?;
        let path = location.trim_start_matches(&format!("http://{}", self.host));
        let sent = at(format!("{path}&digest={digest}")).ask("PUT", Some(tar))?;
        match sent.status {
            201 => Ok(at(format!("/v2/compare/blobs/{digest}"))),
            status => Err(format!("docker-registry answered {status} to the upload").into()),
        }
    }
}

fn config_of(host: &str, storage: &Path) -> String {
    format!(
        "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
         storage: {{cache: {{blobdescriptor: inmemory}}, filesystem: {{rootdirectory: {storage:?}}}}}\n\
         http: {{addr: {host:?}}}\n"
    )
}

fn log(dir: &Path) -> String {
    fs::read_to_string(dir.join("log")).unwrap_or_default()
}
