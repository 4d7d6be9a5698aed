use bytes::Bytes;
use futures::{StreamExt, stream};

use super::*;

#[tokio::test]
async fn stale_saved_upload_is_deleted_unless_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let uploads = Uploads::new(store, Profile::UnixfsV1, Duration::from_secs(1));
    let mut upload = uploads.begin("app").unwrap();
    let id = upload.id().to_string();
    let body = [Ok::<_, String>(Bytes::from_static(&[7; 100_000]))];
    upload.append(stream::iter(body)).await.unwrap();
    upload.save().await.unwrap();
    let (soon, late) = (now() + SAVED_LIFETIME.as_secs() - 60, now() + SAVED_LIFETIME.as_secs() + 60);
    let files = || std::fs::read_dir(dir.path().join("incoming")).unwrap().count();
    uploads.sweep_at(late).await.unwrap();
    assert_eq!((upload.length(), files()), (100_000, 1), "a client is writing to it");
    drop(upload);
    uploads.forget(&id);
    uploads.sweep_at(soon).await.unwrap();
    let found = uploads.find("app", &id).await.unwrap().map(|upload| upload.length());
    assert_eq!((found, files()), (Some(100_000), 1));
    uploads.forget(&id);
    uploads.sweep_at(late).await.unwrap();
    assert!(uploads.find("app", &id).await.unwrap().is_none());
    assert_eq!(files(), 0);
}

fn uploads(dir: &std::path::Path, stall_timeout: Duration) -> Uploads {
    Uploads::new(Store::open(dir).unwrap(), Profile::UnixfsV1, stall_timeout)
}

fn body(bytes: &[u8]) -> impl futures::Stream<Item = Result<Bytes, String>> + Unpin + use<> {
    stream::iter([Ok(Bytes::copy_from_slice(bytes))])
}

#[tokio::test]
async fn stalled_upload_bodies_release_their_slot_to_others() {
    let dir = tempfile::tempdir().unwrap();
    let uploads = Arc::new(uploads(dir.path(), Duration::from_secs(20)));
    let begun = Arc::new(Semaphore::new(0));
    let stuck: Vec<_> = (0..2 * MAX_BODIES)
        .map(|_| {
            let (uploads, begun) = (uploads.clone(), begun.clone());
            tokio::spawn(async move {
                let mut upload = uploads.begin("slow").unwrap();
                // Ends only with the task.
                let rest = stream::once(async move {
                    begun.add_permits(1);
                    std::future::pending().await
                });
                upload.append(body(&[1; 100]).chain(Box::pin(rest))).await
            })
        })
        .collect();
    drop(begun.acquire_many(2 * MAX_BODIES as u32).await.unwrap());
    let mut upload = uploads.begin("fast").unwrap();
    let taken = upload.append(body(&[2; 1000])).await;
    // Before anything else, since their threads wait for them.
    stuck.iter().for_each(tokio::task::JoinHandle::abort);
    taken.unwrap();
    assert_eq!(upload.length(), 1000);
}

#[tokio::test]
async fn busy_upload_bodies_share_slots_fairly_with_others() {
    let dir = tempfile::tempdir().unwrap();
    let uploads = Arc::new(uploads(dir.path(), Duration::from_secs(20)));
    let begun = Arc::new(Semaphore::new(0));
    let endless: Vec<_> = (0..MAX_BODIES)
        .map(|_| {
            let (uploads, begun) = (uploads.clone(), begun.clone());
            tokio::spawn(async move {
                let mut upload = uploads.begin("endless").unwrap();
                let parts = stream::repeat_with(|| Ok::<_, String>(Bytes::from_static(&[1; 1 << 16])));
                let parts = parts.inspect(move |_| begun.add_permits(1));
                upload.append(parts).await
            })
        })
        .collect();
    drop(begun.acquire_many(2 * MAX_BODIES as u32).await.unwrap());
    let mut upload = uploads.begin("fast").unwrap();
    let taken = upload.append(body(&[2; 1000])).await;
    endless.iter().for_each(tokio::task::JoinHandle::abort);
    taken.unwrap();
    assert_eq!(upload.length(), 1000);
}

