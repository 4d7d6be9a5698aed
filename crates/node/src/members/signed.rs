//! What an admin signs: the signature in front of the signed bytes.

use libp2p::{
    PeerId,
    identity::{Keypair, PublicKey, SigningError},
};

use crate::bitswap::wire::Malformed;

/// Bytes of a signed document.
pub(crate) const MAX_BYTES: usize = 256 << 10;
/// An ed25519 signature.
const SIGNATURE_BYTES: usize = 64;
/// The code of a multihash that holds the key itself, not its hash.
const IDENTITY: u64 = 0x00;

/// Why a document of a peer is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// This node trusts no admin.
    #[error("this node knows no admin of the swarm; name it with --swarm-admin")]
    NoAdmin,
    /// It is too large.
    #[error("it has more than {} bytes", MAX_BYTES)]
    TooLarge,
    /// It is not signed by the admin.
    #[error("it is not signed by the admin {0}")]
    Signature(PeerId),
    /// It cannot be read.
    #[error("it is malformed: {0}")]
    Malformed(&'static str),
    /// A newer one is known.
    #[error("its sequence number {sequence} is below {known}, which is known")]
    Older {
        /// The one that was sent.
        sequence: u64,
        /// The one that this node has.
        known: u64,
    },
    /// It was signed by a version whose lists do not say for which swarm they are.
    #[error("it is an admission list of an older version of ocipfs; upgrade the node of the admin")]
    OldList,
    /// The admin signed it for another swarm.
    #[error("it is the admission list of another swarm, or of one key of it that this node never had")]
    OtherSwarm,
    /// It replaces a key that is not the one of this node.
    #[error("it replaces another swarm key than the one of this node")]
    OtherKey,
}

impl From<Malformed> for Refused {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed.0)
    }
}

/// Returns the public key in a peer ID, if it is one of ed25519.
pub(super) fn key_of(peer: &PeerId) -> Option<PublicKey> {
    let hash = peer.as_ref();
    let key = PublicKey::try_decode_protobuf(hash.digest()).ok().filter(|_| hash.code() == IDENTITY)?;
    key.clone().try_into_ed25519().ok().map(|_| key)
}

/// Signs a document of a kind.
pub(super) fn seal(admin: &Keypair, kind: &[u8], document: &[u8]) -> Result<Vec<u8>, SigningError> {
    Ok([&admin.sign(&[kind, document].concat())?, document].concat())
}

/// Returns the signature and the document.
pub(super) fn parts(bytes: &[u8]) -> Result<(&[u8], &[u8]), Refused> {
    if bytes.len() > MAX_BYTES {
        return Err(Refused::TooLarge);
    }
    bytes.split_at_checked(SIGNATURE_BYTES).ok_or(Refused::Malformed("it is too short"))
}

/// Returns the document, if the admin signed it as one of this kind.
pub(super) fn open<'a>(bytes: &'a [u8], kind: &[u8], admin: &PeerId) -> Result<&'a [u8], Refused> {
    let (signature, document) = parts(bytes)?;
    let key = key_of(admin).ok_or(Refused::NoAdmin)?;
    match key.verify(&[kind, document].concat(), signature) {
        true => Ok(document),
        false => Err(Refused::Signature(*admin)),
    }
}
