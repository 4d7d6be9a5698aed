//! DNSLink: a TXT record `dnslink=/ipfs/<cid>...` or `dnslink=/ipns/<name>...`. <https://dnslink.dev>

use std::time::Duration;

use hickory_resolver::{
    ResolveError as LookupError, TokioResolver,
    lookup::TxtLookup,
    proto::{ProtoErrorKind, op::ResponseCode, rr::rdata::TXT},
};

use crate::{DnsFailure, Domain, Options, ResolveError, dns};

const PREFIX: &str = "dnslink=";

/// The DNSLink of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsLink {
    /// `/ipfs/...` or `/ipns/...`.
    pub value: String,
    /// The TTL of the record.
    pub ttl: Duration,
}

/// Looks up DNSLinks.
pub enum DnsResolver {
    /// Servers are configured.
    Available(Box<TokioResolver>),
    /// The node is in a private swarm, which a lookup would leave.
    Private,
    /// No server can be queried, with the reason.
    Unavailable(DnsFailure),
}

impl DnsResolver {
    /// Returns the resolver of a node without a swarm.
    pub fn offline() -> Self {
        Self::Unavailable(DnsFailure::Offline)
    }

    /// Creates a resolver from the options.
    pub fn new(options: &Options) -> Self {
        if options.swarm_key.is_some() {
            return Self::Private;
        }
        // Answers are cached together with those for keys.
        match dns::resolver(&options.dns) {
            Ok(resolver) => Self::Available(Box::new(resolver)),
            Err(error) => Self::Unavailable(DnsFailure::NoServers(error)),
        }
    }

    /// Looks up the current DNSLink of `domain`.
    pub async fn look_up(&self, domain: &Domain) -> Result<DnsLink, ResolveError> {
        let failed = |why: DnsFailure| ResolveError::Dns { domain: domain.clone(), why };
        let resolver = match self {
            Self::Available(resolver) => resolver,
            Self::Private => return Err(ResolveError::PrivateDns(domain.clone())),
            Self::Unavailable(why) => return Err(failed(why.clone())),
        };
        for host in [format!("_dnslink.{domain}."), format!("{domain}.")] {
            match resolver.txt_lookup(host).await {
                Ok(answer) => {
                    if let Some(link) = link(&answer) {
                        return Ok(link);
                    }
                }
                Err(error) if is_absent(&error) => {}
                Err(error) => return Err(failed(error.into())),
            }
        }
        Err(ResolveError::NoDnsLink(domain.clone()))
    }
}

/// Returns whether a server answered that the record does not exist.
fn is_absent(error: &LookupError) -> bool {
    let Some(error) = error.proto() else { return false };
    matches!(
        error.kind(),
        ProtoErrorKind::NoRecordsFound { response_code: ResponseCode::NoError | ResponseCode::NXDomain, .. }
    )
}

/// Returns the first link in alphabetical order, so that all nodes choose the same of several records.
fn link(answer: &TxtLookup) -> Option<DnsLink> {
    let records = answer.as_lookup().records().iter();
    let links = records.filter_map(|record| {
        let value = value(record.data().as_txt()?)?;
        Some((value, record.ttl()))
    });
    let (value, seconds) = links.min()?;
    Some(DnsLink { value, ttl: Duration::from_secs(seconds.into()) })
}

fn value(record: &TXT) -> Option<String> {
    let text = String::from_utf8(record.iter().flatten().copied().collect()).ok()?;
    let value = text.trim().strip_prefix(PREFIX)?.trim();
    ["/ipfs/", "/ipns/"].iter().any(|namespace| value.starts_with(namespace)).then(|| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_txt_record_with_a_dnslink_prefix_is_parsed() {
        for (parts, found) in [
            (&["dnslink=/ipfs/bafy/a"][..], Some("/ipfs/bafy/a")),
            (&["dnslink=/ipns/", "k51"], Some("/ipns/k51")),
            (&[" dnslink= /ipfs/bafy "], Some("/ipfs/bafy")),
            (&["dnslink=/hyper/x"], None),
            (&["dnslink=bafy"], None),
            (&["v=spf1 -all"], None),
            (&[""], None),
        ] {
            let record = TXT::new(parts.iter().map(ToString::to_string).collect());
            assert_eq!(value(&record).as_deref(), found, "{parts:?}");
        }
        assert_eq!(value(&TXT::from_bytes(vec![b"dnslink=/ipfs/\xff"])), None);
    }
}
