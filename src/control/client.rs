//! A command's side: over the socket where `serve` runs, in the process where it does not.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use super::{
    Attachment, Destination, Failure, Instance, Note, Options, Reply, Request,
    attachment::{served::serve, total::FolderTotal, written::Written},
    elsewhere,
    message::{Ask, Envelope, Line},
    socket,
    trust::Trusted,
};
use crate::images::export::{ExportOrder, ExportOrders, ExportTarget};

/// Bytes of answers that are read at once.
const BUFFER: usize = 64 << 10;

/// The instance to open where no `serve` runs.
pub struct Offline {
    /// Its options.
    pub options: Options,
    /// Whether nothing but the default says which node directory it is.
    pub is_default_dir: bool,
}

/// Has `request` answered.
pub async fn ask(
    request: Request,
    attachment: Attachment,
    offline: Offline,
    mut note: impl FnMut(Note),
) -> Result<Reply, Failure> {
    let total = FolderTotal::of(&request, &attachment);
    let note = |told| note(total.fill(told));
    let envelope = Envelope { request, attached: attachment.describe() };
    // What is exported is written here, wherever it comes from.
    let (attachment, mut written) = match attachment {
        Attachment::Export(destination) => (Attachment::Nothing, Some(Written::new(destination))),
        attachment => (attachment, None),
    };
    let exports = written.is_some();
    let outcome = tokio::select! {
        outcome = exchange(envelope, attachment, &mut written, offline, note) => outcome,
        error = interrupted(), if exports => Err(error),
    };
    match (outcome, written) {
        (Ok(reply), Some(written)) => written.finish().await.map(|()| reply),
        (Err(failure), Some(written)) => {
            written.abandon().await;
            Err(failure)
        }
        (outcome, None) => outcome,
    }
}

async fn exchange(
    envelope: Envelope,
    attachment: Attachment,
    written: &mut Option<Written>,
    offline: Offline,
    mut note: impl FnMut(Note),
) -> Result<Reply, Failure> {
    let Offline { options: offline, is_default_dir } = offline;
    match connect(&offline.data_dir).await {
        Ok(connected) => over_socket(connected, &offline.data_dir, envelope, attachment, written, note).await,
        // An impossible directory is treated like a missing one: opening it says why.
        Err(e)
            if matches!(
                e.kind(),
                ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::NotADirectory
            ) =>
        {
            let warning = elsewhere::check(&envelope.request, &offline, is_default_dir).await;
            // The registry that answers may be that of the node, which has started in the meantime.
            if let Ok(connected) = connect(&offline.data_dir).await {
                return over_socket(connected, &offline.data_dir, envelope, attachment, written, note).await;
            }
            if let Some(warning) = warning? {
                note(warning);
            }
            if envelope.request.needs_serve() {
                let message = format!("no node is running in {}", offline.data_dir.display());
                return Err(Failure::new(message)
                    .hint("start one with `ocipfs serve`, or name its directory with --data-dir"));
            }
            in_process(envelope.request, attachment, written, offline, note).await
        }
        Err(e) => {
            Err(Failure::new(format!("cannot use the control socket of {}: {e}", offline.data_dir.display()))
                .hint("run the command as the user that runs the node, or as root"))
        }
    }
}

/// Waits for a signal that ends the command.
async fn interrupted() -> Failure {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Failure::new("the command was interrupted")
}

async fn in_process(
    request: Request,
    attachment: Attachment,
    written: &mut Option<Written>,
    options: Options,
    mut note: impl FnMut(Note),
) -> Result<Reply, Failure> {
    let instance = Instance::open(options).await?;
    let (notes, mut noted) = mpsc::unbounded_channel();
    let (target, mut orders) = ExportTarget::remote();
    let attachment = match written {
        Some(_) => Attachment::Export(Destination::made(target)),
        None => attachment,
    };
    let mut work = std::pin::pin!(instance.handle_with(request, attachment.into(), notes));
    loop {
        tokio::select! {
            biased;
            Some(next) = noted.recv() => note(next),
            order = orders.next() => write(order, &mut orders, written).await?,
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

async fn write(
    order: ExportOrder,
    orders: &mut ExportOrders,
    written: &mut Option<Written>,
) -> Result<(), Failure> {
    match (order, written) {
        (ExportOrder::Finish, _) => orders.end(Ok(())),
        (order, Some(written)) => written.order(order).await?,
        (_, None) => {}
    }
    Ok(())
}

async fn over_socket(
    (stream, path): (UnixStream, PathBuf),
    data_dir: &Path,
    envelope: Envelope,
    attachment: Attachment,
    written: &mut Option<Written>,
    note: impl FnMut(Note),
) -> Result<Reply, Failure> {
    let trusted = Trusted::of(data_dir);
    trusted.check_peer(&stream)?;
    if let Some(dir) = path.parent().filter(|_| socket::is_elsewhere(data_dir)) {
        trusted.check_dir(dir)?;
    }
    let mut json = serde_json::to_vec(&envelope).map_err(Failure::new)?;
    json.push(b'\n');
    let (answers, mut sending) = stream.into_split();
    sending.write_all(&json).await.map_err(lost)?;
    let (ask, asks) = mpsc::unbounded_channel();
    let failed = Arc::new(OnceLock::new());
    let fail = failed.clone();
    // Where the node refuses what comes, it says why in its answer.
    tokio::task::spawn_blocking(move || serve(attachment, asks, sending, |failure| drop(fail.set(failure))));
    let outcome = read_lines(BufReader::with_capacity(BUFFER, answers), written, &ask, note).await;
    // What the command could not read is the cause.
    outcome.map_err(|failure| failed.get().cloned().unwrap_or(failure))
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
                Some(written) => written.receive(order, &mut answers).await?,
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
