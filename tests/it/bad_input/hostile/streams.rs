//! Streams whose bytes are never read, because no protocol was agreed on or their messages wait.

use std::time::Duration;

use futures::future::{join, join_all};
use libp2p::{core::muxing::SubstreamBox, identity::Keypair};
use libtest_mimic::Trial;

use super::memory::{BOUND, Memory};
use crate::{
    harness::{Layer, Serve, noise, trials, within},
    http::get,
    peers::unread::Connection,
};

/// Maximum number of connections that one peer may have, and of streams.
const CONNECTIONS: usize = 8;
const STREAMS: usize = 120;
/// Bytes that each stream may carry without being read.
const WINDOW: usize = 256 << 10;
const MULTISTREAM: &[u8] = b"\x13/multistream/1.0.0\n";
const SOON: Duration = Duration::from_secs(60);
const PULLED_WITHIN: Duration = Duration::from_secs(120);

pub fn trials() -> Vec<Trial> {
    trials![
        unread_streams_in_negotiation_take_bounded_memory_while_a_pull_goes_on,
        unread_bitswap_streams_take_bounded_memory_while_a_pull_goes_on,
    ]
}

/// Begins the choice of a protocol, says `next` and then anything.
fn carrying(next: &[u8]) -> Vec<u8> {
    let mut bytes = [MULTISTREAM, next].concat();
    bytes.resize(WINDOW, 0);
    bytes
}

/// The connections of one hostile peer, with the streams that are kept open.
async fn leave_unread(node: &Serve, bytes: &[u8]) -> Vec<(Connection, Vec<SubstreamBox>)> {
    let key = Keypair::generate_ed25519();
    let connections = (0..CONNECTIONS).map(|_| async {
        let connection = Connection::dial(&key, node.address()).await;
        let streams = connection.leave_unread(STREAMS, bytes).await;
        (connection, streams)
    });
    join_all(connections).await
}

/// Checks that memory stays below `bound` while a file of 256 MiB is pulled in parallel to streams with these
/// bytes.
async fn pull_finishes_despite(bytes: Vec<u8>, bound: u64) {
    let provider = Serve::start(&[]);
    let layer = Layer::add(&provider, &noise(256 << 20));
    let reader = Serve::start(&["--peer", provider.address()]);
    reader.until("the provider is connected", |status| status["peers"] == 1).await;
    let memory = Memory::watch(&reader);
    let url = reader.url(&layer.blob_path());
    let pull = within(PULLED_WITHIN, get(&url));
    let (answer, unread) = join(pull, leave_unread(&reader, &bytes)).await;
    assert!(answer.status == 200 && answer.body == layer.bytes, "{}", answer.status);
    memory.stayed_below(bound);
    drop(unread);
    within(SOON, reader.until("only the provider is connected", |status| status["peers"] == 1)).await;
    assert!(!reader.log().contains("panicked"), "{}", reader.log());
}

/// Each question is answered with a list of protocols. The answers are not read, so the further questions are not either.
async fn unread_streams_in_negotiation_take_bounded_memory_while_a_pull_goes_on() {
    pull_finishes_despite(carrying(&b"\x03ls\n".repeat(5000)), BOUND).await;
}

/// A message that is as long as one may be, of a peer that was asked for nothing.
async fn unread_bitswap_streams_take_bounded_memory_while_a_pull_goes_on() {
    pull_finishes_despite(carrying(b"\x13/ipfs/bitswap/1.2.0\n\x80\x80\x80\x02"), BOUND).await;
}
