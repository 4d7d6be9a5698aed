//! Manifests that are signatures, and what they are made of.
//!
//! What calls itself a signature is served to all, so it has to be one: each layer is a document that names the digest which the
//! manifest signs, and nothing else is in it but a small configuration.

use ocipfs_oci::{Digest, Manifest, Tag};

use super::{
    cose, cosign, jws, notation,
    signer::{Checked, Key, Signer},
};

/// The largest layer of a signature.
pub const MAX_PART_BYTES: u64 = 4 << 20;
/// Layers of one signature: cosign adds one each time that an image is signed.
pub const MAX_PARTS: usize = 32;
/// The largest configuration of a signature.
const MAX_CONFIG_BYTES: u64 = 64 << 10;
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
pub struct Part {
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
    pub parts: Vec<Part>,
    /// The digest and the length of its configuration.
    pub config: (Digest, u64),
    subject: Option<Digest>,
}

impl SignatureManifest {
    /// Reads a manifest; none if it has not the form of a signature.
    pub fn parse(json: &[u8]) -> Option<Self> {
        let manifest = Manifest::parse(json).ok()?;
        let part = |layer: &ocipfs_oci::Descriptor| {
            let format = Format::of(layer.media_type.essence())?;
            let signature = layer.annotation(SIGNATURE).map(String::from);
            let is_small = layer.size <= MAX_PART_BYTES;
            is_small.then(|| Part { digest: layer.digest.clone(), size: layer.size, format, signature })
        };
        let parts = manifest.layers.iter().map(part).collect::<Option<Vec<_>>>()?;
        let is_short = (1..=MAX_PARTS).contains(&parts.len()) && manifest.config.size <= MAX_CONFIG_BYTES;
        let config = (manifest.config.digest, manifest.config.size);
        is_short.then(|| Self { parts, config, subject: manifest.subject.map(|subject| subject.digest) })
    }

    /// Looks at its configuration and its layers, in their order; none if it is not a signature after all.
    pub fn check(&self, keys: &[Key], config: &[u8], layers: &[Vec<u8>], now: u64) -> Option<Checked> {
        serde_json::from_slice::<serde::de::IgnoredAny>(config).ok()?;
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
            None => read.first()?.subjects().into_iter().next()?,
        };
        if !read.iter().all(|part| part.subjects().contains(&subject)) {
            return None;
        }
        let signed = |part: &ReadPart| {
            let by = |(key, of): (usize, &Key)| part.is_signed_by(of, now).map(|until| Signer { key, until });
            keys.iter().enumerate().filter_map(by).collect::<Vec<_>>()
        };
        let signers = read.iter().flat_map(signed).collect();
        let has_certificates = read.iter().any(|part| matches!(part, ReadPart::Notation { .. }));
        Some(Checked { subject, signers, has_certificates })
    }
}

/// A layer, read.
enum ReadPart<'a> {
    Payload { bytes: &'a [u8], subject: Digest, signature: Option<&'a str> },
    Dsse(cosign::Envelope),
    Notation { envelope: notation::Envelope, subject: Digest },
}

impl<'a> ReadPart<'a> {
    fn read(part: &'a Part, bytes: &'a [u8]) -> Option<Self> {
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

    fn subjects(&self) -> Vec<Digest> {
        match self {
            Self::Payload { subject, .. } | Self::Notation { subject, .. } => vec![subject.clone()],
            Self::Dsse(envelope) => envelope.subjects(),
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
