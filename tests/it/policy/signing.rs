use base64::{Engine, engine::general_purpose::STANDARD};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use serde_json::json;

/// What comes before a key on P-256 in its ASN.1 form.
const HEAD: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3,
    1, 7, 3, 0x42, 0,
];

/// A key that signs images.
pub struct Key(EcdsaKeyPair);

impl Key {
    pub fn make() -> Self {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
        Self(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key.as_ref(), &random).unwrap())
    }

    /// The public key.
    pub fn pem(&self) -> String {
        let body = STANDARD.encode([&HEAD, self.0.public_key().as_ref()].concat());
        format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n")
    }

    /// The payload about an image, and its signature.
    pub fn sign(&self, image: &str) -> (Vec<u8>, String) {
        let payload = json!({ "critical": { "identity": { "docker-reference": "" },
            "image": { "docker-manifest-digest": image }, "type": "cosign container image signature" },
            "optional": null });
        let payload = payload.to_string().into_bytes();
        let signature = self.sign_bytes(&payload);
        (payload, STANDARD.encode(signature))
    }

    /// A signature of these bytes.
    pub fn sign_bytes(&self, bytes: &[u8]) -> Vec<u8> {
        self.0.sign(&SystemRandom::new(), bytes).unwrap().as_ref().to_vec()
    }
}
