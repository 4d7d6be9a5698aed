//! What TLS tells of a client: that nothing in between reads along, and the user whom its certificate names.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName};

use super::{
    certificate::{alternative_names, validity},
    login::CertificateLogin,
};

/// A longer name is not one of a user.
const MAX_NAME_BYTES: usize = 255;

/// An extension of requests that come over TLS.
#[derive(Clone, Debug, Default)]
pub struct Secure {
    user: Option<Arc<str>>,
    login: Option<Arc<CertificateLogin>>,
}

impl Secure {
    /// A connection with the certificate of its client and its chain, which has been verified by the authorities of `generation`.
    pub fn new(chain: &[CertificateDer<'_>], generation: u64) -> Self {
        let Some(own) = chain.first() else { return Self::default() };
        let Ok((_, parsed)) = x509_parser::parse_x509_certificate(own) else { return Self::default() };
        let login = CertificateLogin::new(chain, validity(&parsed).1, generation);
        Self { user: user(&parsed).map(Into::into), login: Some(Arc::new(login)) }
    }

    /// The certificate of the client, if it showed one.
    pub(super) fn login(&self) -> Option<&CertificateLogin> {
        self.login.as_deref()
    }

    /// The user whom the client's certificate names.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }
}

/// Returns the common name of the subject; without one its first e-mail address, then its first DNS name.
fn user(certificate: &X509Certificate<'_>) -> Option<String> {
    let common = certificate.subject().iter_common_name().find_map(|name| name.as_str().ok());
    let email = |name: &GeneralName<'_>| match name {
        GeneralName::RFC822Name(name) => Some((*name).to_owned()),
        _ => None,
    };
    let domain = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    };
    let named = common.map(str::to_owned).or_else(|| alternative_names(certificate).find_map(email));
    let named = named.or_else(|| alternative_names(certificate).find_map(domain));
    named.filter(|name| is_name(name))
}

/// A name goes into logs, and a user of the file of passwords has no colon.
fn is_name(name: &str) -> bool {
    let is_plain = !name.chars().any(|c| c.is_control() || c == ':');
    !name.trim().is_empty() && name.len() <= MAX_NAME_BYTES && is_plain
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

    use super::*;

    fn certificate(common: Option<&str>, email: Option<&str>, domain: Option<&str>) -> Secure {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = DistinguishedName::new();
        if let Some(common) = common {
            parameters.distinguished_name.push(DnType::CommonName, common);
        }
        let names = [
            domain.map(|domain| SanType::DnsName(domain.try_into().unwrap())),
            email.map(|email| SanType::Rfc822Name(email.try_into().unwrap())),
        ];
        parameters.subject_alt_names = names.into_iter().flatten().collect();
        let made = parameters.self_signed(&KeyPair::generate().unwrap()).unwrap();
        Secure::new(&[made.der().clone()], 0)
    }

    #[test]
    fn the_user_of_a_client_certificate_is_its_common_name_then_its_email_then_its_dns_name() {
        let (email, domain) = (Some("me@team.example"), Some("ci.team.example"));
        for (secure, user) in [
            (certificate(Some("me"), email, domain), Some("me")),
            (certificate(None, email, domain), Some("me@team.example")),
            (certificate(None, None, domain), Some("ci.team.example")),
            (certificate(None, None, None), None),
            (certificate(Some("me\nadmin"), None, None), None),
            (certificate(Some("me:you"), None, None), None),
            (certificate(Some(" "), None, None), None),
            (certificate(Some(&"x".repeat(256)), None, None), None),
        ] {
            assert_eq!(secure.user(), user);
        }
        assert_eq!(Secure::new(&[], 0).user(), None);
    }
}
