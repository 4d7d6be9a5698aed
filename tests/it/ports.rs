//! Ports for servers that cannot say which one the system gave them, and for addresses at which nothing answers.

use std::{
    net::{TcpListener, UdpSocket},
    ops::Range,
    sync::atomic::{AtomicUsize, Ordering},
};

/// Below the ports that the system gives to clients and to listeners on port 0: no other test takes one in between.
const PORTS: Range<usize> = 20_000..32_000;

/// A port of loopback that is free for TCP and UDP, which is returned once.
pub fn free_port() -> u16 {
    static RETURNED: AtomicUsize = AtomicUsize::new(0);
    let first = std::process::id() as usize;
    loop {
        let number = first + RETURNED.fetch_add(1, Ordering::Relaxed);
        let port = (PORTS.start + number % PORTS.len()) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() && UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
