//! The same for datagrams: QUIC over a link with a delay. Nothing is lost or reordered on it.

use std::{
    collections::HashMap,
    io,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use socket2::SockRef;

use super::{Link, Way, line::Line};

/// More than a datagram of the Internet has.
const MAX_DATAGRAM: usize = 64 << 10;
/// What arrives while a thread sleeps waits here, as far as the system allows.
const BUFFER: usize = 8 << 20;
/// How often it is looked whether the proxy is gone.
const LOOK: Duration = Duration::from_millis(200);

/// A UDP port of loopback that leads over a link to another one.
pub struct UdpProxy {
    address: SocketAddr,
    socket: Arc<UdpSocket>,
    stop: Arc<AtomicBool>,
}

impl UdpProxy {
    /// Takes a port, so that a peer can announce it before it listens itself.
    pub fn bind() -> io::Result<Self> {
        let socket = Arc::new(socket()?);
        Ok(Self { address: socket.local_addr()?, socket, stop: Arc::default() })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Leads to `target` from now on.
    pub fn lead(&self, target: SocketAddr, link: Link) {
        let (socket, stop) = (self.socket.clone(), self.stop.clone());
        thread::spawn(move || {
            let mut clients = HashMap::<SocketAddr, Arc<Line>>::new();
            let mut datagram = vec![0; MAX_DATAGRAM];
            while !stop.load(Ordering::Relaxed) {
                let Ok((length, client)) = socket.recv_from(&mut datagram) else { continue };
                let there = match clients.get(&client) {
                    Some(there) => there,
                    None => {
                        let opened = open(&socket, client, target, &link.back, &stop);
                        let Ok(there) = opened else { continue };
                        clients.entry(client).or_insert(there)
                    }
                };
                there.put(due(&link.there, length), datagram[..length].to_vec());
            }
            clients.values().for_each(|there| there.end());
        });
    }
}

impl Drop for UdpProxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn socket() -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(LOOK))?;
    SockRef::from(&socket).set_recv_buffer_size(BUFFER)?;
    SockRef::from(&socket).set_send_buffer_size(BUFFER)?;
    Ok(socket)
}

/// When a datagram comes out.
fn due(way: &Way, length: usize) -> Instant {
    way.shapers.iter().fold(Instant::now(), |at, shaper| shaper.pass(length, at)) + way.delay
}

/// Makes both ways of a new client; gives the one to the target.
fn open(
    socket: &Arc<UdpSocket>,
    client: SocketAddr,
    target: SocketAddr,
    back: &Way,
    stop: &Arc<AtomicBool>,
) -> io::Result<Arc<Line>> {
    let upstream = Arc::new(self::socket()?);
    upstream.connect(target)?;
    let (there, home) = (Arc::new(Line::default()), Arc::new(Line::default()));
    let (line, to) = (there.clone(), upstream.clone());
    thread::spawn(move || {
        while let Some(datagram) = line.take() {
            let _ = to.send(&datagram);
        }
    });
    let (line, to) = (home.clone(), socket.clone());
    thread::spawn(move || {
        while let Some(datagram) = line.take() {
            let _ = to.send_to(&datagram, client);
        }
    });
    let (back, stop) = (back.clone(), stop.clone());
    thread::spawn(move || {
        let mut datagram = vec![0; MAX_DATAGRAM];
        while !stop.load(Ordering::Relaxed) {
            if let Ok(length) = upstream.recv(&mut datagram) {
                home.put(due(&back, length), datagram[..length].to_vec());
            }
        }
        home.end();
    });
    Ok(there)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_keep_their_edges_and_take_the_round_trip() {
        let proxy = UdpProxy::bind().unwrap();
        let target = UdpSocket::bind("127.0.0.1:0").unwrap();
        let round_trip = Duration::from_millis(40);
        proxy.lead(target.local_addr().unwrap(), Link::new(round_trip, None));
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        for end in [&client, &target] {
            end.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        }
        client.connect(proxy.address()).unwrap();
        let start = Instant::now();
        for length in [1, 1200, 9] {
            client.send(&vec![7; length]).unwrap();
        }
        let mut datagram = [0; 2000];
        for length in [1, 1200, 9] {
            let (came, from) = target.recv_from(&mut datagram).unwrap();
            assert_eq!(came, length);
            target.send_to(&datagram[..came], from).unwrap();
        }
        for length in [1, 1200, 9] {
            assert_eq!(client.recv(&mut datagram).unwrap(), length);
        }
        assert!(start.elapsed() >= round_trip);
    }
}
