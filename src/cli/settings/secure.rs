//! Settings of TLS for the registry: files, client certificates, and an ACME server.

use std::path::PathBuf;

use clap::Args;
use serde::Deserialize;

use super::{usage, values::list};
use crate::{
    cli::Exit,
    http::{
        acme::{self, DEFAULT_DIRECTORY, Domain},
        tls::{self, ClientCertificates},
    },
};

/// Settings as they were given.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TlsSettings {
    /// Certificates for TLS in PEM, each with its chain; the registry then speaks HTTPS only. Of several the client's server name chooses; reloaded on SIGHUP and on change [default: none; plain HTTP]
    #[arg(long, value_name = "FILE", env = "OCIPFS_TLS_CERT", value_delimiter = ',', num_args = 1..)]
    #[serde(default, deserialize_with = "list::deserialize")]
    tls_cert: Option<Vec<PathBuf>>,
    /// Private keys of --tls-cert in PEM, in the same order
    #[arg(long, value_name = "FILE", env = "OCIPFS_TLS_KEY", value_delimiter = ',', num_args = 1..)]
    #[serde(default, deserialize_with = "list::deserialize")]
    tls_key: Option<Vec<PathBuf>>,
    /// Authorities of client certificates in PEM: a client with a certificate of theirs is the user that its common name says (without one, its e-mail address or DNS name) [default: none]
    #[arg(long, value_name = "FILE", env = "OCIPFS_CLIENT_CA")]
    client_ca: Option<PathBuf>,
    /// Whether connections without a client certificate are refused: `required` or `optional` [default: optional with --htpasswd, else required]
    #[arg(long, value_name = "required|optional", env = "OCIPFS_CLIENT_CERT")]
    client_cert: Option<ClientCert>,
    /// Domains to get certificates for from an ACME server, whose terms you accept thereby; it must reach the registry on port 443 of the domain [default: none]
    #[arg(long, value_name = "DOMAIN", env = "OCIPFS_ACME", value_delimiter = ',', num_args = 1..)]
    #[serde(default, deserialize_with = "list::deserialize")]
    acme: Option<Vec<Domain>>,
    /// Directory of the ACME server [default: Let's Encrypt]
    #[arg(long, value_name = "URL", env = "OCIPFS_ACME_DIRECTORY")]
    acme_directory: Option<AcmeDirectory>,
    /// Authority of the ACME server's own certificate, in PEM [default: those of the system]
    #[arg(long, value_name = "FILE", env = "OCIPFS_ACME_CA")]
    acme_ca: Option<PathBuf>,
    /// Where the ACME server sends warnings, such as mailto:me@example.org [default: nowhere]
    #[arg(long, value_name = "URL", env = "OCIPFS_ACME_CONTACT", value_delimiter = ',', num_args = 1..)]
    #[serde(default, deserialize_with = "list::deserialize")]
    acme_contact: Option<Vec<String>>,
}

/// Whether there is a connection without a client certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ClientCert {
    Required,
    Optional,
}

/// The URL of a directory (RFC 8555, section 7.1.1).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct AcmeDirectory(String);

impl std::str::FromStr for AcmeDirectory {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = text.parse::<reqwest::Url>().ok();
        match url.filter(|url| url.scheme() == "https" && url.has_host()) {
            Some(_) => Ok(Self(text.into())),
            None => {
                Err(format!("invalid ACME directory {text:?}: expected a URL such as {DEFAULT_DIRECTORY}"))
            }
        }
    }
}

impl TryFrom<String> for AcmeDirectory {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl TlsSettings {
    /// Takes from the file what neither flags nor environment said.
    pub fn or(self, file: Self) -> Self {
        Self {
            tls_cert: self.tls_cert.or(file.tls_cert),
            tls_key: self.tls_key.or(file.tls_key),
            client_ca: self.client_ca.or(file.client_ca),
            client_cert: self.client_cert.or(file.client_cert),
            acme: self.acme.or(file.acme),
            acme_directory: self.acme_directory.or(file.acme_directory),
            acme_ca: self.acme_ca.or(file.acme_ca),
            acme_contact: self.acme_contact.or(file.acme_contact),
        }
    }

    fn domains(&self) -> &[Domain] {
        self.acme.as_deref().unwrap_or_default()
    }

    /// Whether the registry speaks HTTPS.
    pub fn is_on(&self) -> bool {
        self.tls_cert.as_ref().is_some_and(|files| !files.is_empty()) || !self.domains().is_empty()
    }

    /// Whether client certificates make users.
    pub fn has_client_ca(&self) -> bool {
        self.client_ca.is_some()
    }

