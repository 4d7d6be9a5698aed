//! A command's side: over the socket where `serve` runs, in the process where it does not.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    sync::mpsc,
};

use super::{
    Attachment, Failure, Instance, Note, Options, Reply, Request,
    attachment::{served::serve, written::Written},
    message::{Ask, Envelope, Line},
    socket,
    trust::Trusted,
};

/// Bytes of answers that are read at once.
const BUFFER: usize = 64 << 10;

/// Has `request` answered; `offline` is the instance to open where no `serve` runs.
pub async fn ask(
    request: Request,
    attachment: Attachment,
    offline: Options,
    note: impl FnMut(Note),
) -> Result<Reply, Failure> {
    match connect(&offline.data_dir).await {
        Ok((stream, path)) => {
            let trusted = Trusted::of(&offline.data_dir);
            trusted.check_peer(&stream)?;
            if let Some(dir) = path.parent().filter(|_| socket::is_elsewhere(&offline.data_dir)) {
                trusted.check_dir(dir)?;
            }
            over_socket(stream, request, attachment, note).await
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
            in_process(request, attachment, offline, note).await
        }
        Err(e) => {
            Err(Failure::new(format!("cannot use the control socket of {}: {e}", offline.data_dir.display()))
                .hint("run the command as the user that runs the node"))
        }
    }
}

async fn in_process(
    request: Request,
    attachment: Attachment,
    options: Options,
    mut note: impl FnMut(Note),
) -> Result<Reply, Failure> {
    let instance = Instance::open(options).await?;
    let (notes, mut noted) = mpsc::unbounded_channel();
    let mut work = std::pin::pin!(instance.handle_with(request, attachment.into(), notes));
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
    attachment: Attachment,
    note: impl FnMut(Note),
) -> Result<Reply, Failure> {
    let envelope = Envelope { request, attached: attachment.describe() };
    let mut json = serde_json::to_vec(&envelope).map_err(Failure::new)?;
    json.push(b'\n');
    let (answers, mut sending) = stream.into_split();
    sending.write_all(&json).await.map_err(lost)?;
    let (ask, asks) = mpsc::unbounded_channel();
    let failed = Arc::new(OnceLock::new());
    let (mut written, mut sender) = (None, Some(sending));
    match attachment {
        Attachment::Export(destination) => written = Some(Written::new(destination)),
        attachment => {
            // Where the node refuses what comes, it says why in its answer.
            let (failed, sending) = (failed.clone(), sender.take());
            let fail = move |failure| drop(failed.set(failure));
            sending.map(|to| tokio::task::spawn_blocking(move || serve(attachment, asks, to, fail)));
        }
    }
    let outcome = read_lines(BufReader::with_capacity(BUFFER, answers), &mut written, &ask, note).await;
    match (outcome, written) {
        (Ok(reply), Some(written)) => written.finish().await.map(|()| reply),
        (Ok(reply), None) => Ok(reply),
        (Err(failure), written) => {
            if let Some(mut written) = written {
                written.abandon().await;
            }
            // What the command could not read is the cause.
            Err(failed.get().cloned().unwrap_or(failure))
        }
    }
}

/// Carries out what the node says, until the outcome.
async fn read_lines(
    mut answers: impl AsyncBufRead + Unpin,
    written: &mut Option<Written>,
    asks: &mpsc::UnboundedSender<Ask>,
    mut note: impl FnMut(Note),
) -> Result<Reply, Failure> {
    let mut line = String::new();
    loop {
        line.clear();
        if answers.read_line(&mut line).await.map_err(lost)? == 0 {
            return Err(Failure::new("the running node stopped before it replied"));
        }
        match serde_json::from_str(&line) {
            Ok(Line::Note(next)) => note(next),
            Ok(Line::Ask(ask)) => drop(asks.send(ask)),
            Ok(Line::Write(order)) => match written {
                Some(written) => written.order(order, &mut answers).await?,
                None => return Err(Failure::new("the running node sent files that were not asked for")),
            },
            Ok(Line::Done(reply)) => return Ok(reply),
            Ok(Line::Failed(failure)) => return Err(failure),
            Err(error) => {
                return Err(Failure::new(format!("cannot parse the reply of the running node: {error}"))
                    .hint("use the same version of ocipfs for the node and the command"));
            }
        }
    }
}

fn lost(error: std::io::Error) -> Failure {
    Failure::new(format!("connection to the running node failed: {error}"))
}
