//! Manifests that are signatures, and what they are made of.
//!
//! What calls itself a signature is served to all, so it has to be one: each layer is a document that names the digest which the
//! manifest signs, and nothing else is in it but a small configuration.

use ocipfs_oci::{Digest, Manifest, Tag};

use super::{
    cose, cosign, form, jws, notation,
    signer::{Checked, Key, Signer},
};

/// The largest layer of a signature.
pub const MAX_PART_BYTES: u64 = 4 << 20;
/// Layers of one signature: cosign adds one each time that an image is signed.
pub const MAX_PARTS: usize = 32;
/// All layers of one signature together.
const MAX_TOTAL_BYTES: u64 = 8 << 20;
/// The largest simple signing payload.
const MAX_PAYLOAD_BYTES: u64 = 64 << 10;
/// The largest envelope of notation: some certificates, and a time stamp.
const MAX_ENVELOPE_BYTES: u64 = 256 << 10;
/// The largest configuration of a signature.
const MAX_CONFIG_BYTES: u64 = 64 << 10;
/// Public keys that one manifest has tried: as many as its layers, times their signatures, times the keys of the policies.
const MAX_VERIFICATIONS: usize = 2048;
/// The annotation with the signature of a simple signing payload.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// The artifact types of notation and of cosign, each of which also begins those of later versions.
const TYPES: [&str; 3] = [
    "application/vnd.cncf.notary.signature",
    "application/vnd.dev.cosign.artifact.sig.",
    "application/vnd.dev.sigstore.bundle.",
];
/// What cosign adds to the digest of an image for the tags of its signatures and attestations.
const SUFFIXES: [&str; 2] = ["sig", "att"];

/// The kinds of layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    SimpleSigning,
    Dsse,
    Bundle,
    Jws,
    Cose,
}

impl Format {
    fn of(media_type: &str) -> Option<Self> {
        Some(match media_type {
            "application/vnd.dev.cosign.simplesigning.v1+json" => Self::SimpleSigning,
            "application/vnd.dsse.envelope.v1+json" => Self::Dsse,
            "application/jose+json" => Self::Jws,
            "application/cose" => Self::Cose,
            bundle if bundle.starts_with("application/vnd.dev.sigstore.bundle") => Self::Bundle,
            _ => return None,
        })
    }

    /// The largest layer of this kind.
    fn limit(self) -> u64 {
        match self {
            Self::SimpleSigning => MAX_PAYLOAD_BYTES,
            Self::Jws | Self::Cose => MAX_ENVELOPE_BYTES,
            // Attestations carry whole SBOMs.
            Self::Dsse | Self::Bundle => MAX_PART_BYTES,
        }
    }

    /// Whether a key of its kind is among these. An attestation needs none.
    fn is_of(self, keys: &[Key]) -> bool {
        match self {
            Self::SimpleSigning => keys.iter().any(|key| matches!(key, Key::Cosign(_))),
            Self::Jws | Self::Cose => keys.iter().any(|key| matches!(key, Key::Notation(_))),
            Self::Dsse | Self::Bundle => true,
        }
    }
}

/// Whether an artifact type is that of a signature.
pub fn is_signature_type(artifact_type: &str) -> bool {
    TYPES.iter().any(|known| artifact_type.starts_with(known))
}

/// The tags under which cosign looks for signatures and attestations of a digest.
pub fn tags_of(digest: &Digest) -> Vec<Tag> {
    let tag = |suffix: &&str| format!("{}-{}.{suffix}", digest.algorithm(), digest.hex()).parse().ok();
    SUFFIXES.iter().filter_map(tag).collect()
}

/// Returns the digest of whose image a tag tells: `sha256-<hex>`, with a suffix or without.
pub fn signed_by_tag(tag: &Tag) -> Option<Digest> {
    let (algorithm, rest) = tag.as_str().split_once('-')?;
    let hex = rest.split_once('.').map_or(rest, |(hex, _)| hex);
    format!("{algorithm}:{hex}").parse().ok()
}

/// One layer of a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignaturePart {
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    format: Format,
    signature: Option<String>,
}

/// A manifest that has the form of a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureManifest {
    /// Its layers.
    pub parts: Vec<SignaturePart>,
    /// The digest and the length of its configuration.
    pub config: (Digest, u64),
    subject: Option<Digest>,
}

