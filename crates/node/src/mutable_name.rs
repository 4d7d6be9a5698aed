//! What may follow `/ipns/`: an IPNS name or a domain.

use std::{fmt, str::FromStr};

use libp2p::{
    PeerId,
    identity::Keypair,
    kad::{Record, RecordKey},
};

use crate::Cid;

/// The codec of a CID of a public key.
const LIBP2P_KEY: u64 = 0x72;
/// The limits of RFC 1035, section 2.3.4; that of a domain leaves space for `_dnslink.`.
const MAX_LABEL_LENGTH: usize = 63;
const MAX_DOMAIN_LENGTH: usize = 244;

/// Why a text is neither an IPNS name nor a domain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid IPNS name {text:?}: {why}")]
pub struct InvalidName {
    text: String,
    why: &'static str,
}

/// An IPNS name: the hash of a public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IpnsName(PeerId);

impl IpnsName {
    /// Returns the name of a key.
    pub fn of(key: &Keypair) -> Self {
        Self(key.public().to_peer_id())
    }

    /// Returns the hash of the key, which is a peer id.
    pub fn peer(&self) -> &PeerId {
        &self.0
    }

    pub(crate) fn record(&self, value: Vec<u8>) -> Record {
        Record { key: self.key(), value, publisher: None, expires: None }
    }

    pub(crate) fn key(&self) -> RecordKey {
        RecordKey::from([b"/ipns/", &self.0.to_bytes()[..]].concat())
    }
}

impl From<PeerId> for IpnsName {
    fn from(peer: PeerId) -> Self {
        Self(peer)
    }
}

impl fmt::Display for IpnsName {
    /// Writes a CIDv1 in base36, `k51...` or `k2k4...`, which is valid in host names and repository names.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text =
            Cid::new_v1(LIBP2P_KEY, *self.0.as_ref()).to_string_of_base(cid::multibase::Base::Base36Lower);
        f.write_str(&text.map_err(|_| fmt::Error)?)
    }
}

impl FromStr for IpnsName {
    type Err = InvalidName;

    /// Accepts a CID of a key in any base, or a peer id.
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let error = || invalid_name(text, "expected the CID of a key (k51...) or a domain");
        if let Ok(peer) = text.parse::<PeerId>() {
            return Ok(Self(peer));
        }
        let cid = Cid::try_from(text).map_err(|_| error())?;
        if cid.codec() != LIBP2P_KEY {
            return Err(error());
        }
        PeerId::from_bytes(&cid.hash().to_bytes()).map(Self).map_err(|_| error())
    }
}

/// A domain in lower case without a final dot. It has at least one dot, which no key has.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Domain(String);

impl Domain {
    /// Returns the text as it is looked up.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Domain {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let domain = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if !domain.contains('.') {
            return Err(invalid_name(text, "expected a domain with a dot, such as example.org"));
        }
        if domain.len() > MAX_DOMAIN_LENGTH {
            return Err(invalid_name(text, "expected at most 244 characters"));
        }
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let is_label = |label: &str| (1..=MAX_LABEL_LENGTH).contains(&label.len()) && label.chars().all(fits);
        match domain.split('.').all(is_label) {
            true => Ok(Self(domain)),
            false => Err(invalid_name(text, "expected labels of 1 to 63 letters, digits, '-' and '_'")),
        }
    }
}

/// The target of an `/ipns/` path: a key or a domain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MutableName {
    /// The value is signed by the owner of the key.
    Key(IpnsName),
    /// The value is a TXT record in DNS. <https://dnslink.dev>
    Domain(Domain),
}

impl From<IpnsName> for MutableName {
    fn from(name: IpnsName) -> Self {
        Self::Key(name)
    }
}

impl fmt::Display for MutableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(name) => name.fmt(f),
            Self::Domain(domain) => domain.fmt(f),
        }
    }
}

impl FromStr for MutableName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        match text.contains('.') {
            true => text.parse().map(Self::Domain),
            false => text.parse().map(Self::Key),
        }
    }
}

fn invalid_name(text: &str, why: &'static str) -> InvalidName {
    InvalidName { text: text.chars().take(120).collect(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipns_name_is_formatted_in_base36_and_parsed_in_any_base() {
        let name = IpnsName::of(&Keypair::generate_ed25519());
        let text = name.to_string();
        assert!(text.starts_with("k51") && text.len() == 62, "{text}");
        assert_eq!(text.parse(), Ok(name));
        assert_eq!(name.0.to_string().parse(), Ok(name), "a peer id");
        assert_eq!(text.parse(), Ok(MutableName::Key(name)));
        for bad in ["", "k51", "bafybeiat5rs4tk3kvllj4uu5zr652qnp7kxc4ttewhc5md23gxflqqp7lu"] {
            assert!(bad.parse::<IpnsName>().is_err() && bad.parse::<MutableName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_domain_has_a_dot_and_valid_dns_labels() {
        for (text, domain) in [
            ("example.org", "example.org"),
            ("Images.Example.ORG.", "images.example.org"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("_dnslink.a_b.example", "_dnslink.a_b.example"),
        ] {
            assert_eq!(text.parse::<MutableName>().unwrap().to_string(), domain);
        }
        let long = ["a"; 123].join(".");
        for (bad, why) in [
            ("localhost", "a domain with a dot"),
            (".", "a domain with a dot"),
            ("a..b", "labels of 1 to 63"),
            (".a", "labels of 1 to 63"),
            ("a.b/c", "labels of 1 to 63"),
            ("bücher.example", "labels of 1 to 63"),
            (&format!("{}.org", "a".repeat(64)), "labels of 1 to 63"),
            (&long, "244"),
        ] {
            let error = bad.parse::<Domain>().unwrap_err().to_string();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }
}
