//! What an announcement in a private swarm hides, and from whom: all but key holders.

use chacha20poly1305::{
    Key, KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use hmac::{Hmac, Mac};
use sha2::Sha256;

const NONCE_BYTES: usize = 24;
/// Bytes of the hash in the name of the service.
const TAG_BYTES: usize = 10;

/// The secrets that are derived from a swarm key. Neither tells anything of the key.
pub(super) struct Secret {
    tag: String,
    cipher: XChaCha20Poly1305,
}

impl Secret {
    pub(super) fn of(swarm_key: &[u8; 32]) -> Self {
        let tag = hex::encode(&derived(swarm_key, b"ocipfs mdns service 1")[..TAG_BYTES]);
        let key = derived(swarm_key, b"ocipfs mdns announcement 1");
        Self { tag, cipher: XChaCha20Poly1305::new(Key::from_slice(&key)) }
    }

    /// The hash that members recognise.
    pub(super) fn tag(&self) -> &str {
        &self.tag
    }

    /// Encrypts an announcement.
    pub(super) fn seal(&self, text: &[u8]) -> Option<Vec<u8>> {
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let payload = Payload { msg: text, aad: self.tag.as_bytes() };
        let sealed = self.cipher.encrypt(XNonce::from_slice(&nonce), payload).ok()?;
        Some([&nonce[..], &sealed].concat())
    }

    /// Decrypts an announcement, if a key holder made it.
    pub(super) fn open(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_BYTES)?;
        let payload = Payload { msg: sealed, aad: self.tag.as_bytes() };
        self.cipher.decrypt(XNonce::from_slice(nonce), payload).ok()
    }
}

/// HMAC-SHA256 of a purpose.
fn derived(swarm_key: &[u8; 32], purpose: &[u8]) -> [u8; 32] {
    // A key of any length is accepted.
    let Ok(mut mac) = <Hmac<Sha256> as Mac>::new_from_slice(swarm_key) else { return [0; 32] };
    mac.update(purpose);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_holders_of_the_swarm_key_read_an_announcement() {
        let (one, other) = (Secret::of(&[1; 32]), Secret::of(&[2; 32]));
        let sealed = one.seal(b"peer").unwrap();
        assert_eq!(Secret::of(&[1; 32]).open(&sealed).as_deref(), Some(&b"peer"[..]));
        assert_eq!(other.open(&sealed), None);
        assert_ne!(one.tag(), other.tag());
        assert_ne!(sealed, one.seal(b"peer").unwrap(), "the same announcement looks different each time");
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert_eq!(one.open(&damaged), None, "{at}");
            assert_eq!(one.open(&sealed[..at]), None, "{at}");
        }
    }

    #[test]
    fn the_name_of_the_service_does_not_contain_the_key() {
        let tag = Secret::of(&[0xab; 32]).tag().to_owned();
        assert_eq!(tag.len(), 2 * TAG_BYTES);
        assert!(!tag.contains("abab") && !hex::encode(derived(&[0xab; 32], b"other")).contains(&tag));
    }
}
