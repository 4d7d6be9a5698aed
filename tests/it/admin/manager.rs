//! What systemd is told, by a socket that stands in for it.

use std::{
    collections::HashMap,
    os::unix::net::UnixDatagram,
    path::Path,
    time::{Duration, Instant},
};

use libtest_mimic::Trial;

use crate::harness::{Serve, blocking, trials};

const PATIENCE: Duration = Duration::from_secs(30);

pub fn trials() -> Vec<Trial> {
    trials![a_service_manager_is_told_that_the_node_is_ready_alive_reloading_and_stopping]
}

struct Manager(UnixDatagram);

impl Manager {
    fn at(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        Self(socket)
    }

    /// Waits for a message that begins so. Returns those before it.
    #[track_caller]
    fn expect(&self, begin: &str) -> Vec<String> {
        let (start, mut before, mut buffer) = (Instant::now(), Vec::new(), [0; 256]);
        while start.elapsed() < PATIENCE {
            let Ok(length) = self.0.recv(&mut buffer) else { continue };
            let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if message.starts_with(begin) {
                return before;
            }
            before.push(message);
        }
        panic!("{begin} was not said, but {before:?}");
    }
}

async fn a_service_manager_is_told_that_the_node_is_ready_alive_reloading_and_stopping() {
    blocking(|| {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("notify");
        let manager = Manager::at(&socket);
        let environment =
            HashMap::from([("NOTIFY_SOCKET", socket.to_str().unwrap()), ("WATCHDOG_USEC", "1000000")]);
        let node = Serve::start_with(&dir.path().join("node"), &[], &environment);
        assert!(manager.expect("READY=1\n").iter().all(|before| before == "WATCHDOG=1"));
        for _ in 0..3 {
            manager.expect("WATCHDOG=1");
        }
        // Without users there is nothing to read again; the manager is answered all the same.
        node.signal("HUP");
        manager.expect("RELOADING=1\nMONOTONIC_USEC=");
        manager.expect("READY=1");
        node.signal("TERM");
        manager.expect("STOPPING=1");
        assert!(node.ended().success());
    })
    .await;
}
