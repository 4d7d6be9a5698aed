use std::{sync::mpsc, thread, time::Duration};

use multihash_codetable::{Code, MultihashDigest};

use super::*;

/// A deadlock shows as a round that did not end by then.
const WATCHDOG: Duration = Duration::from_secs(60);

#[test]
fn dropping_the_last_handle_while_another_opens_does_not_deadlock() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let root = Cid::new_v1(0x55, Code::Sha2_256.digest(b"root"));
    for _ in 0..100 {
        let ended = store.begin_partial(root, 1 << 20).unwrap();
        ended.discard().unwrap();
        // The other thread takes hold of the handle that ended, and waits here to see that it has.
        let state = ended.0.state();
        let (done, arrived) = mpsc::channel();
        let other = store.clone();
        thread::spawn(move || done.send(other.begin_partial(root, 1 << 20).is_ok()));
        while Arc::strong_count(&ended.0) < 2 {
            thread::yield_now();
        }
        drop(state);
        // Now, or a little later, the other thread has the last one.
        drop(ended);
        assert_eq!(arrived.recv_timeout(WATCHDOG), Ok(true), "a deadlock");
    }
}
