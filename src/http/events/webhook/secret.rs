//! The secret that receivers of webhooks share with this node.

use std::{fs, path::Path};

use ring::hmac;

use super::WebhookError;
use crate::http::reloaded::{Reload, Reloaded};

/// A longer file is not a secret.
pub const MAX_BYTES: usize = 4096;

/// Signs bodies with the secret of a file, as it is now. Without a file nothing is signed. Clones share it.
#[derive(Clone, Default)]
pub struct Signer(Option<Reloaded<Secret>>);

#[derive(PartialEq, Eq)]
struct Secret(Vec<u8>);

impl Signer {
    /// Reads the file.
    pub fn read(path: Option<&Path>) -> Result<Self, WebhookError> {
        let read = |path| Reloaded::read("the secret of the webhooks", path, Secret::read);
        path.map(read).transpose().map(Self)
    }

    /// Returns the file, to be read again on SIGHUP.
    pub fn file(&self) -> Option<Box<dyn Reload>> {
        self.0.clone().map(|file| Box::new(file) as Box<dyn Reload>)
    }

    /// Returns the HMAC-SHA256 of a body, as the value of its header; reads the file again if it was changed.
    pub async fn sign(&self, body: &[u8]) -> Option<String> {
        let file = self.0.as_ref()?;
        file.refresh().await;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &file.get().0);
        let hex: String = hmac::sign(&key, body).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Some(format!("sha256={hex}"))
    }
}

impl Secret {
    fn read(path: &Path) -> Result<Self, WebhookError> {
        let shown = || path.display().to_string();
        let bytes = fs::read(path).map_err(|why| WebhookError::Secret { path: shown(), why })?;
        let secret = bytes.trim_ascii_end();
        match secret.len() {
            1..=MAX_BYTES => Ok(Self(secret.into())),
            length => Err(WebhookError::Length { path: shown(), length }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_signature_is_the_hmac_sha256_of_the_body_by_the_secret_as_it_is_now() {
        // RFC 4231, test case 2.
        let (body, file) = (b"what do ya want for nothing?", tempfile::NamedTempFile::new().unwrap());
        let signed = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        fs::write(file.path(), "Jefe\n").unwrap();
        let signer = Signer::read(Some(file.path())).unwrap();
        assert_eq!(signer.sign(body).await.unwrap(), signed);
        assert_eq!(Signer::default().sign(b"").await, None);
        fs::write(file.path(), "\n").unwrap();
        assert!(matches!(Secret::read(file.path()), Err(WebhookError::Length { length: 0, .. })));
        let hangup = signer.file().unwrap();
        hangup.reload().await;
        assert_eq!(signer.sign(body).await.unwrap(), signed, "the previous secret stays");
        fs::write(file.path(), "other").unwrap();
        hangup.reload().await;
        assert_ne!(signer.sign(body).await.unwrap(), signed);
        fs::write(file.path(), "Jefe").unwrap();
        signer.0.as_ref().unwrap().make_due();
        assert_eq!(signer.sign(body).await.unwrap(), signed, "without a signal");
    }
}
