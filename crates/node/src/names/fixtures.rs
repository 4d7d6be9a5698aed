//! What the tests of names share: the names of a machine without a network, and what it says of a record.

use std::time::{Duration, SystemTime};

use libp2p::{PeerId, identity::Keypair};

use super::{Names, pubsub::Verdict};

pub const TTL: Duration = Duration::from_secs(60);

/// The names of a machine, and the directory that they are in.
pub fn machine() -> (tempfile::TempDir, Names) {
    let dir = tempfile::tempdir().unwrap();
    let names = Names::offline(dir.path(), &Keypair::generate_ed25519()).unwrap();
    (dir, names)
}

pub fn signed(by: &Names, key: &Keypair, value: &str) -> Vec<u8> {
    by.sign(key, value.into(), TTL, SystemTime::now()).unwrap().bytes().to_vec()
}

pub fn verdict(names: &Names, name: PeerId, record: &[u8]) -> &'static str {
    match names.hear(name, record.to_vec(), SystemTime::now()).unwrap() {
        Verdict::Accept => "accept",
        Verdict::Reject => "reject",
        Verdict::Ignore => "ignore",
    }
}
