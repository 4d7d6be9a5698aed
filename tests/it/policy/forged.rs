//! Signatures as clients make them, with one thing wrong in each, or with nothing.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use ciborium::Value as Cbor;
use ocipfs_oci::{Digest, media_type};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use serde_json::{Value, json};

use super::signing::Key;
use crate::push::descriptor;

/// The forms of signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A simple signing payload, by a tag.
    CosignTag,
    /// The same, as a referrer.
    CosignReferrer,
    /// A bundle with an in-toto statement, as a referrer.
    CosignBundle,
    /// Envelopes of notation, as referrers.
    Jws,
    Cose,
}

pub const FORMS: [Form; 5] =
    [Form::CosignTag, Form::CosignReferrer, Form::CosignBundle, Form::Jws, Form::Cose];

/// What is wrong with a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    Nothing,
    Missing,
    /// Another key, or a certificate of another authority.
    OtherKey,
    /// What is signed names another image.
    OtherDigest,
    /// It is attached to another image.
    Unattached,
    /// A bit of the signature is another.
    Damaged,
    /// What is stored is not all that is signed.
    CutPayload,
    /// The layer has a media type that is none of a signature.
    MediaType,
    /// The layer has the media type of a signature of another form.
    SwappedEnvelope,
    /// It is in another repository.
    Elsewhere,
    /// The repository needs another key.
    OtherPolicy,
    /// It says something else of the image than that it is signed.
    OtherStatement,
    /// The time of the certificate is over.
    ExpiredCertificate,
    /// The time of the signature itself is over.
    ExpiredSignature,
    /// The certificate is one of servers.
    OtherUsage,
    /// It requires readers to know a header that is not known.
    UnknownHeader,
}

const OF_ALL: [Defect; 11] = [
    Defect::Missing,
    Defect::OtherKey,
    Defect::OtherDigest,
    Defect::Unattached,
    Defect::Damaged,
    Defect::CutPayload,
    Defect::MediaType,
    Defect::SwappedEnvelope,
    Defect::Elsewhere,
    Defect::OtherPolicy,
    Defect::OtherStatement,
];
const OF_NOTATION: [Defect; 4] =
    [Defect::ExpiredCertificate, Defect::ExpiredSignature, Defect::OtherUsage, Defect::UnknownHeader];

const PAYLOAD_TYPE: &str = "application/vnd.cncf.notary.payload.v1+json";
const SCHEME: &str = "io.cncf.notary.signingScheme";
const EXPIRY: &str = "io.cncf.notary.expiry";

impl Form {
    pub fn is_of_notation(self) -> bool {
        matches!(self, Self::Jws | Self::Cose)
    }

    /// What can be wrong with it.
    pub fn defects(self) -> Vec<Defect> {
        match self.is_of_notation() {
            true => [&OF_ALL[..], &OF_NOTATION].concat(),
            false => OF_ALL.to_vec(),
        }
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::CosignTag | Self::CosignReferrer => "application/vnd.dev.cosign.simplesigning.v1+json",
            Self::CosignBundle => "application/vnd.dev.sigstore.bundle.v0.3+json",
            Self::Jws => "application/jose+json",
            Self::Cose => "application/cose",
        }
    }

    /// The media type of another form.
    fn swapped(self) -> &'static str {
        match self {
            Self::CosignTag | Self::CosignReferrer => Self::CosignBundle.media_type(),
            Self::CosignBundle => Self::CosignTag.media_type(),
            Self::Jws => Self::Cose.media_type(),
            Self::Cose => Self::Jws.media_type(),
        }
    }

    fn artifact_type(self) -> Option<&'static str> {
        match self {
            Self::CosignTag => None,
            Self::CosignReferrer => Some("application/vnd.dev.cosign.artifact.sig.v1+json"),
            Self::CosignBundle => Some(self.media_type()),
            Self::Jws | Self::Cose => Some("application/vnd.cncf.notary.signature"),
        }
    }
}

/// A signer of notation: a key, and its certificate.
struct Certified {
    key: EcdsaKeyPair,
    certificate: Vec<u8>,
}

/// An authority of notation, by its certificate in PEM.
fn authority() -> (Issuer<'static, KeyPair>, String) {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, "an authority of the tests");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let pem = parameters.self_signed(&key).expect("a certificate").pem();
    (Issuer::new(parameters, key), pem)
}

