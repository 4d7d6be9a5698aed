//! The signed part of an IPNS record: <https://specs.ipfs.tech/ipns/ipns-record/#record-verification>.

use libp2p::{PeerId, identity::PublicKey};
use quick_protobuf::{BytesReader, Result};
use rust_ipns::{Data, Error};

use super::MAX_BYTES;

/// The code of a multihash that holds the key itself, not its hash.
const IDENTITY: u64 = 0x00;
const SIGNATURE_PREFIX: &[u8] = b"ipns-signature:";

/// The message around the signed data. Fields that are absent have their default.
#[derive(Default)]
struct Envelope<'a> {
    value: &'a [u8],
    signature_v1: &'a [u8],
    validity_type: u64,
    validity: &'a [u8],
    sequence: u64,
    ttl: u64,
    public_key: &'a [u8],
    signature_v2: &'a [u8],
    data: &'a [u8],
    /// Whether the value or the signature of version 1 is present.
    has_v1: bool,
}

impl<'a> Envelope<'a> {
    fn decode(bytes: &'a [u8]) -> Result<Self> {
        let (mut reader, mut envelope) = (BytesReader::from_bytes(bytes), Self::default());
        while !reader.is_eof() {
            match reader.next_tag(bytes)? {
                0x0a => (envelope.value, envelope.has_v1) = (reader.read_bytes(bytes)?, true),
                0x12 => (envelope.signature_v1, envelope.has_v1) = (reader.read_bytes(bytes)?, true),
                0x18 => envelope.validity_type = reader.read_uint64(bytes)?,
                0x22 => envelope.validity = reader.read_bytes(bytes)?,
                0x28 => envelope.sequence = reader.read_uint64(bytes)?,
                0x30 => envelope.ttl = reader.read_uint64(bytes)?,
                0x3a => envelope.public_key = reader.read_bytes(bytes)?,
                0x42 => envelope.signature_v2 = reader.read_bytes(bytes)?,
                0x4a => envelope.data = reader.read_bytes(bytes)?,
                unknown => reader.read_unknown(bytes, unknown)?,
            }
        }
        Ok(envelope)
    }

    /// Returns whether the copies of version 1 equal the signed data. A record without them has none to compare
    /// (IPIP-428).
    fn agrees(&self, data: &Data) -> bool {
        let copies = (self.value, self.validity, self.validity_type, self.sequence, self.ttl);
        let signed =
            (data.value(), data.validity(), data.validity_type() as u64, data.sequence(), data.ttl());
        !self.has_v1 || copies == signed
    }

    /// Returns the key of `name`, from the record or from the name.
    fn key(&self, name: PeerId) -> std::result::Result<PublicKey, Error> {
        let hash = name.as_ref();
        let encoded = match self.public_key {
            [] if hash.code() != IDENTITY => return Err(Error::MissingPublicKey),
            [] => hash.digest(),
            key => key,
        };
        let key = PublicKey::try_decode_protobuf(encoded).map_err(Error::InvalidPublicKey)?;
        if key.to_peer_id() == name { Ok(key) } else { Err(Error::NameMismatch) }
    }
}

/// Returns the data of a record that is signed with the key of `name`, whether it has expired or not.
///
/// # Errors
/// Fails without a valid signature of version 2, and where copies of version 1 differ from the data.
pub(super) fn open(name: PeerId, bytes: &[u8]) -> std::result::Result<Data, Error> {
    if bytes.len() > MAX_BYTES {
        return Err(Error::RecordTooLarge);
    }
    let envelope = Envelope::decode(bytes)?;
    if envelope.signature_v2.is_empty() {
        return Err(Error::MissingSignature);
    }
    if envelope.data.is_empty() {
        return Err(Error::EmptyData);
    }
    let key = envelope.key(name)?;
    if !key.verify(&[SIGNATURE_PREFIX, envelope.data].concat(), envelope.signature_v2) {
        return Err(Error::InvalidSignature);
    }
    let data: Data =
        serde_ipld_dagcbor::from_slice(envelope.data).map_err(|error| Error::Cbor(error.into()))?;
    if envelope.agrees(&data) { Ok(data) } else { Err(Error::DataMismatch) }
}
