use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::channel,
    },
};

use redb::{Builder, ReadableTable, StorageBackend, TableDefinition, backends::InMemoryBackend};

use super::*;

const ROWS: TableDefinition<u64, &[u8]> = TableDefinition::new("rows");
const SETTINGS: Settings = Settings { cache_bytes: 1 << 20, quick_repair: true };

fn row(n: u64) -> Vec<u8> {
    n.to_le_bytes().repeat(4096 / 8)
}

/// Writes rows of 4 KiB in transactions of 64, and deletes all but every 100th.
fn make_sparse(database: &Database, rows: u64) {
    for first in (0..rows).step_by(64) {
        change(database, |table| {
            (first..rows.min(first + 64)).try_for_each(|n| table.insert(n, &*row(n)).map(drop))
        });
    }
    change(database, |table| table.retain(|n, _| n % 100 == 99));
}

fn change(
    database: &Database,
    with: impl FnOnce(&mut redb::Table<u64, &'static [u8]>) -> Result<(), redb::StorageError>,
) {
    let written = database.write(|write| Ok::<_, redb::Error>(with(&mut write.open_table(ROWS)?)?));
    written.unwrap();
}

/// The rows, each of which must be as it was written.
fn rows(database: &Database) -> Vec<u64> {
    let read = database.read(|read| {
        let mut rows = Vec::new();
        for entry in read.open_table(ROWS)?.iter()? {
            let (n, bytes) = entry?;
            assert_eq!(bytes.value(), row(n.value()));
            rows.push(n.value());
        }
        Ok::<_, redb::Error>(rows)
    });
    read.unwrap()
}

fn sparse_in(dir: &Path, rows: u64) -> Database {
    let database = Database::open(&dir.join("rows.redb"), SETTINGS).unwrap();
    make_sparse(&database, rows);
    database
}

#[test]
fn compaction_returns_free_pages_to_the_file_system_and_keeps_all_rows() {
    let dir = tempfile::tempdir().unwrap();
    let database = sparse_in(dir.path(), 6000);
    let (before, expected) = (database.usage().unwrap(), rows(&database));
    assert!(before.is_sparse() && before.file_bytes > 20 << 20, "{before:?}");
    assert_eq!((expected.len() as u64, database.rows().unwrap()), (60, 60));
    assert!(database.compact(Duration::ZERO).unwrap());
    let after = database.usage().unwrap();
    assert!(after.file_bytes < 1 << 20 && !after.is_sparse(), "{after:?}");
    assert_eq!(rows(&database), expected);
    change(&database, |table| table.insert(1, &*row(1)).map(drop));
    drop(database);
    let database = Database::open(&dir.path().join("rows.redb"), SETTINGS).unwrap();
    assert_eq!(rows(&database).len(), 61);
}

#[test]
fn a_sparse_file_is_compacted_when_it_is_opened_and_a_small_or_full_one_is_left_alone() {
    for (count, shrinks) in [(6000, true), (600, false)] {
        let dir = tempfile::tempdir().unwrap();
        let before = sparse_in(dir.path(), count).file_bytes();
        let database = Database::open(&dir.path().join("rows.redb"), SETTINGS).unwrap();
        database.compact_if_sparse();
        assert_eq!(database.file_bytes() < before / 2, shrinks, "{before}: {}", database.file_bytes());
    }
    let full = FileUsage { file_bytes: 100 << 20, row_bytes: 60 << 20 };
    assert!(!full.is_sparse() && FileUsage { row_bytes: 40 << 20, ..full }.is_sparse());
}

#[test]
fn compaction_waits_for_the_end_of_a_snapshot_which_sees_what_was_there_when_it_began() {
    let dir = tempfile::tempdir().unwrap();
    let database = sparse_in(dir.path(), 6000);
    let snapshot = database.snapshot().unwrap();
    change(&database, |table| table.insert(1, &*row(1)).map(drop));
    assert!(snapshot.open_table(ROWS).unwrap().get(1).unwrap().is_none());
    assert!(rows(&database).contains(&1));
    assert!(!database.compact(Duration::from_millis(50)).unwrap());
    thread::scope(|scope| {
        let compaction = scope.spawn(|| database.compact(Duration::from_secs(60)));
        thread::sleep(Duration::from_millis(100));
        drop(snapshot);
        assert!(compaction.join().unwrap().unwrap());
    });
    assert!(rows(&database).contains(&1));
}

#[test]
fn compaction_waits_for_open_transactions_without_holding_back_new_ones() {
    let dir = tempfile::tempdir().unwrap();
    let database = Arc::new(sparse_in(dir.path(), 600));
    let (begun, reading) = channel();
    let (end, ends) = channel::<()>();
    let slow = {
        let (database, ends) = (database.clone(), std::sync::Mutex::new(ends));
        std::thread::spawn(move || {
            database.read(|_| {
                begun.send(()).unwrap();
                ends.lock().unwrap().recv().unwrap();
                Ok::<_, redb::Error>(())
            })
        })
    };
    reading.recv().unwrap();
    assert!(!database.compact(Duration::ZERO).unwrap(), "a transaction is open");
    let compaction = {
        let database = database.clone();
        std::thread::spawn(move || database.compact(Duration::from_secs(60)).unwrap())
    };
    // Readers get through while it waits.
    for _ in 0..50 {
        assert_eq!(rows(&database).len(), 6);
    }
    assert!(!compaction.is_finished());
    end.send(()).unwrap();
    slow.join().unwrap().unwrap();
    assert!(compaction.join().unwrap());
    assert_eq!(rows(&database).len(), 6);
}

/// A file in memory whose process dies after so many writes, which the system keeps.
#[derive(Clone, Debug)]
struct KilledFile {
    memory: Arc<InMemoryBackend>,
    left: Arc<AtomicU64>,
}

impl KilledFile {
    fn step(&self) -> io::Result<()> {
        let left = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        left.map(drop).map_err(|_| io::Error::other("killed"))
    }
}

impl StorageBackend for KilledFile {
    fn len(&self) -> io::Result<u64> {
        self.memory.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.memory.read(offset, out)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.step()?;
        self.memory.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.step()?;
        self.memory.write(offset, data)
    }
}

fn copy_of(bytes: &[u8]) -> Arc<InMemoryBackend> {
    let memory = InMemoryBackend::new();
    memory.set_len(bytes.len() as u64).unwrap();
    memory.write(0, bytes).unwrap();
    Arc::new(memory)
}

fn open(memory: &Arc<InMemoryBackend>, steps: u64) -> Option<Database> {
    let backend = KilledFile { memory: memory.clone(), left: Arc::new(AtomicU64::new(steps)) };
    Some(Database::of(Builder::new().create_with_backend(backend).ok()?, SETTINGS))
}

#[test]
fn a_compaction_killed_after_any_write_loses_no_row() {
    let dir = tempfile::tempdir().unwrap();
    let expected = rows(&sparse_in(dir.path(), 600));
    let bytes = std::fs::read(dir.path().join("rows.redb")).unwrap();
    let mut survived = 0;
    for steps in 0.. {
        let memory = copy_of(&bytes);
        let compacted = open(&memory, steps).is_some_and(|file| file.compact(Duration::ZERO).is_ok());
        let database = open(&memory, u64::MAX).unwrap();
        assert_eq!(rows(&database), expected, "killed after {steps} writes");
        if compacted {
            assert!(memory.len().unwrap() < bytes.len() as u64 / 2);
            break;
        }
        survived = steps;
    }
    assert!(survived > 20, "the compaction made only {survived} writes");
}