    /// The files of TLS, if there is any. Users of other kinds make client certificates optional.
    pub fn options(&self, has_other_users: bool) -> Result<Option<tls::Options>, Exit> {
        self.check()?;
        if !self.is_on() {
            return Ok(None);
        }
        let client_certificates = match (&self.client_ca, self.client_cert) {
            (None, _) => ClientCertificates::Ignored,
            (Some(_), Some(ClientCert::Optional)) => ClientCertificates::Optional,
            (Some(_), Some(ClientCert::Required)) => ClientCertificates::Required,
            (Some(_), None) if has_other_users => ClientCertificates::Optional,
            (Some(_), None) => ClientCertificates::Required,
        };
        let certificates = self.tls_cert.iter().flatten().cloned();
        Ok(Some(tls::Options {
            pairs: certificates.zip(self.tls_key.iter().flatten().cloned()).collect(),
            client_ca: self.client_ca.clone(),
            client_certificates,
            awaited: self.domains().iter().map(ToString::to_string).collect(),
        }))
    }

    /// Refuses what makes no sense together.
    fn check(&self) -> Result<(), Exit> {
        let count = |files: &Option<Vec<PathBuf>>| files.as_ref().map_or(0, Vec::len);
        let (certificates, keys) = (count(&self.tls_cert), count(&self.tls_key));
        if certificates != keys {
            let message =
                format!("--tls-cert and --tls-key come in pairs, and there are {certificates} and {keys}");
            return Err(usage(message, "give a --tls-key for each --tls-cert, in the same order"));
        }
        if self.client_ca.is_some() && !self.is_on() {
            return Err(usage("--client-ca needs TLS", "name a certificate with --tls-cert and --tls-key"));
        }
        if self.client_cert.is_some() && self.client_ca.is_none() {
            return Err(usage(
                "--client-cert needs --client-ca",
                "name the authorities of client certificates",
            ));
        }
        let unused = [
            self.acme_directory.as_ref().map(|_| "--acme-directory"),
            self.acme_ca.as_ref().map(|_| "--acme-ca"),
            self.acme_contact.as_ref().map(|_| "--acme-contact"),
        ];
        match unused.into_iter().flatten().next().filter(|_| self.domains().is_empty()) {
            Some(flag) => Err(usage(format!("{flag} needs --acme"), "name the domains with --acme DOMAIN")),
            None => Ok(()),
        }
    }

    /// The ACME server, if certificates come from one.
    pub fn acme(&self, data_dir: PathBuf) -> Option<acme::Options> {
        (!self.domains().is_empty()).then(|| acme::Options {
            domains: self.domains().to_vec(),
            directory: self.acme_directory.as_ref().map_or(DEFAULT_DIRECTORY, |url| &url.0).into(),
            authority: self.acme_ca.clone(),
            contacts: self.acme_contact.clone().unwrap_or_default(),
            dir: data_dir.join("acme"),
        })
    }

    /// Files of private keys.
    pub fn keys(&self) -> &[PathBuf] {
        self.tls_key.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> TlsSettings {
        toml::from_str(text).unwrap()
    }

    fn mode(text: &str, has_other_users: bool) -> ClientCertificates {
        settings(text).options(has_other_users).unwrap().unwrap().client_certificates
    }

    #[test]
    fn client_certificates_are_required_unless_there_are_other_users_or_the_setting_says_otherwise() {
        let pair = "tls-cert = \"cert.pem\"\ntls-key = [\"key.pem\"]\n";
        let with = |more: &str| format!("{pair}client-ca = \"ca.pem\"\n{more}");
        assert_eq!(mode(pair, true), ClientCertificates::Ignored);
        assert_eq!(mode(&with(""), false), ClientCertificates::Required);
        assert_eq!(mode(&with(""), true), ClientCertificates::Optional);
        assert_eq!(mode(&with("client-cert = \"optional\""), false), ClientCertificates::Optional);
        assert_eq!(mode(&with("client-cert = \"required\""), true), ClientCertificates::Required);
    }

    #[test]
    fn tls_settings_that_make_no_sense_together_are_refused() {
        for (text, told) in [
            ("tls-cert = \"a\"", "come in pairs, and there are 1 and 0"),
            ("tls-cert = \"a\"\ntls-key = [\"b\", \"c\"]", "there are 1 and 2"),
            ("client-ca = \"a\"", "--client-ca needs TLS"),
            ("acme = \"r.example\"\nclient-cert = \"optional\"", "--client-cert needs --client-ca"),
            ("acme-ca = \"a\"", "--acme-ca needs --acme"),
            ("acme-contact = \"mailto:a\"", "--acme-contact needs --acme"),
        ] {
            match settings(text).options(false) {
                Err(Exit::Usage(failure)) => assert!(failure.message.contains(told), "{}", failure.message),
                other => panic!("{text}: {:?}", other.err()),
            }
        }
        assert!(settings("").options(false).unwrap().is_none());
        let acme = settings("acme = [\"a.example\", \"B.example\"]");
        assert_eq!(acme.options(false).unwrap().unwrap().awaited, ["a.example", "b.example"]);
        assert_eq!(acme.acme("/n".into()).unwrap().dir, PathBuf::from("/n/acme"));
        assert!(toml::from_str::<TlsSettings>("acme-directory = \"http://a\"").is_err());
    }
}