#[tokio::test]
async fn beyond_the_limit_saved_and_then_the_longest_idle_uploads_are_evicted() {
    let dir = tempfile::tempdir().unwrap();
    let uploads = uploads(dir.path(), Duration::from_secs(5));
    let begin = |resting| uploads.begin_among("app", 3, resting);
    let mut ids = Vec::new();
    for n in 0..3 {
        let mut upload = begin(Duration::ZERO).unwrap();
        upload.append(body(&[n; 100])).await.unwrap();
        if n == 1 {
            upload.save().await.unwrap();
        }
        ids.push(upload.id().to_string());
    }
    assert!(matches!(begin(Duration::from_secs(60)), Err(Error::TooMany)), "none rests for so long");
    let busy = begin(Duration::ZERO).unwrap();
    // The saved one left the memory, and goes on; then the oldest goes.
    assert!(!locked(&uploads.live).contains_key(&ids[1]));
    drop(begin(Duration::ZERO).unwrap());
    assert!(uploads.find("app", &ids[0]).await.unwrap().is_none());
    assert!(uploads.find("app", &ids[2]).await.unwrap().is_some());
    assert_eq!(uploads.find("app", &ids[1]).await.unwrap().unwrap().length(), 100);
    assert!(!busy.has_ended(), "a request works on it");
}

#[tokio::test]
async fn abandoned_uploads_are_distinguished_from_active_ones_and_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let uploads = uploads(dir.path(), Duration::from_secs(5));
    let (mut busy, mut idle) = (uploads.begin("a").unwrap(), uploads.begin("b").unwrap());
    busy.append(body(&[1; 100_000])).await.unwrap();
    idle.append(body(&[2; 300_000])).await.unwrap();
    let id = idle.id().to_string();
    drop(idle);
    let mut saved = uploads.begin("c").unwrap();
    saved.append(body(&[3; 500_000])).await.unwrap();
    saved.save().await.unwrap();
    uploads.forget(saved.id());
    drop(saved);
    let usage = uploads.usage().await.unwrap();
    assert_eq!((usage.under_way, usage.under_way_bytes), (2, 400_000));
    assert_eq!((usage.abandoned, usage.abandoned_bytes), (1, 500_000), "it is not in memory");
    let late = now() + SAVE_IDLE_AFTER.as_secs() + 1;
    let abandoned = UploadUsage { under_way: 1, under_way_bytes: 100_000, abandoned: 2, ..usage };
    for dry in [true, false] {
        let dropped = uploads.drop_abandoned_at(late, dry).await.unwrap();
        assert_eq!(
            dropped,
            UploadUsage { abandoned_bytes: 800_000, oldest_seconds: dropped.oldest_seconds, ..abandoned }
        );
    }
    assert_eq!(uploads.usage().await.unwrap().abandoned, 0);
    assert!(
        uploads.find("b", &id).await.unwrap().is_none() && uploads.store.saved_uploads().unwrap().is_empty()
    );
}

#[tokio::test]
async fn shutdown_saves_all_received_bytes_of_a_streamed_upload() {
    let dir = tempfile::tempdir().unwrap();
    let uploads = Arc::new(uploads(dir.path(), Duration::from_secs(60)));
    let mut upload = uploads.begin("app").unwrap();
    upload.append(body(&[1; 70_000])).await.unwrap();
    let id = upload.id().to_string();
    let (more, mut parts) = futures::channel::mpsc::unbounded::<Result<Bytes, String>>();
    more.unbounded_send(Ok(Bytes::from_static(&[2; 30_000]))).unwrap();
    let streaming = tokio::spawn(async move {
        let result = upload.append(&mut parts).await;
        drop(upload);
        result
    });
    uploads.save_all().await;
    assert!(matches!(streaming.await.unwrap(), Err(Error::BrokenOff(_))));
    let saved = uploads.store.saved_upload(&id).unwrap().expect("it is saved");
    assert!([70_000, 100_000].contains(&saved.length), "{}", saved.length);
}

/// The lengths of all files of the store.
fn on_disk(dir: &std::path::Path) -> u64 {
    let mut length = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        length += if entry.file_type().unwrap().is_dir() {
            on_disk(&entry.path())
        } else {
            entry.metadata().unwrap().len()
        };
    }
    length
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Begin,
    /// Bytes to the upload of this number.
    Part(usize, usize),
    Save(usize),
    /// It leaves the memory.
    Rest(usize),
    Cancel(usize),
    /// Ends with the right digest, or another.
    Finish(usize, bool),
    Restart,
}

fn steps() -> impl proptest::strategy::Strategy<Value = Vec<Step>> {
    use proptest::prelude::*;
    let step = prop_oneof![
        2 => Just(Step::Begin),
        6 => (0..4usize, 1..5usize).prop_map(|(n, size)| Step::Part(n, size * 400_001)),
        4 => (0..4usize).prop_map(Step::Save),
        3 => (0..4usize).prop_map(Step::Rest),
        1 => (0..4usize).prop_map(Step::Cancel),
        2 => (0..4usize, proptest::bool::weighted(0.7)).prop_map(|(n, right)| Step::Finish(n, right)),
        2 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..30)
}

/// An upload as its client sees it: what it sent, and how much of that was saved.
struct Sent {
    id: String,
    bytes: Vec<u8>,
    saved: usize,
}

