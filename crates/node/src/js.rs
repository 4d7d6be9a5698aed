//! What the Bitswap of rust-ipfs needs where peers are js-libp2p's (Helia). A Bitswap of our own will not.
//!
//! - It reads no message above 2 MiB, and Helia fills one up to 4 MiB with all blocks asked for meanwhile: such
//!   a message ends the stream, and its blocks are lost. So blocks are asked for one after another.
//! - It does not see that a stream it writes to was reset, and Helia resets one that was silent for 10 s: what is
//!   written from then on is lost without an error. So something is said every few seconds.
//!
//! Both have their price: it is paid only where such peers are at least half of those connected.

use std::time::Duration;

use libp2p::multihash::Multihash;
use rust_ipfs::repo::{DefaultStorage, Repo};

use crate::{Cid, peers::Peers};

/// How long a block may take before the next is asked for; twice as long when it is asked for again.
pub(crate) const TURN: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_secs(4);
/// Long enough that the want is written before it is cancelled.
const MOMENT: Duration = Duration::from_millis(20);
const RAW: u64 = 0x55;
const SHA2_256: u64 = 0x12;

/// Keeps the streams to such peers awake: asks for what nobody has, and cancels.
pub(crate) async fn keep_awake(repo: Repo<DefaultStorage>, peers: Peers) {
    let Ok(hash) = Multihash::wrap(SHA2_256, &rand::random::<[u8; 32]>()) else { return };
    let nothing = Cid::new_v1(RAW, hash);
    loop {
        tokio::time::sleep(SILENCE).await;
        if peers.are_mostly_js() {
            let _ = tokio::time::timeout(MOMENT, repo.get_block(nothing)).await;
        }
    }
}
