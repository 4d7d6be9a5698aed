//! The Bitswap wire format: <https://specs.ipfs.tech/bitswap-protocol/>. Blocks are not copied in either direction.

pub mod fields;
#[cfg(test)]
mod tests;

use bytes::{Bytes, BytesMut};
use libp2p::StreamProtocol;
use ocipfs_block::{inline_bytes, long_inline};

use crate::Cid;
use fields::{Value, put_head, put_number, put_slice, put_varint, varint, varint_len};

/// The maximum length of a message, read or sent.
pub const MAX_MESSAGE: usize = 4 << 20;
/// The maximum length of a block, served or accepted.
pub const MAX_BLOCK: usize = 2 << 20;
/// Entries read from one message.
const MAX_ENTRIES: usize = 8192;
/// Blocks read from one message: as many as this node requests from a peer. A message may hold half a million tiny
/// blocks, which would take many times its length in memory.
const MAX_BLOCKS: usize = 1024;

/// Why bytes are not a Bitswap message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed Bitswap message: {0}")]
pub struct Malformed(pub &'static str);

/// A protocol version, the newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// With presences: HAVE and DONT_HAVE.
    V1_2,
    /// Blocks with the prefix of their CID.
    V1_1,
    /// Blocks without a prefix; their CIDs are version 0.
    V1_0,
}

impl Version {
    /// All protocol names in the order in which they are offered.
    pub const PROTOCOLS: [(StreamProtocol, Self); 4] = [
        (StreamProtocol::new("/ipfs/bitswap/1.2.0"), Self::V1_2),
        (StreamProtocol::new("/ipfs/bitswap/1.1.0"), Self::V1_1),
        (StreamProtocol::new("/ipfs/bitswap/1.0.0"), Self::V1_0),
        (StreamProtocol::new("/ipfs/bitswap"), Self::V1_0),
    ];

    /// Returns the version of a protocol name; unknown names mean the newest version.
    pub fn of(protocol: &StreamProtocol) -> Self {
        let known = Self::PROTOCOLS.into_iter().find(|(name, _)| name == protocol);
        known.map_or(Self::V1_2, |(_, version)| version)
    }
}

/// Kind of a want: the block or its presence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// WANT-BLOCK.
    #[default]
    Block,
    /// WANT-HAVE.
    Have,
}

/// An entry of a wantlist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantlistEntry {
    /// The CID of the block.
    pub cid: Cid,
    /// Entries with a higher priority are answered first.
    pub priority: i32,
    /// Whether the want is cancelled.
    pub cancel: bool,
    /// The block itself, or its presence.
    pub kind: Kind,
    /// Whether to answer DONT_HAVE if the block is missing.
    pub send_dont_have: bool,
}

impl WantlistEntry {
    /// Returns a want. WANT-BLOCK sets `send_dont_have`. WANT-HAVE does not, so it is answered only once the peer has
    /// the block.
    pub fn want(cid: Cid, kind: Kind, priority: i32) -> Self {
        Self { cid, priority, cancel: false, kind, send_dont_have: kind == Kind::Block }
    }

    /// Returns the cancellation of a want.
    pub fn cancel(cid: Cid) -> Self {
        Self { cancel: true, ..Self::want(cid, Kind::Block, 1) }
    }
}

/// A CID without its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// The CID version, 0 or 1.
    pub version: u64,
    /// The codec of the block.
    pub codec: u64,
    /// The code of the hash function.
    pub hash_code: u64,
    /// The length of the digest in bytes.
    pub hash_size: u64,
}

impl Prefix {
    /// The prefix of version 1.0 blocks: CIDv0, which is dag-pb with sha2-256.
    pub const V0: Self = Self { version: 0, codec: 0x70, hash_code: 0x12, hash_size: 32 };

    /// Returns the prefix of a CID.
    pub fn of(cid: &Cid) -> Self {
        Self {
            version: cid.version().into(),
            codec: cid.codec(),
            hash_code: cid.hash().code(),
            hash_size: cid.hash().size().into(),
        }
    }

