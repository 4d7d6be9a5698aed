//! The files of TLS, as they were last read.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use ocipfs_oci::Digest;
use rustls::{
    RootCertStore,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};

use super::{
    ClientCertificates, Error, Options,
    certificate::{Certificate, chain},
    provider,
};

/// Certificates and the authorities of clients.
pub struct Files {
    pairs: Vec<Certificate>,
    authorities: Option<(Arc<RootCertStore>, String)>,
    /// Digest of all that was read.
    content: Digest,
}

impl Files {
    /// Reads all files.
    pub fn read(options: &Options) -> Result<Self, Error> {
        let mut all = Vec::new();
        let mut pairs = Vec::new();
        for (certificate, key) in &options.pairs {
            let (own, its_key) = (read(certificate)?, read(key)?);
            let (certificate, key) = (shown(certificate), shown(key));
            pairs.push(Certificate::parse((&own, &certificate), (&its_key, &key))?);
            all.extend([own, its_key]);
        }
        let authorities = match &options.client_ca {
            Some(path) => {
                let bytes = read(path)?;
                let roots = authorities(&bytes, &shown(path))?;
                all.push(bytes);
                Some((Arc::new(roots), shown(path)))
            }
            None => None,
        };
        let content = Digest::sha256_of(&all.concat());
        Ok(Self { pairs, authorities, content })
    }

    /// The certificates in the order of the settings.
    pub fn pairs(&self) -> &[Certificate] {
        &self.pairs
    }

    /// What verifies clients, if their certificates are looked at.
    pub fn verifier(&self, mode: ClientCertificates) -> Result<Option<Arc<dyn ClientCertVerifier>>, Error> {
        let (Some((roots, path)), true) = (&self.authorities, mode != ClientCertificates::Ignored) else {
            return Ok(None);
        };
        let builder = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider());
        let builder = match mode {
            ClientCertificates::Required => builder,
            ClientCertificates::Optional | ClientCertificates::Ignored => builder.allow_unauthenticated(),
        };
        let built = builder.build();
        built.map(Some).map_err(|why| Error::Authorities { path: path.clone(), why: why.to_string() })
    }
}

/// Files are the same if they hold the same.
impl PartialEq for Files {
    fn eq(&self, other: &Self) -> bool {
        self.content == other.content
    }
}

/// Returns the paths of all files.
pub fn paths(options: &Options) -> Vec<PathBuf> {
    let pairs = options.pairs.iter().flat_map(|(certificate, key)| [certificate, key]);
    pairs.chain(&options.client_ca).cloned().collect()
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|why| Error::Read { path: shown(path), why })
}

fn authorities(pem: &[u8], path: &str) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for authority in chain(pem, path)? {
        let added = roots.add(authority);
        added.map_err(|why| Error::Authorities { path: path.into(), why: why.to_string() })?;
    }
    Ok(roots)
}
