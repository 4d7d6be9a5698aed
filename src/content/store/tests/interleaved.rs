//! Rows and files agree, whatever the order in which handles on partial files come, write, save, finish and go.

use std::{
    collections::BTreeSet,
    sync::{Barrier, mpsc},
    thread,
    time::Duration,
};

use proptest::prelude::*;
use redb::{ReadableTable, TableDefinition};

use super::*;
use crate::content::store::{
    PartialBlob,
    tables::{FILES, HASHED, Hash, PARTIAL},
};

/// A deadlock shows as a test that did not end by then.
const WATCHDOG: Duration = Duration::from_secs(120);

/// Runs a story on a thread of its own, and fails where it does not end.
fn watched(story: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::channel();
    let story = thread::spawn(move || {
        story();
        let _ = done.send(());
    });
    match ended.recv_timeout(WATCHDOG) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("deadlock: not done after {WATCHDOG:?}"),
        _ => story.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Arrive,
    Node,
    Leaf(usize),
    Checkpoint,
    Drop,
    Finish,
    Discard,
    /// Garbage collection takes the file, stored or in part.
    Collect,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Arrive),
        3 => Just(Step::Node),
        4 => (0..2usize).prop_map(Step::Leaf),
        3 => Just(Step::Checkpoint),
        3 => Just(Step::Drop),
        2 => Just(Step::Finish),
        1 => Just(Step::Discard),
        1 => Just(Step::Collect),
    ]
}

/// Two leaves and a root over them, too long for the index.
fn two_leaves(seed: u64) -> (Bytes, Dag) {
    let bytes = bytes(seed, MIB + 70_000);
    let dag = Dag::new(Profile::UnixfsV1, &bytes);
    (bytes, dag)
}

fn size(dag: &Dag) -> u64 {
    dag.layout.leaves.iter().map(|leaf| leaf.length).sum()
}

/// Takes one step; that a handle has ended, or the file is stored or incomplete, is not an error here.
fn apply(store: &Store, (bytes, dag): &(Bytes, Dag), handle: &mut Option<PartialBlob>, step: Step) {
    let result = match (step, &*handle) {
        (Step::Arrive, _) => {
            store.begin_partial(dag.root(), size(dag)).map(|partial| *handle = Some(partial))
        }
        (Step::Node, Some(partial)) => nodes(partial, dag),
        // Parents come before children.
        (Step::Leaf(n), Some(partial)) => nodes(partial, dag).and_then(|()| {
            let (leaf, block) = &dag.leaves[n];
            partial.write(leaf, block, 0..block.len())
        }),
        (Step::Checkpoint, Some(partial)) => partial.checkpoint(),
        (Step::Finish, Some(partial)) => partial.finish(&Digest::sha256_of(bytes), &[], |_| Ok(())).map(drop),
        (Step::Discard, Some(partial)) => partial.discard(),
        (Step::Collect, _) => collect(store, dag),
        (Step::Drop, _) => {
            *handle = None;
            Ok(())
        }
        (_, None) => Ok(()),
    };
    match result {
        Ok(()) | Err(Error::Ended(_) | Error::Stored(_) | Error::Incomplete { .. }) => {}
        Err(error) => panic!("{step:?}: {error}"),
    }
}

fn nodes(partial: &PartialBlob, dag: &Dag) -> Result<(), Error> {
    dag.layout.nodes.iter().try_for_each(|node| partial.insert_node(node.cid, node.data.clone()))
}

fn collect(store: &Store, dag: &Dag) -> Result<(), Error> {
    for id in ids(store, PARTIAL) {
        store.remove_partial(&dag.root(), id, |_| Ok(true))?;
    }
    store.remove(&dag.root()).map(drop)
}

/// The ids of a table.
fn ids<V: redb::Value + 'static>(store: &Store, table: TableDefinition<u64, V>) -> BTreeSet<u64> {
    let ids = store.0.database.read(|read| {
        let table = read.open_table(table)?;
        let rows = table.iter()?;
        rows.map(|row| Ok(row?.0.value())).collect::<Result<_, Error>>()
    });
    ids.unwrap()
}

/// Holds that each row has its file and each file its row.
fn rows_and_files_agree(dir: &Path, store: &Store) {
    let (partial, hashed) = (ids(store, PARTIAL), ids(store, HASHED));
    let stored: BTreeSet<Hash> =
        ids(store, FILES).into_iter().map(|id| store.file_row(id).unwrap().expect("its row").0).collect();
    let files = store.0.disk.all_incoming().unwrap().into_iter().collect::<BTreeSet<u64>>();
    assert_eq!(partial, files, "the rows of arriving files, and the files");
    assert!(hashed.is_subset(&partial), "{hashed:?} are hashes of files of {partial:?}");
    assert!(stored.iter().all(|sha256| store.0.disk.blob(sha256).exists()), "a stored blob has its file");
    assert_eq!(stored.len(), files_below(&dir.join("blobs")), "a file has its stored blob");
}