    fn decode(mut bytes: Bytes) -> Result<Self, Malformed> {
        Ok(Self {
            version: varint(&mut bytes)?,
            codec: varint(&mut bytes)?,
            hash_code: varint(&mut bytes)?,
            hash_size: varint(&mut bytes)?,
        })
    }

    fn encode(self) -> BytesMut {
        let mut out = BytesMut::with_capacity(8);
        for number in [self.version, self.codec, self.hash_code, self.hash_size] {
            put_varint(&mut out, number);
        }
        out
    }
}

/// A block as transmitted: hashing it yields its CID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// The prefix of its CID.
    pub prefix: Prefix,
    /// Its bytes.
    pub data: Bytes,
}

/// A Bitswap message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Wants and cancels of the sender.
    pub wants: Vec<WantlistEntry>,
    /// Whether the wantlist replaces the previous one.
    pub full: bool,
    /// Blocks for the receiver.
    pub blocks: Vec<Payload>,
    /// Presences: whether the sender has a block.
    pub presences: Vec<(Cid, bool)>,
    /// Bytes that the sender still has queued for the receiver.
    pub pending: u64,
}

impl Message {
    /// Decodes a message without its length prefix.
    pub fn decode(mut bytes: Bytes) -> Result<Self, Malformed> {
        let mut message = Self::default();
        while let Some(field) = fields::next(&mut bytes)? {
            match field {
                (1, Value::Slice(list)) => message.decode_wants(list)?,
                (2, Value::Slice(data)) => message.add(Payload { prefix: Prefix::V0, data }),
                (3, Value::Slice(block)) => message.add(decode_payload(block)?),
                (4, Value::Slice(presence)) if message.presences.len() < MAX_ENTRIES => {
                    message.presences.extend(decode_presence(presence)?);
                }
                (5, Value::Number(pending)) => message.pending = pending,
                _ => {}
            }
        }
        Ok(message)
    }

    fn add(&mut self, block: Payload) {
        if self.blocks.len() < MAX_BLOCKS {
            self.blocks.push(block);
        }
    }

    fn decode_wants(&mut self, mut list: Bytes) -> Result<(), Malformed> {
        while let Some(field) = fields::next(&mut list)? {
            match field {
                (1, Value::Slice(entry)) if self.wants.len() < MAX_ENTRIES => {
                    self.wants.extend(decode_entry(entry)?);
                }
                (2, Value::Number(full)) => self.full = full != 0,
                _ => {}
            }
        }
        Ok(())
    }

    /// Encodes the message with its length prefix.
    pub fn encode(&self, version: Version) -> Vec<Bytes> {
        let mut pieces = self.pieces(version);
        let length: usize = pieces.iter().map(Bytes::len).sum();
        let mut head = BytesMut::with_capacity(8);
        put_varint(&mut head, length as u64);
        pieces.insert(0, head.freeze());
        pieces
    }

    /// Encodes the message without its length; each block is a piece of its own.
    pub fn pieces(&self, version: Version) -> Vec<Bytes> {
        let mut out = Pieces::default();
        if !self.wants.is_empty() || self.full {
            let mut list = BytesMut::with_capacity(64 * self.wants.len());
            for entry in &self.wants {
                put_slice(&mut list, 1, &encode_entry(entry, version));
            }
            put_number(&mut list, 2, self.full.into());
            put_slice(&mut out.open, 1, &list);
        }
        for Payload { prefix, data } in &self.blocks {
            if version == Version::V1_0 {
                put_head(&mut out.open, 2, data.len());
            } else {
                let prefix = prefix.encode();
                let head = 1 + varint_len(prefix.len() as u64) + prefix.len();
                let body = 1 + varint_len(data.len() as u64) + data.len();
                put_head(&mut out.open, 3, head + body);
                put_slice(&mut out.open, 1, &prefix);
                put_head(&mut out.open, 2, data.len());
            }
            out.push(data.clone());
        }
        if version == Version::V1_2 {
            for (cid, have) in &self.presences {
                let mut presence = BytesMut::with_capacity(48);
                put_slice(&mut presence, 1, &cid.to_bytes());
                put_number(&mut presence, 2, (!have).into());
                put_slice(&mut out.open, 4, &presence);
            }
            put_number(&mut out.open, 5, self.pending);
        }
        out.finish()
    }
}

