//! Fixtures of the IPNS tests: the names of a machine without a network, and its verdict on a record.

use std::time::{Duration, SystemTime};

use libp2p::{PeerId, identity::Keypair};

use super::IpnsNames;
use crate::command::Verdict;

pub const TTL: Duration = Duration::from_secs(60);

/// Returns the names of a machine, and its directory.
pub fn machine() -> (tempfile::TempDir, IpnsNames) {
    let dir = tempfile::tempdir().unwrap();
    let names = IpnsNames::offline(dir.path(), &Keypair::generate_ed25519()).unwrap();
    (dir, names)
}

/// Returns the names of a member of a private swarm, where expired records are used.
pub fn member() -> (tempfile::TempDir, IpnsNames) {
    let dir = tempfile::tempdir().unwrap();
    let dns = super::dnslink::DnsResolver::offline();
    let names = IpnsNames::with(dir.path(), &Keypair::generate_ed25519(), dns, true).unwrap();
    (dir, names)
}

pub fn signed(by: &IpnsNames, key: &Keypair, value: &str) -> Vec<u8> {
    by.sign(key, value.into(), TTL, SystemTime::now()).unwrap().bytes().to_vec()
}

pub fn verdict(names: &IpnsNames, name: PeerId, record: &[u8]) -> &'static str {
    match names.ingest(name, record.to_vec(), SystemTime::now()).unwrap() {
        Verdict::Accept => "accept",
        Verdict::Reject => "reject",
        Verdict::Ignore => "ignore",
    }
}