async fn run_steps(steps: Vec<Step>) {
    let dir = tempfile::tempdir().unwrap();
    let mut open = Some(uploads(dir.path(), Duration::from_secs(20)));
    let mut sent: Vec<Sent> = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        let here = open.as_ref().unwrap();
        let at = match step {
            Step::Part(n, _) | Step::Save(n) | Step::Rest(n) | Step::Cancel(n) | Step::Finish(n, _) => *n,
            Step::Begin | Step::Restart => usize::MAX,
        };
        let found = match sent.get(at) {
            Some(upload) => here.find("app", &upload.id).await.unwrap(),
            None => None,
        };
        match (*step, found) {
            (Step::Begin, _) if sent.len() < 4 => {
                let upload = here.begin("app").unwrap();
                sent.push(Sent { id: upload.id().into(), bytes: vec![], saved: 0 });
            }
            (Step::Part(n, size), Some(mut upload)) => {
                let part: Vec<u8> = (0..size).map(|i| (i * (number + 3)) as u8).collect();
                upload.append(body(&part)).await.unwrap();
                sent[n].bytes.extend(part);
            }
            (Step::Save(n), Some(mut upload)) => {
                upload.save().await.unwrap();
                sent[n].saved = sent[n].bytes.len();
            }
            (Step::Rest(n), Some(mut upload)) => {
                upload.drop_from_memory();
                here.forget(&sent[n].id);
                let saved = sent[n].saved;
                sent[n].bytes.truncate(saved);
            }
            (Step::Cancel(_), Some(mut upload)) => {
                upload.cancel().await.unwrap();
                here.forget(&sent.remove(at).id);
            }
            (Step::Finish(n, is_right), Some(mut upload)) => {
                let digest = Digest::sha256_of(if is_right { &sent[n].bytes } else { b"other" });
                let finished = upload.store(&digest, |_, _| Ok(())).await;
                assert_eq!(finished.is_ok(), is_right);
                here.forget(&sent.remove(n).id);
            }
            (Step::Restart, _) => {
                drop(open.take());
                open = Some(uploads(dir.path(), Duration::from_secs(20)));
                sent.iter_mut().for_each(|upload| upload.bytes.truncate(upload.saved));
            }
            _ => {}
        }
        let here = open.as_ref().unwrap();
        check_lengths(here, &mut sent, step).await;
        let files = on_disk(&dir.path().join("blobs")) + on_disk(&dir.path().join("incoming"));
        let short: u64 = small_blobs(&here.store);
        assert_eq!(here.store.used_bytes().unwrap(), files + short, "after {step:?} of {steps:?}");
    }
}

/// Checks the length of each upload. An upload that was never saved is gone when it leaves the memory.
async fn check_lengths(uploads: &Uploads, sent: &mut Vec<Sent>, step: &Step) {
    let mut gone = Vec::new();
    for upload in sent.iter() {
        match uploads.find("app", &upload.id).await.unwrap() {
            Some(found) => assert_eq!(found.length(), upload.bytes.len() as u64, "{step:?}"),
            None => gone.push(upload.id.clone()),
        }
    }
    sent.retain(|upload| !gone.contains(&upload.id));
}

/// Bytes of blobs that have no file.
fn small_blobs(store: &Store) -> u64 {
    let files = store.all_files().unwrap();
    files.iter().map(|(file, _)| file.size).filter(|size| *size <= 65_536).sum()
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]
    #[test]
    fn used_bytes_equal_the_file_lengths_after_any_uploads(steps in steps()) {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap().block_on(run_steps(steps));
    }
}

#[tokio::test]
async fn a_saved_upload_counts_once_against_the_quota_even_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let here = uploads(dir.path(), Duration::from_secs(5));
        here.store.limit(10 << 20, Box::new(|_, _, _| Ok(())));
        here
    };
    let part = vec![7; 6 << 20];
    let here = open();
    let mut upload = here.begin("app").unwrap();
    upload.append(body(&part)).await.unwrap();
    upload.save().await.unwrap();
    let id = upload.id().to_string();
    drop((upload, here));
    let here = open();
    let mut other = here.begin("app").unwrap();
    let refused = other.append(body(&part)).await;
    assert!(matches!(refused, Err(Error::Store(StoreError::Quota { .. }))), "{refused:?}");
    drop(other);
    here.sweep_at(now()).await.unwrap();
    let mut upload = here.find("app", &id).await.unwrap().unwrap();
    upload.append(body(&part[..3 << 20])).await.unwrap();
    upload.save().await.unwrap();
    assert_eq!(here.store.used_bytes().unwrap(), 9 << 20);
}
