//! A certificate authority, for servers and clients on loopback.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair,
};
use tempfile::TempDir;

/// An authority, with a directory for what it issues.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    dir: TempDir,
}

/// A certificate and its key, in PEM.
pub struct Pair {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Pair {
    /// The certificate's path as an argument.
    pub fn certificate(&self) -> &str {
        text(&self.certificate)
    }

    /// The key's path as an argument.
    pub fn key(&self) -> &str {
        text(&self.key)
    }

    /// Puts the certificate and the key of another pair in the place of this one, as what renews certificates does: each by a rename.
    pub fn replace_by(&self, other: &Self) {
        for (from, to) in [(&other.certificate, &self.certificate), (&other.key, &self.key)] {
            let new = to.with_extension("new");
            fs::copy(from, &new).expect("a copy");
            fs::rename(new, to).expect("a rename");
        }
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

impl Authority {
    pub fn new() -> Self {
        let mut parameters = named("an authority of the tests");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = parameters.self_signed(&key).expect("a certificate").pem();
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("ca.pem"), &pem).expect("a file");
        Self { issuer: Issuer::new(parameters, key), pem, dir }
    }

    /// Its own certificate.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The path of its own certificate.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// Issues a certificate of a server for these names and addresses.
    pub fn server(&self, file: &str, names: &[&str]) -> Pair {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut parameters = CertificateParams::new(names).expect("names");
        parameters.distinguished_name = DistinguishedName::new();
        self.issue(file, parameters)
    }

    /// Issues a certificate of a server that has expired.
    pub fn expired(&self, file: &str) -> Pair {
        let mut parameters = CertificateParams::new(vec!["localhost".into()]).expect("a name");
        parameters.not_after = rcgen::date_time_ymd(2001, 1, 1);
        self.issue(file, parameters)
    }

    /// Issues a certificate of a client whose common name is `user`.
    pub fn client(&self, file: &str, user: &str) -> Pair {
        let mut parameters = named(user);
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(file, parameters)
    }

    fn issue(&self, file: &str, parameters: CertificateParams) -> Pair {
        let key = KeyPair::generate().expect("a key");
        let certificate = parameters.signed_by(&key, &self.issuer).expect("a certificate");
        let path = |end: &str| self.dir.path().join(format!("{file}.{end}"));
        let pair = Pair { certificate: path("pem"), key: path("key") };
        fs::write(&pair.certificate, certificate.pem()).expect("a file");
        fs::write(&pair.key, key.serialize_pem()).expect("a file");
        pair
    }
}

fn named(common: &str) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, common);
    parameters
}