impl Certified {
    fn by(issuer: &Issuer<'static, KeyPair>, usage: ExtendedKeyUsagePurpose, is_expired: bool) -> Self {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, "a signer");
        parameters.extended_key_usages = vec![usage];
        if is_expired {
            parameters.not_after = date_time_ymd(2001, 1, 1);
        }
        let key = KeyPair::generate().expect("a key");
        let certificate = parameters.signed_by(&key, issuer).expect("a certificate").der().to_vec();
        let (algorithm, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let key = EcdsaKeyPair::from_pkcs8(algorithm, &key.serialize_der(), &random).expect("PKCS #8");
        Self { key, certificate }
    }

    fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        self.key.sign(&SystemRandom::new(), bytes).expect("a signature").as_ref().to_vec()
    }
}

/// The signers of a test, of which some are trusted.
pub struct Signers {
    /// The trusted key of cosign.
    pub cosign: Key,
    other_cosign: Key,
    /// The certificate of the authority that is trusted, in PEM.
    pub authority: String,
    notation: Certified,
    other_notation: Certified,
    expired: Certified,
    of_servers: Certified,
}

impl Signers {
    pub fn make() -> Self {
        use ExtendedKeyUsagePurpose::{CodeSigning, ServerAuth};
        let ((issuer, authority), (other, _)) = (authority(), authority());
        Self {
            cosign: Key::make(),
            other_cosign: Key::make(),
            authority,
            notation: Certified::by(&issuer, CodeSigning, false),
            other_notation: Certified::by(&other, CodeSigning, false),
            expired: Certified::by(&issuer, CodeSigning, true),
            of_servers: Certified::by(&issuer, ServerAuth, false),
        }
    }

    /// Signs an image; `other` is the descriptor of another one.
    pub fn sign(&self, form: Form, defect: Defect, image: &Value, other: &Value) -> Signature {
        let named = if defect == Defect::OtherDigest { other } else { image };
        let (layer, annotation) = match form {
            Form::CosignTag | Form::CosignReferrer => self.simple(defect, named),
            Form::CosignBundle => (self.bundle(defect, named), None),
            Form::Jws => (self.jws(defect, named), None),
            Form::Cose => (self.cose(defect, named), None),
        };
        let attached = if defect == Defect::Unattached { other } else { image };
        let kind = match defect {
            Defect::MediaType => "application/octet-stream",
            Defect::SwappedEnvelope => form.swapped(),
            _ => form.media_type(),
        };
        Signature::of(form, attached, &layer, kind, annotation)
    }

    fn key(&self, defect: Defect) -> &Key {
        if defect == Defect::OtherKey { &self.other_cosign } else { &self.cosign }
    }

    /// A simple signing payload, and its signature.
    fn simple(&self, defect: Defect, image: &Value) -> (Vec<u8>, Option<String>) {
        let kind = match defect {
            Defect::OtherStatement => "something else",
            _ => "cosign container image signature",
        };
        let payload = json!({ "critical": { "identity": { "docker-reference": "" }, "type": kind,
            "image": { "docker-manifest-digest": image["digest"] } }, "optional": null })
        .to_string();
        let mut signature = self.key(defect).sign_bytes(&signed(defect, payload.as_bytes()));
        damage(defect, &mut signature);
        (payload.into(), Some(STANDARD.encode(signature)))
    }

    fn bundle(&self, defect: Defect, image: &Value) -> Vec<u8> {
        let predicate = match defect {
            Defect::OtherStatement => "https://slsa.dev/provenance/v1",
            _ => "https://sigstore.dev/cosign/sign/v1",
        };
        let (_, hex) = image["digest"].as_str().and_then(|digest| digest.split_once(':')).expect("a digest");
        let statement = json!({ "_type": "https://in-toto.io/Statement/v1", "predicateType": predicate,
            "subject": [{ "digest": { "sha256": hex } }] })
        .to_string();
        let kind = "application/vnd.in-toto+json";
        let told = signed(defect, statement.as_bytes());
        let head = format!("DSSEv1 {} {kind} {} ", kind.len(), told.len());
        let mut signature = self.key(defect).sign_bytes(&[head.as_bytes(), &told].concat());
        damage(defect, &mut signature);
        let envelope = json!({ "payload": STANDARD.encode(&statement), "payloadType": kind,
            "signatures": [{ "sig": STANDARD.encode(signature) }] });
        json!({ "dsseEnvelope": envelope }).to_string().into()
    }

    fn certified(&self, defect: Defect) -> &Certified {
        match defect {
            Defect::OtherKey => &self.other_notation,
            Defect::ExpiredCertificate => &self.expired,
            Defect::OtherUsage => &self.of_servers,
            _ => &self.notation,
        }
    }

