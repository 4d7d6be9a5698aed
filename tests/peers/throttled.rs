//! A proxy in front of a peer's TCP address that passes on only so many bytes a second: a slow link.

use std::{net::SocketAddr, time::Duration};

use libp2p::{Multiaddr, multiaddr::Protocol};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::sleep,
};

/// Bytes that are passed on at once.
const PIECE_BYTES: usize = 16 << 10;

/// Runs until it is dropped.
pub struct Throttled {
    address: String,
    running: JoinHandle<()>,
}

impl Drop for Throttled {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Throttled {
    /// Stands before a peer, whose answers come at `rate` bytes a second.
    pub async fn before(peer: &str, rate: u32) -> Self {
        let peer: Multiaddr = peer.parse().expect("an address");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let own = listener.local_addr().expect("an address");
        let mut port = None;
        let address: Multiaddr = peer
            .iter()
            .map(|part| match part {
                Protocol::Tcp(tcp) => {
                    port = Some(tcp);
                    Protocol::Tcp(own.port())
                }
                part => part,
            })
            .collect();
        let peer = SocketAddr::from(([127, 0, 0, 1], port.expect("a peer on TCP")));
        let running = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if let Ok(server) = TcpStream::connect(peer).await {
                    tokio::spawn(pass(client, server, rate));
                }
            }
        });
        Self { address: address.to_string(), running }
    }

    /// Where it listens, with the peer id of the one behind it.
    pub fn address(&self) -> &str {
        &self.address
    }
}

async fn pass(client: TcpStream, server: TcpStream, rate: u32) {
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let answers = async {
        let mut piece = vec![0; PIECE_BYTES];
        while let Ok(length @ 1..) = from_server.read(&mut piece).await {
            if to_client.write_all(&piece[..length]).await.is_err() {
                return;
            }
            sleep(Duration::from_secs_f64(length as f64 / f64::from(rate))).await;
        }
    };
    tokio::select! {
        _ = copy(&mut from_client, &mut to_server) => {}
        () = answers => {}
    }
}
