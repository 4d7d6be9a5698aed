//! The admission list: the peers that are members.
//!
//! A list is for one swarm, named by the sha256 of the key that was the newest when it was signed: so it counts in no other swarm of
//! the same admin. Of two lists the one with the higher sequence number counts; of two with the same number, which an admin signs
//! that was restored from a backup, the later one.

use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};
use libp2p::{
    PeerId,
    identity::{Keypair, SigningError},
};

use super::signed::{self, Refused};
use crate::bitswap::wire::fields::{self, Value, put_number, put_slice};

/// Members of a swarm with an admission list.
pub(super) const MAX_MEMBERS: usize = 4096;
const KIND: &[u8] = b"ocipfs admission list 2\n";
/// Lists that do not say for which swarm they are: a node reads that in its own directory, and takes none of a peer.
const OLD_KIND: &[u8] = b"ocipfs admission list 1\n";

/// The peers that may connect, as the admin signed them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdmissionList {
    /// Grows with each change.
    pub sequence: u64,
    /// The members, the admin's node among them.
    pub members: BTreeSet<PeerId>,
    /// The sha256 of the swarm key for which it was signed; empty in a list of an older version.
    pub swarm: String,
    /// When it was signed, in seconds since 1970 by the clock of the admin's machine; 0 in a list of an older version.
    pub issued: u64,
}

impl AdmissionList {
    /// Returns whether a peer is a member.
    pub fn contains(&self, peer: &PeerId) -> bool {
        self.members.contains(peer)
    }

    /// Returns what orders lists: the higher one counts.
    pub(super) fn version(&self) -> (u64, u64) {
        (self.sequence, self.issued)
    }

    /// Fields of protobuf: 1 is the sequence number, each 2 a peer ID, 3 the sha256 of the swarm key, 4 the time.
    fn encode(&self) -> BytesMut {
        let mut bytes = BytesMut::new();
        put_number(&mut bytes, 1, self.sequence);
        self.members.iter().for_each(|peer| put_slice(&mut bytes, 2, &peer.to_bytes()));
        put_slice(&mut bytes, 3, &hex::decode(&self.swarm).unwrap_or_default());
        put_number(&mut bytes, 4, self.issued);
        bytes
    }

    fn decode(mut bytes: Bytes) -> Result<Self, Refused> {
        let mut list = Self::default();
        while let Some((number, value)) = fields::next(&mut bytes)? {
            match (number, value) {
                (1, Value::Number(sequence)) => list.sequence = sequence,
                (2, Value::Slice(peer)) => {
                    let peer =
                        PeerId::from_bytes(&peer).map_err(|_| Refused::Malformed("a peer ID is invalid"))?;
                    list.members.insert(peer);
                }
                (3, Value::Slice(swarm)) => list.swarm = hex::encode(swarm),
                (4, Value::Number(issued)) => list.issued = issued,
                _ => {}
            }
            if list.members.len() > MAX_MEMBERS {
                return Err(Refused::TooLarge);
            }
        }
        match list.sequence {
            0 => Err(Refused::Malformed("it has no sequence number")),
            _ => Ok(list),
        }
    }
}

/// Signs a list.
pub(super) fn seal(list: &AdmissionList, admin: &Keypair) -> Result<Vec<u8>, SigningError> {
    signed::seal(admin, KIND, &list.encode())
}

/// Signs a list as an older version did.
#[cfg(test)]
pub(super) fn seal_old(list: &AdmissionList, admin: &Keypair) -> Vec<u8> {
    let old = AdmissionList { swarm: String::new(), issued: 0, ..list.clone() };
    signed::seal(admin, OLD_KIND, &old.encode()).unwrap()
}

/// Reads a list that the admin signed.
pub(super) fn open(bytes: &[u8], admin: &PeerId) -> Result<AdmissionList, Refused> {
    match signed::open(bytes, KIND, admin) {
        Ok(document) => AdmissionList::decode(Bytes::copy_from_slice(document)),
        Err(Refused::Signature(_)) if signed::open(bytes, OLD_KIND, admin).is_ok() => Err(Refused::OldList),
        Err(why) => Err(why),
    }
}