fn files_below(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { files_below(&path) } else { 1 }).sum()
}

/// Holds that the file can be fetched and read now.
fn can_be_had(store: &Store, (bytes, dag): &(Bytes, Dag)) {
    if store.file(&dag.root()).unwrap().is_none() {
        let partial = store.begin_partial(dag.root(), size(dag)).unwrap();
        nodes(&partial, dag).unwrap();
        dag.leaves.iter().for_each(|(leaf, block)| partial.write(leaf, block, 0..block.len()).unwrap());
        partial.finish(&Digest::sha256_of(bytes), &[], |_| Ok(())).unwrap();
    }
    let stored = store.file(&dag.root()).unwrap().expect("it is stored");
    // A handle that was opened before must not hide that the file is missing.
    store.0.sources.forget(stored.id);
    assert!(whole(store, &stored) == *bytes && dag.is_in(store));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn rows_and_files_agree_after_any_interleaving_of_two_handles(
        steps in proptest::collection::vec((0..2usize, step()), 0..24),
    ) {
        let (dir, store) = temp();
        let file = two_leaves(1);
        let mut handles = [None, None];
        for (n, step) in steps {
            apply(&store, &file, &mut handles[n], step);
        }
        drop(handles);
        rows_and_files_agree(dir.path(), &store);
        can_be_had(&store, &file);
        rows_and_files_agree(dir.path(), &store);
    }

    #[test]
    fn rows_and_files_agree_after_any_interleaving_of_three_threads(
        steps in proptest::collection::vec(proptest::collection::vec(step(), 0..12), 3),
    ) {
        watched(move || {
            let (dir, store) = temp();
            let file = two_leaves(1);
            let together = Barrier::new(steps.len());
            thread::scope(|scope| {
                for steps in &steps {
                    let (store, file, together) = (&store, &file, &together);
                    scope.spawn(move || {
                        let mut handle = None;
                        together.wait();
                        steps.iter().for_each(|step| apply(store, file, &mut handle, *step));
                    });
                }
            });
            rows_and_files_agree(dir.path(), &store);
            can_be_had(&store, &file);
        });
    }
}

#[test]
fn a_partial_row_without_extents_keeps_its_file_when_a_handle_is_dropped() {
    let (dir, store) = temp();
    let file = two_leaves(1);
    let mut handle = None;
    for step in [Step::Arrive, Step::Node, Step::Checkpoint, Step::Drop, Step::Arrive, Step::Drop] {
        apply(&store, &file, &mut handle, step);
        if handle.is_none() {
            rows_and_files_agree(dir.path(), &store);
            assert_eq!(incoming(dir.path()).len(), 1);
        }
    }
    can_be_had(&store, &file);
}

#[test]
fn a_partial_blob_whose_file_is_missing_restarts() {
    let (dir, store) = temp();
    let file = two_leaves(1);
    let mut handle = None;
    for step in [Step::Arrive, Step::Node, Step::Leaf(1), Step::Checkpoint, Step::Drop] {
        apply(&store, &file, &mut handle, step);
    }
    incoming(dir.path()).iter().for_each(|path| std::fs::remove_file(path).unwrap());
    let partial = store.begin_partial(file.1.root(), size(&file.1)).unwrap();
    assert_eq!(partial.written(), 0);
    drop(partial);
    rows_and_files_agree(dir.path(), &store);
    can_be_had(&store, &file);
}

#[test]
fn a_missing_partial_file_is_detected_before_the_commit() {
    let (dir, store) = temp();
    let file = two_leaves(1);
    let mut handle = None;
    for step in [Step::Arrive, Step::Node, Step::Leaf(0), Step::Checkpoint, Step::Leaf(1)] {
        apply(&store, &file, &mut handle, step);
    }
    incoming(dir.path()).iter().for_each(|path| std::fs::remove_file(path).unwrap());
    let partial = handle.unwrap();
    assert!(matches!(partial.finish(&Digest::sha256_of(&file.0), &[], |_| Ok(())), Err(Error::File { .. })));
    drop(partial);
    rows_and_files_agree(dir.path(), &store);
    can_be_had(&store, &file);
}
