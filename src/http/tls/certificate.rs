//! Certificates with their keys, chosen by the name that a client asks for.

use std::{
    fmt,
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls::{
    Error as TlsError, InconsistentKeys,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName};

use super::{Error, provider};

/// A certificate with its chain and its key.
#[derive(Clone)]
pub struct Certificate {
    key: Arc<CertifiedKey>,
    /// In lower case; the first label may be `*`.
    names: Vec<String>,
    addresses: Vec<IpAddr>,
    begin: SystemTime,
    end: SystemTime,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("names", &self.names).finish_non_exhaustive()
    }
}

impl Certificate {
    /// Reads a certificate and its key, which are PEM, whether it has expired or not; the paths are for errors.
    pub fn parse(
        (certificate, certificate_path): (&[u8], &str),
        (key, key_path): (&[u8], &str),
    ) -> Result<Self, Error> {
        let chain = chain(certificate, certificate_path)?;
        let missing = || Error::Missing { path: key_path.into(), what: "private key without a passphrase" };
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| missing())?;
        let key = provider().key_provider.load_private_key(key);
        let key = key.map_err(|why| Error::Key { path: key_path.into(), why: why.to_string() })?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) | Err(TlsError::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(TlsError::InconsistentKeys(_)) => {
                return Err(Error::OtherKey { key: key_path.into(), certificate: certificate_path.into() });
            }
            Err(why) => return Err(invalid(certificate_path, why)),
        }
        Self::of(certified, certificate_path)
    }

    fn of(key: CertifiedKey, path: &str) -> Result<Self, Error> {
        let own = key.end_entity_cert().map_err(|why| invalid(path, why))?;
        let (_, own) = x509_parser::parse_x509_certificate(own).map_err(|why| invalid(path, why))?;
        let (begin, end) = validity(&own);
        let (mut names, mut addresses) = (Vec::new(), Vec::new());
        for name in alternative_names(&own) {
            match name {
                GeneralName::DNSName(name) => names.push(name.to_ascii_lowercase()),
                GeneralName::IPAddress(bytes) => addresses.extend(ip(bytes)),
                _ => {}
            }
        }
        drop(own);
        Ok(Self { key: Arc::new(key), names, addresses, begin, end })
    }

    /// Refuses a certificate that has expired; the path is for the error.
    pub fn check(&self, path: &str) -> Result<(), Error> {
        if self.end > SystemTime::now() {
            return Ok(());
        }
        let when = humantime::format_rfc3339_seconds(self.end).to_string();
        Err(Error::Expired { path: path.into(), when })
    }

    /// The first name that is one host.
    pub fn first_name(&self) -> Option<&str> {
        self.names.iter().map(String::as_str).find(|name| !name.starts_with('*'))
    }

    /// Whether clients accept it for a name or an address.
    pub fn covers(&self, host: &str) -> bool {
        match host.parse::<IpAddr>() {
            Ok(address) => self.addresses.contains(&address),
            Err(_) => self.is_for(host) || self.is_wildcard_for(host),
        }
    }

    fn is_for(&self, name: &str) -> bool {
        self.names.iter().any(|own| own.eq_ignore_ascii_case(name))
    }

    /// A `*` stands for one label (RFC 6125, section 6.4.3).
    fn is_wildcard_for(&self, name: &str) -> bool {
        let Some((_, rest)) = name.split_once('.') else { return false };
        self.names.iter().any(|own| own.strip_prefix("*.").is_some_and(|own| own.eq_ignore_ascii_case(rest)))
    }

    /// When to get the next one: a third of the validity is left then.
    pub fn renewal(&self) -> SystemTime {
        let validity = self.end.duration_since(self.begin).unwrap_or_default();
        self.end - validity / 3
    }
}

fn invalid(path: &str, why: impl ToString) -> Error {
    Error::Certificate { path: path.into(), why: why.to_string() }
}

/// Reads all certificates of a file, of which there is one.
pub fn chain(pem: &[u8], path: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match chain.map_err(|why| invalid(path, why))? {
        chain if chain.is_empty() => Err(Error::Missing { path: path.into(), what: "certificate" }),
        chain => Ok(chain),
    }
}

/// The begin and the end of the time in which a certificate is valid.
pub fn validity(certificate: &X509Certificate) -> (SystemTime, SystemTime) {
    let time = |seconds: i64| UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    let validity = certificate.validity();
    (time(validity.not_before.timestamp()), time(validity.not_after.timestamp()))
}

/// The subject's alternative names.
pub fn alternative_names<'a, 'x>(
    certificate: &'a X509Certificate<'x>,
) -> impl Iterator<Item = &'a GeneralName<'x>> {
    let names = certificate.subject_alternative_name().ok().flatten();
    names.into_iter().flat_map(|names| names.value.general_names.iter())
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// Chooses among certificates: by name, then one for `*`, then the first; of several, one that has not expired, and whose key the
/// client can verify.
#[derive(Debug)]
pub struct Certificates(Vec<Certificate>);

impl Certificates {
    pub fn new(all: Vec<Certificate>) -> Self {
        Self(all)
    }
}

/// The certificate of a name.
fn named<'a>(all: &[&'a Certificate], name: &str) -> Option<&'a Certificate> {
    let exact = all.iter().find(|of| of.is_for(name));
    exact.or_else(|| all.iter().find(|of| of.is_wildcard_for(name))).copied()
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let (schemes, now) = (hello.signature_schemes(), SystemTime::now());
        let verified = self.0.iter().filter(|of| of.key.key.choose_scheme(schemes).is_some());
        let (current, expired): (Vec<_>, Vec<_>) = verified.partition(|of| of.end > now);
        let name = hello.server_name();
        let found = name.and_then(|name| named(&current, name).or_else(|| named(&expired, name)));
        let found = found.or(current.first().copied()).or(expired.first().copied());
        found.or(self.0.first()).map(|found| found.key.clone())
    }
}
