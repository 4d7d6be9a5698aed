//! The command's side of an export: writes what the instance sends.

use std::{io, path::PathBuf, time::Duration};

use bytes::Bytes;
use tokio::{
    io::{AsyncBufRead, AsyncReadExt},
    time::timeout,
};

use super::{Destination, MAX_WRITE_BYTES};
use crate::{
    control::{Failure, failure::unwritable, message::Write},
    images::{
        archive::clean,
        export::{ExportOrder, ExportTarget},
    },
};

/// How long an interrupted command waits until its files are removed.
const ABANDON_TIMEOUT: Duration = Duration::from_secs(2);

/// An export that is made with the first order.
pub struct Written {
    path: PathBuf,
    target: ExportState,
}

enum ExportState {
    Planned(Option<Destination>),
    Open(ExportTarget),
}

impl Written {
    /// Begins with nothing.
    pub fn new(destination: Destination) -> Self {
        Self { path: destination.path.clone(), target: ExportState::Planned(Some(destination)) }
    }

    /// Carries out an order of a running node; its bytes come from `input`.
    pub async fn receive(
        &mut self,
        order: Write,
        input: &mut (impl AsyncBufRead + Unpin),
    ) -> Result<(), Failure> {
        let order = match order {
            Write::File { path, size } => ExportOrder::File { path, size },
            Write::Bytes(length) => {
                ExportOrder::Bytes(read(length, input).await.map_err(|e| self.failed(e))?)
            }
        };
        self.order(order).await
    }

    /// Carries out an order.
    pub async fn order(&mut self, order: ExportOrder) -> Result<(), Failure> {
        self.write(order).await.map_err(|e| self.failed(e))
    }

    async fn write(&mut self, order: ExportOrder) -> io::Result<()> {
        match order {
            // The node may be another user's.
            ExportOrder::File { path, .. } if !clean(path.as_bytes()).is_ok_and(|clean| clean == path) => {
                Err(io::Error::other(format!("the node sent the invalid path {path:?}")))
            }
            ExportOrder::File { path, size } => self.open()?.file(&path, size).await,
            ExportOrder::Bytes(bytes) => self.open()?.write(bytes).await,
            // Once the outcome is known.
            ExportOrder::Finish => Ok(()),
        }
    }

    fn open(&mut self) -> io::Result<&mut ExportTarget> {
        if let ExportState::Planned(destination) = &mut self.target {
            let destination = destination.take().ok_or_else(|| io::Error::other("export aborted"))?;
            self.target = ExportState::Open((destination.create)()?);
        }
        match &mut self.target {
            ExportState::Open(target) => Ok(target),
            ExportState::Planned(_) => Err(io::Error::other("export aborted")),
        }
    }

    /// Completes the written files.
    pub async fn finish(self) -> Result<(), Failure> {
        match self.target {
            ExportState::Open(target) => target.finish().await.map_err(|e| unwritable(&self.path, e)),
            ExportState::Planned(_) => Ok(()),
        }
    }

    /// Leaves nothing, unless what is written blocks.
    pub async fn abandon(self) {
        if let ExportState::Open(target) = self.target {
            let _ = timeout(ABANDON_TIMEOUT, target.abandon()).await;
        }
    }

    fn failed(&self, error: io::Error) -> Failure {
        unwritable(&self.path, error)
    }
}

async fn read(length: usize, input: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Bytes> {
    if length > MAX_WRITE_BYTES {
        return Err(io::Error::other("the node sent more than can be written at once"));
    }
    let mut bytes = Vec::with_capacity(length);
    input.take(length as u64).read_to_end(&mut bytes).await?;
    match bytes.len() == length {
        true => Ok(bytes.into()),
        false => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the node disconnected")),
    }
}
