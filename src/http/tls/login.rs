//! The certificate of a client, and what verifies it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use rustls::{
    pki_types::{CertificateDer, UnixTime},
    server::danger::ClientCertVerifier,
};

/// What verifies clients now.
#[derive(Clone, Debug)]
pub struct Verification {
    pub verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// Grows when the authorities change.
    pub generation: u64,
}

/// The certificate of a client with its chain, and by which authorities it was verified last.
#[derive(Debug)]
pub struct CertificateLogin {
    chain: Vec<CertificateDer<'static>>,
    end: SystemTime,
    generation: AtomicU64,
}

impl CertificateLogin {
    pub fn new(chain: &[CertificateDer<'_>], end: SystemTime, generation: u64) -> Self {
        let chain = chain.iter().map(|one| one.clone().into_owned()).collect();
        Self { chain, end, generation: AtomicU64::new(generation) }
    }

    /// When it expires.
    pub fn end(&self) -> SystemTime {
        self.end
    }

    /// Whether the certificate is accepted by what verifies clients now.
    pub fn is_accepted(&self, Verification { verifier, generation }: &Verification) -> bool {
        if SystemTime::now() >= self.end {
            return false;
        }
        if self.generation.load(Ordering::Relaxed) == *generation {
            return true;
        }
        let (Some(verifier), Some((own, rest))) = (verifier, self.chain.split_first()) else { return false };
        let is_accepted = verifier.verify_client_cert(own, rest, UnixTime::now()).is_ok();
        if is_accepted {
            self.generation.store(*generation, Ordering::Relaxed);
        }
        is_accepted
    }
}
