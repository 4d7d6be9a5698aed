//! The control socket of a running `serve`.

use std::{
    fs, io,
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
    Failure, Instance, Note, Reply,
    attachment::{MAX_WRITE_BYTES, Received, passed::PassedReader, remote, remote::Remote},
    deeds,
    message::{Ask, Attached, Envelope, Line, Write},
    socket,
    trust::{self, Trusted},
};
use crate::{
    http::events::{Event, Events},
    images::export::{ExportOrder, ExportOrders},
};

/// A request is a line of a few hundred bytes, but for the `manifest.json` of an archive, and the digests of an earlier bundle.
const MAX_REQUEST_BYTES: u64 = 32 << 20;

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
        let failed =
            |e: io::Error| Failure::new(format!("cannot make the control socket {}: {e}", path.display()));
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

    /// Answers commands until `stop`; those that are being answered are finished. `events` are told what they change.
    pub async fn run(self, instance: Instance, events: Events, stop: CancellationToken) {
        let tasks = TaskTracker::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => drop(tasks.spawn(answer(instance.clone(), events.clone(), stream))),
                    Err(error) => tracing::warn!(%error, "the control socket failed"),
                }
            }
        }
        tasks.close();
        tasks.wait().await;
    }
}

async fn answer(instance: Instance, events: Events, stream: UnixStream) {
    let user = stream.peer_cred().ok().map(|peer| format!("uid:{}", peer.uid()));
    let (input, mut output) = stream.into_split();
    let mut text = String::new();
    let mut input = BufReader::new(PassedReader::new(input));
    if (&mut input).take(MAX_REQUEST_BYTES).read_line(&mut text).await.is_err() {
        return;
    }
    let outcome = match serde_json::from_str::<Envelope>(&text) {
        Ok(Envelope { request, attached }) => {
            let is_attached = !matches!(attached, Attached::Nothing);
            let exports = matches!(attached, Attached::Export);
            let gone = CancellationToken::new();
            let Remote { attachment, asks, frames, orders } = Remote::new(attached, gone.clone());
            let received = Received { attachment, gone: gone.clone() };
            // It ends with the command.
            let receive = remote::receive(input, frames, gone.clone());
            let receiving = is_attached.then(|| tokio::spawn(receive));
            let (notes, noted) = mpsc::unbounded_channel();
            let removal = deeds::removal(&request, instance.registry());
            let work = instance.handle_with(request, received, notes);
            let outgoing = Outgoing { noted, asks, orders, gone, exports };
            let outcome = outgoing.send_until_done(work, &mut output).await;
            if let Some(receiving) = receiving {
                receiving.abort();
            }
            if let Ok(reply) = &outcome {
                for event in deeds::events(removal, reply, instance.registry()) {
                    let client = Some(deeds::CLIENT.into());
                    events.tell(&Event { user: user.clone(), client, ..event }).await;
                }
            }
            outcome
        }
        Err(error) => Err(Failure::new(format!("request unknown to the running node: {error}"))
            .hint("use the same version of ocipfs for the node and the command")),
    };
    let _ = send(&mut output, &outcome.map_or_else(Line::Failed, Line::Done)).await;
}

/// What an instance sends to a command before the outcome.
struct Outgoing {
    noted: mpsc::UnboundedReceiver<Note>,
    asks: mpsc::UnboundedReceiver<Ask>,
    orders: ExportOrders,
    gone: CancellationToken,
    exports: bool,
}

impl Outgoing {
    /// Sends until the work has an outcome. Work for a command that disconnects is finished; only an export ends then.
    async fn send_until_done(
        mut self,
        work: impl Future<Output = Result<Reply, Failure>>,
        output: &mut (impl AsyncWriteExt + Unpin),
    ) -> Result<Reply, Failure> {
        let mut work = std::pin::pin!(work);
        let outcome = loop {
            tokio::select! {
                biased;
                Some(note) = self.noted.recv() => drop(send(output, &Line::Note(note)).await),
                Some(ask) = self.asks.recv() => drop(send(output, &Line::Ask(ask)).await),
                order = self.orders.next() => self.export(order, output).await,
                () = self.gone.cancelled(), if self.exports => return Err(Failure::new("the command disconnected")),
                outcome = &mut work => break outcome,
            }
        };
        while let Ok(note) = self.noted.try_recv() {
            let _ = send(output, &Line::Note(note)).await;
        }
        outcome
    }

    /// Passes an order of an export on to the command.
    async fn export(&mut self, order: ExportOrder, output: &mut (impl AsyncWriteExt + Unpin)) {
        let written = match order {
            ExportOrder::File { path, size } => send(output, &Line::Write(Write::File { path, size })).await,
            ExportOrder::Bytes(bytes) => send_bytes(output, &bytes).await,
            // The command completes it once it knows the outcome.
            ExportOrder::Finish => return self.orders.end(Ok(())),
        };
        if written.is_err() {
            self.orders.end(written);
        }
    }
}

async fn send(output: &mut (impl AsyncWriteExt + Unpin), line: &Line) -> io::Result<()> {
    let mut json = serde_json::to_vec(line)?;
    json.push(b'\n');
    output.write_all(&json).await
}

async fn send_bytes(output: &mut (impl AsyncWriteExt + Unpin), bytes: &[u8]) -> io::Result<()> {
    for chunk in bytes.chunks(MAX_WRITE_BYTES) {
        send(output, &Line::Write(Write::Bytes(chunk.len()))).await?;
        output.write_all(chunk).await?;
    }
    Ok(())
}