    fn jws(&self, defect: Defect, image: &Value) -> Vec<u8> {
        let mut protected = json!({ "alg": "ES256", "crit": critical(defect), "cty": content_type(defect),
            SCHEME: "notary.x509", "io.cncf.notary.signingTime": "2026-01-01T00:00:00Z" });
        if defect == Defect::ExpiredSignature {
            protected[EXPIRY] = json!("2026-01-02T00:00:00Z");
        }
        let signer = self.certified(defect);
        let payload = target(image);
        let protected = URL_SAFE_NO_PAD.encode(protected.to_string());
        let told = URL_SAFE_NO_PAD.encode(signed(defect, payload.as_bytes()));
        let mut signature = signer.sign(format!("{protected}.{told}").as_bytes());
        damage(defect, &mut signature);
        json!({ "payload": URL_SAFE_NO_PAD.encode(payload), "protected": protected,
            "header": { "x5c": [STANDARD.encode(&signer.certificate)] },
            "signature": URL_SAFE_NO_PAD.encode(signature) })
        .to_string()
        .into()
    }

    fn cose(&self, defect: Defect, image: &Value) -> Vec<u8> {
        let text = |text: &str| Cbor::Text(text.into());
        let integer = |number: i64| Cbor::Integer(number.into());
        let names = critical(defect).iter().map(|name| text(name)).collect();
        let mut protected = vec![
            (integer(1), integer(-7)),
            (integer(2), Cbor::Array(names)),
            (integer(3), text(content_type(defect))),
            (text(SCHEME), text("notary.x509")),
        ];
        if defect == Defect::ExpiredSignature {
            protected.push((text(EXPIRY), Cbor::Tag(1, Box::new(integer(1_767_312_000)))));
        }
        let signer = self.certified(defect);
        let payload = target(image).into_bytes();
        let protected = Cbor::Bytes(written(&Cbor::Map(protected)));
        let told = Cbor::Bytes(signed(defect, &payload));
        let parts = vec![text("Signature1"), protected.clone(), Cbor::Bytes(Vec::new()), told];
        let mut signature = signer.sign(&written(&Cbor::Array(parts)));
        damage(defect, &mut signature);
        let chain = Cbor::Array(vec![Cbor::Bytes(signer.certificate.clone())]);
        let unprotected = Cbor::Map(vec![(integer(33), chain)]);
        let parts = vec![protected, unprotected, Cbor::Bytes(payload), Cbor::Bytes(signature)];
        written(&Cbor::Tag(18, Box::new(Cbor::Array(parts))))
    }
}

/// A signature to be pushed.
pub struct Signature {
    /// A tag, or its own digest.
    pub reference: String,
    pub manifest: Value,
    pub layer: Vec<u8>,
}

impl Signature {
    fn of(form: Form, image: &Value, layer: &[u8], kind: &str, annotation: Option<String>) -> Self {
        let mut described = descriptor(kind, layer);
        if let Some(annotation) = annotation {
            described["annotations"] = json!({ "dev.cosignproject.cosign/signature": annotation });
        }
        let config = match form.is_of_notation() {
            true => "application/vnd.cncf.notary.signature",
            false => media_type::OCI_CONFIG,
        };
        let mut manifest = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
            "config": descriptor(config, b"{}"), "layers": [described] });
        let reference = match form.artifact_type() {
            None => format!("{}.sig", image["digest"].as_str().expect("a digest").replace(':', "-")),
            Some(artifact_type) => {
                manifest["subject"] = image.clone();
                // notation says it by the configuration.
                if !form.is_of_notation() {
                    manifest["artifactType"] = json!(artifact_type);
                }
                Digest::sha256_of(manifest.to_string().as_bytes()).to_string()
            }
        };
        Self { reference, manifest, layer: layer.to_vec() }
    }
}

/// What is signed of a payload: more than is stored, where that is cut.
fn signed(defect: Defect, payload: &[u8]) -> Vec<u8> {
    let cut: &[u8] = if defect == Defect::CutPayload { b" and more" } else { b"" };
    [payload, cut].concat()
}

fn damage(defect: Defect, signature: &mut [u8]) {
    if let (Defect::Damaged, Some(last)) = (defect, signature.last_mut()) {
        *last ^= 1;
    }
}

fn target(image: &Value) -> String {
    json!({ "targetArtifact": image }).to_string()
}

fn content_type(defect: Defect) -> &'static str {
    if defect == Defect::OtherStatement { "application/json" } else { PAYLOAD_TYPE }
}

fn critical(defect: Defect) -> Vec<&'static str> {
    let more = match defect {
        Defect::UnknownHeader => Some("org.example.unknown"),
        Defect::ExpiredSignature => Some(EXPIRY),
        _ => None,
    };
    [SCHEME].into_iter().chain(more).collect()
}

fn written(value: &Cbor) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).expect("CBOR");
    bytes
}
