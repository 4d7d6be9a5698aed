//! Answers to an ACME server that connects to this listener to see who answers for a name (RFC 8737).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    sign::{CertifiedKey, SingleCertAndKey},
};

use super::provider;
use crate::http::lock::locked;

/// What an ACME server says that it speaks.
pub const PROTOCOL: &[u8] = b"acme-tls/1";

/// Names that are being proven, and what each is proven with. Clones share them.
#[derive(Clone, Default)]
pub struct Challenges(Arc<Mutex<HashMap<String, Arc<ServerConfig>>>>);

/// An answer, given until it is dropped.
pub struct Answer {
    name: String,
    challenges: Challenges,
}

impl Challenges {
    /// Answers for a name with the digest that proves the ACME account.
    pub fn answer(&self, name: &str, digest: &[u8]) -> Result<Answer, String> {
        let config = config(name, digest)?;
        locked(&self.0).insert(name.into(), Arc::new(config));
        Ok(Answer { name: name.into(), challenges: self.clone() })
    }

    /// The configuration that proves a name.
    pub fn config(&self, name: &str) -> Option<Arc<ServerConfig>> {
        locked(&self.0).get(&name.to_ascii_lowercase()).cloned()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        locked(&self.challenges.0).remove(&self.name);
    }
}

/// A certificate signed by itself, with the digest in an extension.
fn config(name: &str, digest: &[u8]) -> Result<ServerConfig, String> {
    let of_rcgen = |error: rcgen::Error| error.to_string();
    let mut parameters = rcgen::CertificateParams::new(vec![name.to_owned()]).map_err(of_rcgen)?;
    parameters.custom_extensions = vec![rcgen::CustomExtension::new_acme_identifier(digest)];
    let key = rcgen::KeyPair::generate().map_err(of_rcgen)?;
    let certificate = parameters.self_signed(&key).map_err(of_rcgen)?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?.with_no_client_auth();
    // Not `with_single_cert`: it refuses a certificate with a critical extension that it does not know, as this one has to have.
    let key = provider().key_provider.load_private_key(key).map_err(|error| error.to_string())?;
    let certified = CertifiedKey::new(vec![certificate.der().clone()], key);
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(config)
}
