//! Memory that a burst took is given back.

use std::time::Duration;

use futures::future::join_all;
use libp2p::identity::Keypair;
use libtest_mimic::Trial;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::memory;
use crate::{
    harness::{Layer, Serve, noise, trials},
    peers::unread::Connection,
};

const DEAF_CLIENTS: usize = 300;
const PEERS: usize = 200;
/// Dialled at a time: fewer than the handshakes that a node has under way at once.
const DIALLED: usize = 20;
/// Memory that may remain: grown pools, and gaps between live allocations.
const MAY_STAY: u64 = 30 << 20;
const SOON: Duration = Duration::from_secs(60);

pub fn trials() -> Vec<Trial> {
    trials![memory_is_released_after_a_burst_of_clients_and_peers_that_do_not_read]
}

/// Asks for a blob, and reads only the first byte of the answer.
async fn deaf_client(node: &Serve, path: &str) -> TcpStream {
    let mut client = TcpStream::connect(node.registry()).await.expect("a connection");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", node.registry());
    client.write_all(request.as_bytes()).await.expect("a request");
    client.read_u8().await.expect("an answer");
    client
}

/// Connects as many peers, each of which leaves a stream unread.
async fn peers(node: &Serve) -> Vec<Connection> {
    let mut connections = Vec::new();
    while connections.len() < PEERS {
        let dialled = join_all((0..DIALLED).map(|_| async {
            let connection = Connection::dial(&Keypair::generate_ed25519(), node.address()).await;
            let streams = connection.leave_unread(1, &[0; 32 << 10]).await;
            drop(streams);
            connection
        }));
        connections.extend(dialled.await);
    }
    connections
}

async fn memory_is_released_after_a_burst_of_clients_and_peers_that_do_not_read() {
    let node = Serve::start(&[]);
    let layer = Layer::add(&node, &noise(16 << 20));
    let before = memory::rss_anon(node.pid());
    let path = layer.blob_path();
    let clients = join_all((0..DEAF_CLIENTS).map(|_| deaf_client(&node, &path))).await;
    let peers = peers(&node).await;
    node.until("the peers are connected", |status| status["peers"] == PEERS).await;
    let burst = memory::rss_anon(node.pid());
    eprintln!("{} KiB before, {} KiB in the burst", before >> 10, burst >> 10);
    assert!(burst > before + MAY_STAY, "the burst took too little to tell: {} MiB", burst >> 20);
    drop((clients, peers));
    memory::falls_to(&node, before + MAY_STAY, SOON).await;
}
