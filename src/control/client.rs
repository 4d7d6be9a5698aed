//! A command's side: over the socket where `serve` runs, in the process where it does not.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    sync::mpsc,
};

use super::{
    Failure, Instance, Note, Options, Reply, Request,
    input::{self, Input},
    message::Line,
    socket,
    trust::Trusted,
};

/// Has `request` answered; `offline` is the instance to open where no `serve` runs.
pub async fn ask(request: Request, offline: Options, mut note: impl FnMut(Note)) -> Result<Reply, Failure> {
    match connect(&offline.data_dir).await {
        Ok((stream, path)) => {
            let trusted = Trusted::of(&offline.data_dir);
            trusted.check_peer(&stream)?;
            if let Some(dir) = path.parent().filter(|_| socket::is_elsewhere(&offline.data_dir)) {
                trusted.check_dir(dir)?;
            }
            over_socket(stream, request, note).await
        }
        // An impossible directory is treated like a missing one: opening it says why.
        Err(e)
            if matches!(
                e.kind(),
                ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::NotADirectory
            ) =>
        {
            if request.needs_serve() {
                let message = format!("no node is running in {}", offline.data_dir.display());
                return Err(Failure::new(message)
                    .hint("start one with `ocipfs serve`, or name its directory with --data-dir"));
            }
            let instance = Instance::open(offline).await?;
            let (notes, mut noted) = mpsc::unbounded_channel();
            let (chunks, input) = request.has_input().then(Input::new).unzip();
            chunks.map(|chunks| tokio::spawn(input::fill(tokio::io::stdin(), chunks)));
            let mut work = std::pin::pin!(instance.handle_with(request, input, notes));
            loop {
                tokio::select! {
                    biased;
                    Some(next) = noted.recv() => note(next),
                    outcome = &mut work => {
                        while let Ok(next) = noted.try_recv() {
                            note(next);
                        }
                        return outcome;
                    }
                }
            }
        }
        Err(e) => {
            Err(Failure::new(format!("cannot use the control socket of {}: {e}", offline.data_dir.display()))
                .hint("run the command as the user that runs the node"))
        }
    }
}

/// Connects to the socket of a node directory, wherever it is.
async fn connect(data_dir: &Path) -> std::io::Result<(UnixStream, PathBuf)> {
    let mut failed = None;
    for path in socket::all(data_dir) {
        match UnixStream::connect(&path).await {
            Ok(stream) => return Ok((stream, path)),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    Err(failed.unwrap_or_else(|| ErrorKind::NotFound.into()))
}

async fn over_socket(
    stream: UnixStream,
    request: Request,
    mut note: impl FnMut(Note),
) -> Result<Reply, Failure> {
    let lost = |e: std::io::Error| Failure::new(format!("connection to the running node failed: {e}"));
    let mut json = serde_json::to_vec(&request).map_err(Failure::new)?;
    json.push(b'\n');
    let (answers, mut stream) = stream.into_split();
    stream.write_all(&json).await.map_err(lost)?;
    // Where the node refuses what comes, it says why in its answer.
    let _sending = match request.has_input() {
        true => Ok(tokio::spawn(input::send(tokio::io::stdin(), stream))),
        // Dropped, it would close its half.
        false => Err(stream),
    };
    let mut lines = BufReader::new(answers).lines();
    while let Some(line) = lines.next_line().await.map_err(lost)? {
        match serde_json::from_str(&line) {
            Ok(Line::Note(next)) => note(next),
            Ok(Line::Done(reply)) => return Ok(reply),
            Ok(Line::Failed(failure)) => return Err(failure),
            Err(error) => {
                return Err(Failure::new(format!("cannot parse the reply of the running node: {error}"))
                    .hint("use the same version of ocipfs for the node and the command"));
            }
        }
    }
    Err(Failure::new("the running node stopped before it replied"))
}
