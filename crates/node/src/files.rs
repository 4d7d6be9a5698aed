//! Blocks read from rust-ipfs's files without its hashing, for DAGs that were verified before.

use std::{
    fs::File,
    io::{self, ErrorKind, Read},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;

use crate::Cid;

/// Where rust-ipfs keeps its blocks below the node directory.
pub(crate) fn blocks_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("blocks")
}

/// Buffers kept for the next reads: enough for one stream, with blocks of 1 MiB.
const MOST_SPARE: usize = 8;

/// Memory that was written to before; new pages cost as much as the copying.
type Spare = Arc<Mutex<Vec<Vec<u8>>>>;

/// The files of one node directory. Clones share their buffers.
#[derive(Clone)]
pub(crate) struct Files {
    dir: PathBuf,
    spare: Spare,
}

impl Files {
    /// Reads below rust-ipfs's own directory `blocks`.
    pub fn new(blocks: &Path) -> Self {
        Self { dir: blocks.join("blockstore"), spare: Spare::default() }
    }

    /// Reads a block as it is; none if it is not there.
    pub async fn read(&self, cid: &Cid) -> io::Result<Option<Bytes>> {
        let (path, spare) = (self.path(cid), self.spare.clone());
        tokio::task::spawn_blocking(move || {
            let mut file = match File::open(path) {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                other => other?,
            };
            let bytes = locked(&spare, Vec::pop).unwrap_or_default();
            let mut buffer = Buffer { bytes, spare };
            buffer.bytes.clear();
            file.read_to_end(&mut buffer.bytes)?;
            Ok(Some(Bytes::from_owner(buffer)))
        })
        .await?
    }

    /// rust-ipfs's layout: a block is named by its CIDv1, in a directory of the two characters before the last.
    fn path(&self, cid: &Cid) -> PathBuf {
        let name = Cid::new_v1(cid.codec(), *cid.hash()).to_string();
        let shard = name.len().checked_sub(3).map_or("_", |start| &name[start..start + 2]);
        self.dir.join(shard).join(format!("{name}.data"))
    }
}

fn locked<T>(spare: &Spare, with: impl FnOnce(&mut Vec<Vec<u8>>) -> T) -> T {
    with(&mut spare.lock().unwrap_or_else(PoisonError::into_inner))
}

/// A block's bytes, whose memory is kept for another when the last reader is done.
struct Buffer {
    bytes: Vec<u8>,
    spare: Spare,
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        locked(&self.spare, |spare| {
            if spare.len() < MOST_SPARE {
                spare.push(bytes);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use crate::{Block, Node};

    use super::*;

    /// A leaf and a node of a version without a codec; what they hash plays no part here.
    const CIDS: [&str; 2] = [
        "bafkreifzjut3te7nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e",
        "QmaozNR7DZHQK1ZcU9p7QdrshMvXqWK6gpu5rmrkPdT3L4",
    ];

    #[tokio::test]
    async fn what_rust_ipfs_wrote_is_found_under_every_version_of_its_cid() {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::open_offline(dir.path()).await.unwrap();
        let files = Files::new(&blocks_dir(dir.path()));
        for cid in CIDS.map(|text| text.parse::<Cid>().unwrap()) {
            assert_eq!(files.read(&cid).await.unwrap(), None);
            node.put(vec![Block { cid, data: "hello world".into() }]).await.unwrap();
            assert_eq!(files.read(&cid).await.unwrap().unwrap(), "hello world");
            let v1 = Cid::new_v1(cid.codec(), *cid.hash());
            assert_eq!(files.read(&v1).await.unwrap().unwrap(), "hello world");
        }
    }

    #[tokio::test]
    async fn a_buffer_is_not_used_again_while_it_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::open_offline(dir.path()).await.unwrap();
        let files = Files::new(&blocks_dir(dir.path()));
        let [one, other] = CIDS.map(|text| text.parse::<Cid>().unwrap());
        node.put(vec![
            Block { cid: one, data: "first block".into() },
            Block { cid: other, data: "second".into() },
        ])
        .await
        .unwrap();
        let slice = files.read(&one).await.unwrap().unwrap().slice(6..);
        assert_eq!(files.read(&other).await.unwrap().unwrap(), "second");
        assert_eq!(slice, "block");
        drop(slice);
        assert_eq!(files.read(&other).await.unwrap().unwrap(), "second");
        assert_eq!(locked(&files.spare, |spare| spare.len()), 2);
    }
}