/// A message being encoded: small fields are joined, blocks are not copied.
#[derive(Default)]
struct Pieces {
    open: BytesMut,
    done: Vec<Bytes>,
}

impl Pieces {
    fn push(&mut self, bytes: Bytes) {
        self.done.push(self.open.split().freeze());
        self.done.push(bytes);
    }

    fn finish(mut self) -> Vec<Bytes> {
        self.done.push(self.open.freeze());
        self.done.retain(|piece| !piece.is_empty());
        self.done
    }
}

/// Decodes a CID; none if it carries its block itself, so that nothing is to be sent.
fn decode_cid(bytes: &[u8]) -> Result<Option<Cid>, Malformed> {
    match Cid::try_from(bytes) {
        Ok(cid) => Ok(Some(cid).filter(|cid| inline_bytes(cid).is_none())),
        // It may be longer than a `Cid` has room for.
        Err(_) if !matches!(long_inline(bytes), Ok(None)) => Ok(None),
        Err(_) => Err(Malformed("invalid CID")),
    }
}

/// Decodes a want; none for an inline block, which boxo ignores too.
fn decode_entry(mut bytes: Bytes) -> Result<Option<WantlistEntry>, Malformed> {
    let (mut cid, mut priority, mut cancel) = (None, 0, false);
    let (mut kind, mut send_dont_have) = (Kind::Block, false);
    while let Some(field) = fields::next(&mut bytes)? {
        match field {
            (1, Value::Slice(bytes)) => cid = Some(decode_cid(&bytes)?),
            (2, Value::Number(number)) => priority = number as i32,
            (3, Value::Number(number)) => cancel = number != 0,
            (4, Value::Number(number)) => kind = if number == 1 { Kind::Have } else { Kind::Block },
            (5, Value::Number(number)) => send_dont_have = number != 0,
            _ => {}
        }
    }
    let cid = cid.ok_or(Malformed("want without a CID"))?;
    Ok(cid.map(|cid| WantlistEntry { cid, priority, cancel, kind, send_dont_have }))
}

fn encode_entry(entry: &WantlistEntry, version: Version) -> BytesMut {
    let mut out = BytesMut::with_capacity(64);
    put_slice(&mut out, 1, &entry.cid.to_bytes());
    // As protobuf encodes a negative int32.
    put_number(&mut out, 2, i64::from(entry.priority) as u64);
    put_number(&mut out, 3, entry.cancel.into());
    if version == Version::V1_2 {
        put_number(&mut out, 4, (entry.kind == Kind::Have).into());
        put_number(&mut out, 5, entry.send_dont_have.into());
    }
    out
}

fn decode_payload(mut bytes: Bytes) -> Result<Payload, Malformed> {
    let (mut prefix, mut data) = (None, Bytes::new());
    while let Some(field) = fields::next(&mut bytes)? {
        match field {
            (1, Value::Slice(bytes)) => prefix = Some(Prefix::decode(bytes)?),
            (2, Value::Slice(bytes)) => data = bytes,
            _ => {}
        }
    }
    Ok(Payload { prefix: prefix.ok_or(Malformed("block without a prefix"))?, data })
}

fn decode_presence(mut bytes: Bytes) -> Result<Option<(Cid, bool)>, Malformed> {
    let (mut cid, mut have) = (None, true);
    while let Some(field) = fields::next(&mut bytes)? {
        match field {
            (1, Value::Slice(bytes)) => cid = Some(decode_cid(&bytes)?),
            (2, Value::Number(number)) => have = number == 0,
            _ => {}
        }
    }
    let cid = cid.ok_or(Malformed("presence without a CID"))?;
    Ok(cid.map(|cid| (cid, have)))
}
