//! The control socket of a running `serve`.

use std::{
    fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::mpsc,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Failure, Instance, Request,
    input::{self, Input},
    message::Line,
    socket,
    trust::{self, Trusted},
};

/// A request is a line of a few hundred bytes.
const MAX_REQUEST_BYTES: u64 = 64 << 10;

/// A bound socket, unlinked when it is dropped.
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
    /// A directory that was made for the socket alone.
    own_dir: Option<PathBuf>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        if let Some(dir) = &self.own_dir {
            let _ = fs::remove_dir(dir);
        }
    }
}

impl Server {
    /// Binds the socket of `data_dir`, whose lock is held: what lies there is a dead process's.
    pub fn bind(data_dir: &Path) -> Result<Self, Failure> {
        let path = socket::path(data_dir);
        let failed = |e: std::io::Error| {
            Failure::new(format!("cannot make the control socket {}: {e}", path.display()))
        };
        let own_dir =
            path.parent().filter(|_| socket::is_elsewhere(data_dir)).map(|parent| parent.to_path_buf());
        if let Some(dir) = &own_dir {
            tracing::info!(
                "the node directory's path is too long for a socket; listening for commands at {}",
                path.display()
            );
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
            // It may have been there before.
            Trusted::of(data_dir).check_dir(dir)?;
        }
        let listener = trust::bind(&path).map_err(failed)?;
        Ok(Self { listener, path, own_dir })
    }

    /// Answers commands until `stop`; those that are being answered are finished.
    pub async fn run(self, instance: Instance, stop: CancellationToken) {
        let tasks = TaskTracker::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => drop(tasks.spawn(answer(instance.clone(), stream))),
                    Err(error) => tracing::warn!(%error, "the control socket failed"),
                }
            }
        }
        tasks.close();
        tasks.wait().await;
    }
}

async fn answer(instance: Instance, stream: UnixStream) {
    let (input, mut output) = stream.into_split();
    let mut text = String::new();
    let mut input = BufReader::new(input);
    if (&mut input).take(MAX_REQUEST_BYTES).read_line(&mut text).await.is_err() {
        return;
    }
    let (notes, mut noted) = mpsc::unbounded_channel();
    let work = async {
        match serde_json::from_str::<Request>(&text) {
            Ok(request) => {
                let body = request.has_input().then(Input::new);
                let (chunks, body) = body.unzip();
                // It ends with the client, or when the reader is dropped.
                chunks.map(|chunks| tokio::spawn(input::receive(input, chunks)));
                instance.handle_with(request, body, notes).await
            }
            Err(error) => Err(Failure::new(format!("request unknown to the running node: {error}"))
                .hint("use the same version of ocipfs for the node and the command")),
        }
    };
    let mut work = std::pin::pin!(work);
    let outcome = loop {
        tokio::select! {
            biased;
            Some(note) = noted.recv() => send(&mut output, &Line::Note(note)).await,
            outcome = &mut work => break outcome,
        }
    };
    while let Ok(note) = noted.try_recv() {
        send(&mut output, &Line::Note(note)).await;
    }
    send(&mut output, &outcome.map_or_else(Line::Failed, Line::Done)).await;
}

/// The work of a client that disconnects is finished.
async fn send(output: &mut (impl AsyncWriteExt + Unpin), line: &Line) {
    if let Ok(mut json) = serde_json::to_vec(line) {
        json.push(b'\n');
        let _ = output.write_all(&json).await;
    }
}
