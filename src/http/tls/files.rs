//! The files of TLS. Each pair, and the authorities of clients, are read for themselves: one that cannot be used holds up no other.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures::future::join_all;
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
use crate::http::reloaded::Reloaded;

/// The files, read again when they change.
pub struct Files {
    pairs: Vec<Reloaded<Option<Pair>>>,
    authorities: Option<Reloaded<Authorities>>,
}

/// What the files have held at one time.
#[derive(Clone)]
pub struct Current {
    pairs: Vec<Arc<Option<Pair>>>,
    authorities: Option<Arc<Authorities>>,
}

/// A certificate with its key.
pub struct Pair {
    certificate: Certificate,
    /// Digest of both files.
    content: Digest,
}

/// Pairs are the same if their files hold the same.
impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.content == other.content
    }
}

/// Authorities of client certificates, and their file.
pub struct Authorities {
    roots: Arc<RootCertStore>,
    path: String,
    content: Digest,
}

impl PartialEq for Authorities {
    fn eq(&self, other: &Self) -> bool {
        self.content == other.content
    }
}

impl Files {
    /// Reads all files. A pair that cannot be used is logged and tried again; it is an error only if there is none beside it, and
    /// no certificate to wait for. One that has expired is served: the clock of this machine may be wrong.
    pub fn open(options: &Options) -> Result<Self, Error> {
        let (mut pairs, mut unusable) = (Vec::new(), Vec::new());
        for paths in &options.pairs {
            let (first, failing) = match Pair::read(&paths.0, &paths.1) {
                Ok(pair) => {
                    let expired = pair.certificate.check(&shown(&paths.0)).err().map(|why| why.to_string());
                    if let Some(expired) = &expired {
                        tracing::warn!("{expired}: clients refuse it");
                    }
                    (Some(pair), expired)
                }
                Err(why) => {
                    let failing = why.to_string();
                    unusable.push(why);
                    (None, Some(failing))
                }
            };
            let paths = vec![paths.0.clone(), paths.1.clone()];
            pairs.push(Reloaded::starting_with("the certificates", paths, first, failing, renewed));
        }
        if unusable.len() == pairs.len()
            && options.awaited.is_empty()
            && let Some(first) = unusable.drain(..).next()
        {
            return Err(first);
        }
        for why in unusable {
            tracing::warn!("a certificate is not served until it can be used: {why}");
        }
        let authorities = options.client_ca.as_deref();
        let read = |path| Reloaded::read("the authorities of clients", path, Authorities::read);
        Ok(Self { pairs, authorities: authorities.map(read).transpose()? })
    }

    /// What the files hold.
    pub fn current(&self) -> Current {
        let authorities = self.authorities.as_ref().map(Reloaded::get);
        Current { pairs: self.pairs.iter().map(Reloaded::get).collect(), authorities }
    }

    /// Reads the files that were changed; looks at most once a second.
    pub async fn refresh(&self) {
        let pairs = join_all(self.pairs.iter().map(Reloaded::refresh));
        let authorities = join_all(self.authorities.iter().map(Reloaded::refresh));
        tokio::join!(pairs, authorities);
    }

    /// Reads all files again at once.
    pub async fn reload(&self) {
        let pairs = join_all(self.pairs.iter().map(Reloaded::reload));
        let authorities = join_all(self.authorities.iter().map(Reloaded::reload));
        tokio::join!(pairs, authorities);
    }

    #[cfg(test)]
    pub fn make_due(&self) {
        self.pairs.iter().for_each(Reloaded::make_due);
        self.authorities.iter().for_each(Reloaded::make_due);
    }
}

impl Current {
    /// The certificates that can be used, in the order of the settings.
    pub fn certificates(&self) -> impl Iterator<Item = &Certificate> {
        self.pairs.iter().filter_map(|pair| Option::as_ref(pair)).map(|pair| &pair.certificate)
    }

    /// Whether nothing has changed between two times.
    pub fn is(&self, other: &Self) -> bool {
        let mut pairs = self.pairs.iter().zip(&other.pairs);
        pairs.all(|(one, other)| Arc::ptr_eq(one, other)) && self.has_authorities_of(other)
    }

    /// Whether clients are verified by the same authorities.
    pub fn has_authorities_of(&self, other: &Self) -> bool {
        match (&self.authorities, &other.authorities) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        }
    }

    /// What verifies clients, if their certificates are looked at.
    pub fn verifier(&self, mode: ClientCertificates) -> Result<Option<Arc<dyn ClientCertVerifier>>, Error> {
        let (Some(authorities), true) = (&self.authorities, mode != ClientCertificates::Ignored) else {
            return Ok(None);
        };
        let builder = WebPkiClientVerifier::builder_with_provider(authorities.roots.clone(), provider());
        let builder = match mode {
            ClientCertificates::Required => builder,
            ClientCertificates::Optional | ClientCertificates::Ignored => builder.allow_unauthenticated(),
        };
        let failed =
            |why: &dyn ToString| Error::Authorities { path: authorities.path.clone(), why: why.to_string() };
        builder.build().map(Some).map_err(|why| failed(&why))
    }
}

impl Pair {
    fn read(certificate: &Path, key: &Path) -> Result<Self, Error> {
        let (own, its_key) = (read(certificate)?, read(key)?);
        let (certificate, key) = (shown(certificate), shown(key));
        let certificate = Certificate::parse((&own, &certificate), (&its_key, &key))?;
        Ok(Self { certificate, content: Digest::sha256_of(&[own, its_key].concat()) })
    }
}

/// Reads a pair again: one that has expired does not take the place of another.
fn renewed(paths: &[PathBuf]) -> Result<Option<Pair>, Error> {
    let pair = Pair::read(&paths[0], &paths[1])?;
    pair.certificate.check(&shown(&paths[0]))?;
    Ok(Some(pair))
}

impl Authorities {
    fn read(path: &Path) -> Result<Self, Error> {
        let (pem, path) = (read(path)?, shown(path));
        let mut roots = RootCertStore::empty();
        for authority in chain(&pem, &path)? {
            let added = roots.add(authority);
            added.map_err(|why| Error::Authorities { path: path.clone(), why: why.to_string() })?;
        }
        Ok(Self { roots: Arc::new(roots), path, content: Digest::sha256_of(&pem) })
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|why| Error::Read { path: shown(path), why })
}