/// Reads a list from the directory of this node, which may be of an older version.
pub(super) fn open_saved(bytes: &[u8], admin: &PeerId) -> Result<AdmissionList, Refused> {
    match open(bytes, admin) {
        Err(Refused::OldList) => {
            let document = Bytes::copy_from_slice(signed::open(bytes, OLD_KIND, admin)?);
            let list = AdmissionList::decode(document)?;
            // Only these were signed then.
            Ok(AdmissionList { swarm: String::new(), issued: 0, ..list })
        }
        opened => opened,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(sequence: u64, members: usize, admin: &Keypair) -> (AdmissionList, Vec<u8>) {
        let members = (0..members).map(|_| PeerId::random()).collect();
        let list = AdmissionList { sequence, members, swarm: "ab".repeat(32), issued: 1_800_000_000 };
        let bytes = seal(&list, admin).unwrap();
        (list, bytes)
    }

    #[test]
    fn an_admission_list_is_read_as_it_was_signed() {
        let admin = Keypair::generate_ed25519();
        let id = admin.public().to_peer_id();
        for members in [0, 1, 100, MAX_MEMBERS] {
            let (list, bytes) = signed(7, members, &admin);
            assert!(bytes.len() <= signed::MAX_BYTES);
            assert_eq!(open(&bytes, &id).unwrap(), list);
        }
    }

    #[test]
    fn an_admission_list_of_another_admin_or_changed_on_the_way_is_refused() {
        let (admin, other) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
        let id = admin.public().to_peer_id();
        let (_, bytes) = signed(1, 3, &other);
        assert!(matches!(open(&bytes, &id), Err(Refused::Signature(_))));
        let (_, bytes) = signed(1, 3, &admin);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(matches!(open(&changed, &id), Err(Refused::Signature(_))), "{at}");
            assert!(open(&bytes[..at], &id).is_err(), "{at}");
        }
        // Nor does a signature under another document of the admin help.
        let document = AdmissionList { sequence: 1, ..AdmissionList::default() }.encode();
        let other_kind = signed::seal(&admin, b"another kind\n", &document).unwrap();
        assert!(matches!(open(&other_kind, &id), Err(Refused::Signature(_))));
    }

    #[test]
    fn an_admission_list_of_an_older_version_is_read_from_the_own_directory_only() {
        let admin = Keypair::generate_ed25519();
        let id = admin.public().to_peer_id();
        let peer = PeerId::random();
        let mut document = BytesMut::new();
        put_number(&mut document, 1, 7);
        put_slice(&mut document, 2, &peer.to_bytes());
        let bytes = signed::seal(&admin, OLD_KIND, &document).unwrap();
        assert!(matches!(open(&bytes, &id), Err(Refused::OldList)));
        let list = open_saved(&bytes, &id).unwrap();
        assert!(list.sequence == 7 && list.contains(&peer) && list.swarm.is_empty());
        let other = Keypair::generate_ed25519().public().to_peer_id();
        assert!(matches!(open_saved(&bytes, &other), Err(Refused::Signature(_))));
    }

    #[test]
    fn a_malformed_or_oversized_admission_list_is_refused() {
        let admin = Keypair::generate_ed25519();
        let id = admin.public().to_peer_id();
        let (_, many) = signed(1, MAX_MEMBERS + 1, &admin);
        assert!(matches!(open(&many, &id), Err(Refused::TooLarge)));
        assert!(matches!(open(&vec![0; signed::MAX_BYTES + 1], &id), Err(Refused::TooLarge)));
        let (_, unnumbered) = signed(0, 1, &admin);
        assert!(matches!(open(&unnumbered, &id), Err(Refused::Malformed(_))));
        let mut document = BytesMut::new();
        put_number(&mut document, 1, 1);
        put_slice(&mut document, 2, b"not a peer ID");
        let bytes = signed::seal(&admin, KIND, &document).unwrap();
        assert!(matches!(open(&bytes, &id), Err(Refused::Malformed(_))));
    }
}
