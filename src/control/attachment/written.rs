//! The command's side of an export: writes what the instance sends.

use std::{io, path::PathBuf};

use bytes::Bytes;
use tokio::io::{AsyncBufRead, AsyncReadExt};

use super::{Destination, MAX_WRITE_BYTES};
use crate::{
    control::{Failure, failure::unwritable, message::Write},
    images::{archive::clean, export::ExportTarget},
};

/// An export that is made with the first order.
pub struct Written {
    path: PathBuf,
    target: Target,
}

enum Target {
    Planned(Option<Destination>),
    Open(ExportTarget),
}

impl Written {
    /// Begins with nothing.
    pub fn new(destination: Destination) -> Self {
        Self { path: destination.path.clone(), target: Target::Planned(Some(destination)) }
    }

    /// Carries out an order; its bytes come from `input`.
    pub async fn order(
        &mut self,
        order: Write,
        input: &mut (impl AsyncBufRead + Unpin),
    ) -> Result<(), Failure> {
        match self.write(order, input).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.fail(error).await),
        }
    }

    async fn write(&mut self, order: Write, input: &mut (impl AsyncBufRead + Unpin)) -> io::Result<()> {
        match order {
            Write::File { path, size } => {
                // The node may be another user's.
                if !clean(path.as_bytes()).is_ok_and(|clean| clean == path) {
                    return Err(io::Error::other(format!("the node sent the invalid path {path:?}")));
                }
                self.open()?.file(&path, size).await
            }
            Write::Bytes(length) if length > MAX_WRITE_BYTES => {
                Err(io::Error::other("the node sent more than can be written at once"))
            }
            Write::Bytes(length) => {
                let mut bytes = Vec::with_capacity(length);
                input.take(length as u64).read_to_end(&mut bytes).await?;
                if bytes.len() < length {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the node disconnected"));
                }
                self.open()?.write(Bytes::from(bytes)).await
            }
        }
    }

    fn open(&mut self) -> io::Result<&mut ExportTarget> {
        if let Target::Planned(destination) = &mut self.target {
            let destination = destination.take().ok_or_else(|| io::Error::other("export aborted"))?;
            self.target = Target::Open((destination.create)()?);
        }
        match &mut self.target {
            Target::Open(target) => Ok(target),
            Target::Planned(_) => Err(io::Error::other("export aborted")),
        }
    }

    /// Completes what was written.
    pub async fn finish(self) -> Result<(), Failure> {
        match self.target {
            Target::Open(target) => target.finish().await.map_err(|e| unwritable(&self.path, e)),
            Target::Planned(_) => Ok(()),
        }
    }

    /// Leaves nothing.
    pub async fn abandon(&mut self) {
        if let Target::Open(target) = std::mem::replace(&mut self.target, Target::Planned(None)) {
            target.abandon().await;
        }
    }

    async fn fail(&mut self, error: io::Error) -> Failure {
        self.abandon().await;
        unwritable(&self.path, error)
    }
}
