//! Stores for tests that count: an index that counts what is written to it, and one of many blobs that is made at once.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use multihash_codetable::{Code, MultihashDigest};
use ocipfs_node::Cid;
use redb::{StorageBackend, backends::InMemoryBackend};

use super::{BlobLayout, Database, Store, files::NewBlobRow, tables::Tables};

#[derive(Debug, Default)]
struct Counting {
    memory: InMemoryBackend,
    written: Arc<AtomicU64>,
    reads: Arc<AtomicU64>,
}

impl StorageBackend for Counting {
    fn len(&self) -> io::Result<u64> {
        self.memory.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.memory.read(offset, out)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.memory.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.memory.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.written.fetch_add(data.len() as u64, Ordering::Relaxed);
        self.memory.write(offset, data)
    }
}

/// Such an index, and the bytes that were written to it so far.
pub fn counting() -> (Arc<Database>, Arc<AtomicU64>) {
    let backend = Counting::default();
    let written = backend.written.clone();
    let database = redb::Database::builder().create_with_backend(backend).unwrap();
    let file = ocipfs_node::database::Database::of(database, super::database::SETTINGS);
    (Arc::new(Database::of(file)), written)
}

/// Such an index without a cache, and how often it was read so far.
pub fn counting_reads() -> (Arc<Database>, Arc<AtomicU64>) {
    let backend = Counting::default();
    let reads = backend.reads.clone();
    let database = redb::Database::builder().set_cache_size(0).create_with_backend(backend).unwrap();
    let file = ocipfs_node::database::Database::of(database, super::database::SETTINGS);
    (Arc::new(Database::of(file)), reads)
}

/// Puts so many small blobs into a store in one commit; their roots.
pub fn fill(store: &Store, blobs: u32) -> Vec<Cid> {
    let roots: Vec<Cid> = (0..blobs)
        .map(|n| Cid::new_v1(0x55, Code::Sha2_256.digest(format!("blob {n}").as_bytes())))
        .collect();
    store
        .database()
        .write(|write| {
            let mut tables = Tables::open(write)?;
            roots.iter().try_for_each(|root| {
                let small = root.to_bytes();
                let sha256 = root.hash().digest().try_into().unwrap();
                let whole =
                    NewBlobRow { sha256, size: small.len() as u64, aliases: &[], small: Some(&small) };
                let layout = BlobLayout { root: *root, leaves: vec![], nodes: vec![] };
                tables.add_blob(&whole)?;
                tables.add_layout(store.next_id(), &layout, &whole).map(drop)
            })
        })
        .unwrap();
    roots
}
