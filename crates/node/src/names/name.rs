use std::{fmt, str::FromStr};

use libp2p::{
    PeerId,
    identity::Keypair,
    kad::{Record, RecordKey},
};

use crate::Cid;

/// The codec of a CID that is a key.
const LIBP2P_KEY: u64 = 0x72;
/// RFC 1035, section 2.3.4: of a label, and of all of them in a text with `_dnslink.` before them.
const LONGEST_LABEL: usize = 63;
const LONGEST_DOMAIN: usize = 244;

/// Why a text is neither an IPNS name nor a domain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is no IPNS name: {why}")]
pub struct NotAName {
    given: String,
    why: &'static str,
}

/// An IPNS name: the hash of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Name(PeerId);

impl Name {
    /// The name of a key.
    pub fn of(key: &Keypair) -> Self {
        Self(key.public().to_peer_id())
    }

    /// The hash of the key, which is a peer id.
    pub fn peer(&self) -> &PeerId {
        &self.0
    }

    pub(super) fn record(&self, value: Vec<u8>) -> Record {
        Record { key: self.key(), value, publisher: None, expires: None }
    }

    pub(crate) fn key(&self) -> RecordKey {
        RecordKey::from([b"/ipns/", &self.0.to_bytes()[..]].concat())
    }
}

impl From<PeerId> for Name {
    fn from(peer: PeerId) -> Self {
        Self(peer)
    }
}

impl fmt::Display for Name {
    /// CIDv1 in base36, `k51...` or `k2k4...`, which fits into a host name and into a repository name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text =
            Cid::new_v1(LIBP2P_KEY, *self.0.as_ref()).to_string_of_base(cid::multibase::Base::Base36Lower);
        f.write_str(&text.map_err(|_| fmt::Error)?)
    }
}

impl FromStr for Name {
    type Err = NotAName;

    /// Takes a CID of a key in any base, or a peer id.
    fn from_str(text: &str) -> Result<Self, NotAName> {
        let error = || no_name(text, "it should be the CID of a key, k51..., or a domain");
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

/// A domain, in small letters and without the dot at its end. It has one dot at least, which no key has.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Domain(String);

impl Domain {
    /// The text as it is looked up.
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
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, NotAName> {
        let domain = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if !domain.contains('.') {
            return Err(no_name(text, "a domain has a dot, as example.org"));
        }
        if domain.len() > LONGEST_DOMAIN {
            return Err(no_name(text, "a domain is no longer than 244 characters"));
        }
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let is_label = |label: &str| (1..=LONGEST_LABEL).contains(&label.len()) && label.chars().all(fits);
        match domain.split('.').all(is_label) {
            true => Ok(Self(domain)),
            false => Err(no_name(
                text,
                "between the dots of a domain there are 1 to 63 letters, digits, '-' and '_'",
            )),
        }
    }
}

/// What stands behind `/ipns/`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Pointer {
    /// What a key's owner signed says what it means.
    Key(Name),
    /// A TXT record of DNS says it. <https://dnslink.dev>
    Domain(Domain),
}

impl From<Name> for Pointer {
    fn from(name: Name) -> Self {
        Self::Key(name)
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(name) => name.fmt(f),
            Self::Domain(domain) => domain.fmt(f),
        }
    }
}

impl FromStr for Pointer {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, NotAName> {
        match text.contains('.') {
            true => text.parse().map(Self::Domain),
            false => text.parse().map(Self::Key),
        }
    }
}

fn no_name(text: &str, why: &'static str) -> NotAName {
    NotAName { given: text.chars().take(120).collect(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_written_in_base36_and_read_in_any_base() {
        let name = Name::of(&Keypair::generate_ed25519());
        let text = name.to_string();
        assert!(text.starts_with("k51") && text.len() == 62, "{text}");
        assert_eq!(text.parse(), Ok(name));
        assert_eq!(name.0.to_string().parse(), Ok(name), "a peer id");
        assert_eq!(text.parse(), Ok(Pointer::Key(name)));
        for bad in ["", "k51", "bafybeiat5rs4tk3kvllj4uu5zr652qnp7kxc4ttewhc5md23gxflqqp7lu"] {
            assert!(bad.parse::<Name>().is_err() && bad.parse::<Pointer>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_domain_has_a_dot_and_labels_of_dns() {
        for (text, domain) in [
            ("example.org", "example.org"),
            ("Images.Example.ORG.", "images.example.org"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("_dnslink.a_b.example", "_dnslink.a_b.example"),
        ] {
            assert_eq!(text.parse::<Pointer>().unwrap().to_string(), domain);
        }
        let long = ["a"; 123].join(".");
        for (bad, why) in [
            ("localhost", "a domain has a dot"),
            (".", "a domain has a dot"),
            ("a..b", "between the dots"),
            (".a", "between the dots"),
            ("a.b/c", "between the dots"),
            ("bücher.example", "between the dots"),
            (&format!("{}.org", "a".repeat(64)), "between the dots"),
            (&long, "244"),
        ] {
            let error = bad.parse::<Domain>().unwrap_err().to_string();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }
}