impl SignatureManifest {
    /// Reads a manifest; none if it has not the form of a signature.
    pub fn parse(json: &[u8]) -> Option<Self> {
        if !form::is_document(json) {
            return None;
        }
        let manifest = Manifest::parse(json).ok()?;
        if !(1..=MAX_PARTS).contains(&manifest.layers.len()) || manifest.config.size > MAX_CONFIG_BYTES {
            return None;
        }
        let part = |layer: &ocipfs_oci::Descriptor| {
            let format = Format::of(layer.media_type.essence())?;
            let signature = layer.annotation(SIGNATURE).map(String::from);
            let is_small = layer.size <= format.limit();
            is_small.then(|| SignaturePart {
                digest: layer.digest.clone(),
                size: layer.size,
                format,
                signature,
            })
        };
        let parts = manifest.layers.iter().map(part).collect::<Option<Vec<_>>>()?;
        let is_short = parts.iter().map(|part| part.size).sum::<u64>() <= MAX_TOTAL_BYTES;
        // Two keys of cosign sign the same payload, and have their signatures in annotations.
        let is_repeated = |(at, part): (usize, &SignaturePart)| {
            part.format != Format::SimpleSigning && parts[..at].iter().any(|one| one.digest == part.digest)
        };
        if !is_short || parts.iter().enumerate().any(is_repeated) {
            return None;
        }
        let config = (manifest.config.digest, manifest.config.size);
        Some(Self { parts, config, subject: manifest.subject.map(|subject| subject.digest) })
    }

    /// Looks at its configuration and its layers, in their order; none if it is not a signature after all, or one that no kind of key
    /// verifies that there is.
    pub fn check(&self, keys: &[Key], config: &[u8], layers: &[Vec<u8>], now: u64) -> Option<Checked> {
        if !form::is_configuration(config) || !self.parts.iter().all(|part| part.format.is_of(keys)) {
            return None;
        }
        let read: Vec<ReadPart> = self
            .parts
            .iter()
            .zip(layers)
            .map(|(part, bytes)| ReadPart::read(part, bytes))
            .collect::<Option<_>>()?;
        if read.len() != self.parts.len() {
            return None;
        }
        let subject = match &self.subject {
            Some(subject) => subject.clone(),
            None => read.first()?.subjects().first()?.clone(),
        };
        if !read.iter().all(|part| part.subjects().contains(&subject)) {
            return None;
        }
        let signers = signers(&read, keys, now);
        let has_certificates = read.iter().any(|part| matches!(part, ReadPart::Notation { .. }));
        Some(Checked { subject, signers, has_certificates })
    }
}

/// Finds the keys that signed, with a bounded number of verifications.
fn signers(parts: &[ReadPart<'_>], keys: &[Key], now: u64) -> Vec<Signer> {
    let (mut found, mut left) = (Vec::new(), MAX_VERIFICATIONS);
    for part in parts {
        for (key, of) in keys.iter().enumerate() {
            let Some(rest) = left.checked_sub(part.verifications(of)) else { return found };
            left = rest;
            found.extend(part.is_signed_by(of, now).map(|until| Signer { key, until }));
        }
    }
    found
}

/// A layer, read.
enum ReadPart<'a> {
    Payload { bytes: &'a [u8], subject: Digest, signature: Option<&'a str> },
    Dsse(cosign::Envelope),
    Notation { envelope: notation::Envelope, subject: Digest },
}

impl<'a> ReadPart<'a> {
    fn read(part: &'a SignaturePart, bytes: &'a [u8]) -> Option<Self> {
        let notation =
            |envelope: notation::Envelope| Some(Self::Notation { subject: envelope.subject()?, envelope });
        match part.format {
            Format::SimpleSigning => Some(Self::Payload {
                bytes,
                subject: cosign::payload_subject(bytes)?,
                signature: part.signature.as_deref(),
            }),
            Format::Dsse => cosign::Envelope::parse(bytes).map(Self::Dsse),
            Format::Bundle => cosign::Envelope::of_bundle(bytes).map(Self::Dsse),
            Format::Jws => notation(jws::parse(bytes)?),
            Format::Cose => notation(cose::parse(bytes)?),
        }
    }

    fn subjects(&self) -> &[Digest] {
        match self {
            Self::Payload { subject, .. } | Self::Notation { subject, .. } => std::slice::from_ref(subject),
            Self::Dsse(envelope) => envelope.subjects(),
        }
    }

    /// How many times a public key is tried at most, to know whether this key signed.
    fn verifications(&self, key: &Key) -> usize {
        match (self, key) {
            (Self::Payload { .. }, Key::Cosign(_)) => 1,
            (Self::Dsse(envelope), Key::Cosign(_)) if envelope.signs() => envelope.signatures(),
            (Self::Notation { .. }, Key::Notation(_)) => 1 + notation::MAX_CERTIFICATES,
            _ => 0,
        }
    }

    /// Until when a signature by this key is valid; none if there is none.
    fn is_signed_by(&self, key: &Key, now: u64) -> Option<u64> {
        use Key::{Cosign, Notation};
        match (self, key) {
            (Self::Payload { bytes, signature, .. }, Cosign(key)) => {
                cosign::verify_payload(key, bytes, *signature).then_some(u64::MAX)
            }
            (Self::Dsse(envelope), Cosign(key)) => {
                (envelope.signs() && envelope.verify(key)).then_some(u64::MAX)
            }
            (Self::Notation { envelope, .. }, Notation(store)) => envelope.verify(store, now),
            _ => None,
        }
    }
}
