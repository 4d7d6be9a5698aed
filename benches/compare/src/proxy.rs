//! A link of one's own: what goes through it takes its time and keeps to a rate, both ways.
//!
//! ```text
//! peer -> socket -> reader -> shapers -> line (delay, in order) -> writer -> socket -> peer
//! ```
//!
//! Each way of a connection has two threads: a thread sleeps to within 0.1 ms, an asynchronous timer
//! to within 2. The proxy answers a connection at once, so a TCP handshake costs no round trip.

mod line;
mod shaper;
#[cfg(test)]
mod tests;
mod udp;

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use socket2::SockRef;

use line::Line;
pub use shaper::Shaper;
pub use udp::UdpProxy;

/// Bytes per read: 2.6 ms on a link of 200 Mbit/s.
const CHUNK: usize = 64 << 10;
/// How far a connection may run ahead of its shapers, as the queue of a router does.
const QUEUE: Duration = Duration::from_millis(8);
/// Maximum number of bytes that the kernel may buffer in front of a shaper; more would add delay.
const IN_FRONT: usize = 128 << 10;

/// One way: the shapers that it passes, in order, and how long it then travels.
#[derive(Clone, Default)]
pub struct Way {
    pub shapers: Vec<Arc<Shaper>>,
    pub delay: Duration,
}

/// Both ways of a link, seen from who dials.
#[derive(Clone, Default)]
pub struct Link {
    pub there: Way,
    pub back: Way,
}

impl Link {
    /// A link with a round trip and, for each way, a cap in bytes a second.
    pub fn new(round_trip: Duration, cap: Option<u64>) -> Self {
        let way = || Way { shapers: cap.map(Shaper::new).into_iter().collect(), delay: round_trip / 2 };
        Self { there: way(), back: way() }
    }
}

/// A port of loopback that leads over a link to another one.
pub struct Proxy {
    address: SocketAddr,
    listener: Option<TcpListener>,
    stop: Arc<AtomicBool>,
}

impl Proxy {
    /// Takes a port, so that a peer can announce it before it listens itself.
    pub fn bind() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        Ok(Self { address: listener.local_addr()?, listener: Some(listener), stop: Arc::default() })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Leads to `target` from now on.
    pub fn lead(&mut self, target: SocketAddr, link: Link) {
        let Some(listener) = self.listener.take() else { return };
        let stop = self.stop.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                // The dialer sees a connection that ends, as with a target that is gone.
                let _ = client.and_then(|client| connect(client, target, &link));
            }
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

fn connect(client: TcpStream, target: SocketAddr, link: &Link) -> io::Result<()> {
    let server = TcpStream::connect(target)?;
    for (socket, way) in [(&client, &link.there), (&server, &link.back)] {
        socket.set_nodelay(true)?;
        if !way.shapers.is_empty() {
            SockRef::from(socket).set_recv_buffer_size(IN_FRONT)?;
        }
    }
    carry(client.try_clone()?, server.try_clone()?, link.there.clone());
    carry(server, client, link.back.clone());
    Ok(())
}

/// Carries one way until either end closes.
fn carry(mut from: TcpStream, mut to: TcpStream, way: Way) {
    let line = Arc::new(Line::default());
    let arriving = line.clone();
    thread::spawn(move || {
        while let Some(bytes) = arriving.take() {
            if to.write_all(&bytes).is_err() {
                arriving.close();
                let _ = to.shutdown(Shutdown::Both);
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
    thread::spawn(move || {
        let mut chunk = vec![0; CHUNK];
        while let Ok(n @ 1..) = from.read(&mut chunk) {
            let through = way.shapers.iter().fold(Instant::now(), |at, shaper| shaper.pass(n, at));
            if !line.put(through + way.delay, chunk[..n].to_vec()) {
                let _ = from.shutdown(Shutdown::Both);
                return;
            }
            thread::sleep(through.saturating_duration_since(Instant::now() + QUEUE));
        }
        line.end();
    });
}
