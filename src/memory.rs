//! Memory budget: the memory that peers and clients can make a node use, beyond its idle use.
//!
//! | share | holds |
//! |---|---|
//! | `unread` | received bytes of streams of TCP connections that are not read yet |
//! | `blocks.proven` | messages of peers that delivered blocks, until they are stored |
//! | `blocks.others` | messages of all other peers, until they are stored |
//! | `blocks.sent` | blocks that are read ahead for peers |
//! | `pieces` | pieces of blobs on their way to clients |
//! | `documents` | manifests, indexes and descriptors while they are read and parsed |
//! | `layouts` | cached layouts |
//! | `places` | cached locations of blobs, from descriptors |
//! | `gateway` | blocks and archives of blocks on their way to clients |
//! | `adding` | layouts of files that the RPC is adding, and small files until they are stored |
//!
//! The reserve covers the rest: QUIC windows, pubsub queues and wantlists, each bounded for one peer and by the number
//! of connections.

use std::{fmt, str::FromStr};

use bytesize::ByteSize;
use ocipfs_node::BlockMemory;
use serde::Deserialize;

const MIB: u64 = 1 << 20;
/// A smaller budget has no room for one message of each kind of peer and one document.
const MIN: u64 = 48 * MIB;
const DEFAULT: u64 = 150 * MIB;

/// The budget, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "ByteSize")]
pub struct Memory(u64);

/// A budget that is too small.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("memory budget \"{}\" is too small: the minimum is {}", ByteSize(*.0), ByteSize(MIN))]
pub struct TooSmall(u64);

/// The parts of the budget, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// Bytes that streams hold unread.
    pub unread: u64,
    /// Blocks from and for peers.
    pub blocks: BlockMemory,
    /// Pieces of blobs on their way to clients.
    pub pieces: u64,
    /// Documents that are read and parsed.
    pub documents: u64,
    /// Layouts that are remembered.
    pub layouts: u64,
    /// Places of blobs that are remembered.
    pub places: u64,
    /// Blocks and archives of blocks on their way to clients.
    pub gateway: u64,
    /// What is added and not stored yet.
    pub adding: u64,
}

impl Memory {
    /// Returns the budget in bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }

    /// Divides the budget.
    pub fn shares(self) -> Shares {
        let percent = |percent: u64| self.0 / 100 * percent;
        Shares {
            unread: percent(7),
            blocks: BlockMemory { proven: percent(18), others: percent(12), sent: percent(12) },
            pieces: percent(16),
            documents: percent(15),
            layouts: percent(4),
            places: percent(3),
            gateway: percent(5),
            adding: percent(6),
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self(DEFAULT)
    }
}

impl TryFrom<ByteSize> for Memory {
    type Error = TooSmall;

    fn try_from(size: ByteSize) -> Result<Self, TooSmall> {
        if size.0 < MIN { Err(TooSmall(size.0)) } else { Ok(Self(size.0)) }
    }
}

impl FromStr for Memory {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let size: ByteSize = text.parse()?;
        size.try_into().map_err(|e: TooSmall| e.to_string())
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        ByteSize(self.0).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_memory_budget_below_the_minimum_is_rejected_with_both_sizes() {
        for (text, told) in
            [("47MiB", "\"47.0 MiB\" is too small"), ("1", "the minimum is 48.0 MiB"), ("much", "")]
        {
            let error = text.parse::<Memory>().unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
        assert_eq!("48MiB".parse(), Ok(Memory(MIN)));
        assert_eq!(Memory::default().to_string().parse(), Ok(Memory::default()));
    }

    proptest! {
        #[test]
        fn the_shares_of_any_memory_budget_sum_up_to_no_more_than_the_budget(bytes in MIN..=u64::MAX) {
            let memory = Memory::try_from(ByteSize(bytes)).unwrap();
            let Shares { unread, blocks, pieces, documents, layouts, places, gateway, adding } = memory.shares();
            let all = [unread, blocks.proven, blocks.others, blocks.sent, pieces, documents, layouts, places,
                gateway, adding];
            let sum: u128 = all.iter().map(|share| u128::from(*share)).sum();
            prop_assert!(sum <= u128::from(bytes));
            prop_assert!(all.iter().all(|share| *share > MIB), "{all:?}");
            prop_assert!(blocks.proven >= BlockMemory::MIN && blocks.others >= BlockMemory::MIN);
        }
    }
}
