//! DNSLink: a TXT record `dnslink=/ipfs/<cid>...` or `dnslink=/ipns/<name>...`. <https://dnslink.dev>

use std::{net::SocketAddr, time::Duration};

use hickory_resolver::{
    ResolveError, TokioResolver,
    config::{NameServerConfig, ResolverConfig},
    lookup::TxtLookup,
    name_server::TokioConnectionProvider,
    proto::{ProtoErrorKind, op::ResponseCode, rr::rdata::TXT, xfer::Protocol},
};

use super::Domain;
use crate::{Dns, Error, Options};

/// A server that is silent for so long is asked again, or the next one is.
const PATIENCE: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 3;
const MARK: &str = "dnslink=";

/// What a domain means, and how long that may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// `/ipfs/...` or `/ipns/...`.
    pub value: String,
    /// Of the record.
    pub ttl: Duration,
}

/// Asks DNS what a domain means.
pub enum Resolver {
    /// There are servers.
    On(Box<TokioResolver>),
    /// The node is in a private swarm, and a look-up would leave it.
    Private,
    /// Nobody can be asked, and why.
    Off(String),
}

impl Resolver {
    /// That of a node without a swarm.
    pub fn offline() -> Self {
        Self::Off("only a running node asks DNS".into())
    }

    /// As the options say it.
    pub fn new(options: &Options) -> Self {
        let builder = match &options.dns {
            _ if options.swarm_key.is_some() => return Self::Private,
            Dns::System => TokioResolver::builder_tokio(),
            Dns::Servers(servers) => {
                Ok(TokioResolver::builder_with_config(config(servers), TokioConnectionProvider::default()))
            }
        };
        match builder {
            Ok(mut builder) => {
                let options = builder.options_mut();
                (options.timeout, options.attempts) = (PATIENCE, ATTEMPTS);
                // Answers are remembered where names of keys are, and there for as long as it takes.
                options.cache_size = 0;
                Self::On(Box::new(builder.build()))
            }
            Err(error) => Self::Off(format!("the system's DNS servers are not known: {error}")),
        }
    }

    /// What the owner of `domain` says now.
    pub async fn look_up(&self, domain: &Domain) -> Result<Link, Error> {
        let failed = |why: String| Error::Dns { domain: domain.clone(), why };
        let resolver = match self {
            Self::On(resolver) => resolver,
            Self::Private => return Err(Error::PrivateDns(domain.clone())),
            Self::Off(why) => return Err(failed(why.clone())),
        };
        for host in [format!("_dnslink.{domain}."), format!("{domain}.")] {
            match resolver.txt_lookup(host).await {
                Ok(answer) => {
                    if let Some(link) = link(&answer) {
                        return Ok(link);
                    }
                }
                Err(error) if is_absent(&error) => {}
                Err(error) => return Err(failed(error.to_string())),
            }
        }
        Err(Error::NoDnsLink(domain.clone()))
    }
}

fn config(servers: &[SocketAddr]) -> ResolverConfig {
    let both =
        |server: &SocketAddr| [Protocol::Udp, Protocol::Tcp].map(|how| NameServerConfig::new(*server, how));
    let servers: Vec<NameServerConfig> = servers.iter().flat_map(both).collect();
    ResolverConfig::from_parts(None, Vec::new(), servers)
}

/// Whether a server said that there is no such record, which is an answer.
fn is_absent(error: &ResolveError) -> bool {
    let Some(error) = error.proto() else { return false };
    matches!(
        error.kind(),
        ProtoErrorKind::NoRecordsFound { response_code: ResponseCode::NoError | ResponseCode::NXDomain, .. }
    )
}

/// The first link in the order of the alphabet: of several records, everybody takes the same.
fn link(answer: &TxtLookup) -> Option<Link> {
    let records = answer.as_lookup().records().iter();
    let links = records.filter_map(|record| {
        let value = value(record.data().as_txt()?)?;
        Some((value, record.ttl()))
    });
    let (value, seconds) = links.min()?;
    Some(Link { value, ttl: Duration::from_secs(seconds.into()) })
}

fn value(record: &TXT) -> Option<String> {
    let text = String::from_utf8(record.iter().flatten().copied().collect()).ok()?;
    let value = text.trim().strip_prefix(MARK)?.trim();
    ["/ipfs/", "/ipns/"].iter().any(|namespace| value.starts_with(namespace)).then(|| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_a_link_where_it_says_so() {
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
