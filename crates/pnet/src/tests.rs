use futures::{AsyncReadExt, AsyncWriteExt};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

use super::*;

type Connection = PnetOutput<Compat<tokio::io::DuplexStream>>;

const HELLO: &[u8] = b"\x13/multistream/1.0.0\n\x07/noise\n";

/// Connects two sides, each with the keys of a ring.
async fn connected(dialer: &KeyRing, listener: &KeyRing) -> (Connection, Connection) {
    let (one, other) = tokio::io::duplex(256 << 10);
    let config = |ring: &KeyRing| PnetConfig::new(ring.handle());
    let (one, other) =
        tokio::join!(config(dialer).handshake(one.compat()), config(listener).handshake(other.compat()),);
    (one.unwrap(), other.unwrap())
}

fn ring(dial: u8, accepted: &[u8]) -> KeyRing {
    let ring = KeyRing::new([9; 32]);
    ring.set(Keys { dial: [dial; 32], accepted: accepted.iter().map(|key| [*key; 32]).collect() });
    ring
}

/// Returns whether the two sides understand each other, in both directions.
async fn understand(dialer: &KeyRing, listener: &KeyRing) -> bool {
    let (mut one, mut other) = connected(dialer, listener).await;
    let mut received = vec![0; HELLO.len()];
    // In parts, as a network may deliver them.
    let write = async {
        for part in HELLO.chunks(7) {
            one.write_all(part).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let (received_first, ()) = tokio::join!(other.read_exact(&mut received[..3]), write);
    received_first.unwrap();
    other.read_exact(&mut received[3..]).await.unwrap();
    other.write_all(HELLO).await.unwrap();
    let mut answer = vec![0; HELLO.len()];
    one.read_exact(&mut answer).await.unwrap();
    assert_eq!(received == HELLO, answer == HELLO);
    received == HELLO
}

#[tokio::test]
async fn a_listener_accepts_each_of_its_keys_on_one_port() {
    for (dialer, listener, expected) in [
        (ring(1, &[]), ring(1, &[]), true),
        (ring(1, &[]), ring(2, &[]), false),
        (ring(1, &[]), ring(2, &[1]), true),
        (ring(1, &[2]), ring(2, &[1]), true),
        (ring(2, &[1]), ring(1, &[2]), true),
        (ring(1, &[2]), ring(2, &[3]), false),
        (ring(3, &[]), ring(1, &[2, 3]), true),
    ] {
        let keys = (dialer.keys().dial[0], listener.keys().dial[0]);
        assert_eq!(understand(&dialer, &listener).await, expected, "{keys:?}");
    }
}

#[tokio::test]
async fn a_plain_key_and_a_ring_of_the_same_key_understand_each_other() {
    let (one, other) = tokio::io::duplex(1024);
    let ring = ring(7, &[]);
    let (plain, ringed) = tokio::join!(
        PnetConfig::new(PreSharedKey::new([7; 32])).handshake(one.compat()),
        PnetConfig::new(ring.handle()).handshake(other.compat()),
    );
    let (mut plain, mut ringed) = (plain.unwrap(), ringed.unwrap());
    plain.write_all(b"hello").await.unwrap();
    let mut received = [0; 5];
    ringed.read_exact(&mut received).await.unwrap();
    assert_eq!(&received, b"hello");
}

#[tokio::test]
async fn a_replaced_key_is_used_by_new_connections_and_open_ones_go_on() {
    let (dialer, listener) = (ring(1, &[]), ring(1, &[]));
    let (mut one, mut other) = connected(&dialer, &listener).await;
    one.write_all(HELLO).await.unwrap();
    let mut received = vec![0; HELLO.len()];
    other.read_exact(&mut received).await.unwrap();
    dialer.set(Keys { dial: [2; 32], accepted: Vec::new() });
    listener.set(Keys { dial: [2; 32], accepted: Vec::new() });
    let large: Vec<u8> = (0..200_000u32).map(|byte| byte as u8).collect();
    one.write_all(&large).await.unwrap();
    one.flush().await.unwrap();
    let mut received = vec![0; large.len()];
    other.read_exact(&mut received).await.unwrap();
    assert!(received == large);
    assert!(understand(&dialer, &listener).await);
    assert!(!understand(&dialer, &ring(1, &[])).await);
}

#[tokio::test]
async fn the_handle_of_a_dropped_ring_opens_nothing() {
    let handle = ring(1, &[]).handle();
    assert_ne!(ring::keys_of(&handle.0).dial, [1; 32]);
}
