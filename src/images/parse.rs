//! Untrusted JSON, parsed outside the tasks that wait for peers and clients.

use std::io::{self, BufReader, Read};

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

use super::Error;
use crate::content::{self, OpenDocument};

/// The bytes of a document as they come.
pub struct Json {
    pieces: mpsc::Receiver<Bytes>,
    piece: Bytes,
}

impl Read for Json {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.piece = piece,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

/// Gives a document to `parse` piece by piece, so that only what is made of it is in memory.
pub async fn read<T: Send + 'static>(
    mut document: OpenDocument,
    parse: impl FnOnce(BufReader<Json>) -> T + Send + 'static,
) -> Result<T, Error> {
    let (give, pieces) = mpsc::channel(1);
    let parsed =
        tokio::task::spawn_blocking(move || parse(BufReader::new(Json { pieces, piece: Bytes::new() })));
    while let Some(piece) = document.next().await? {
        // It may end before the document does.
        if give.send(piece).await.is_err() {
            break;
        }
    }
    drop(give);
    parsed.await.map_err(|_| content::Error::Node(ocipfs_node::Error::Stopped).into())
}
