//! A client of the DNS servers that the options name, for DNSLink and for names in addresses of peers.

use std::{net::SocketAddr, time::Duration};

use hickory_resolver::{
    ResolveError, TokioResolver,
    config::{LookupIpStrategy, NameServerConfig, ResolverConfig},
    name_server::TokioConnectionProvider,
    proto::xfer::Protocol,
};

use crate::Dns;

/// A silent server is queried again, or the next one is, after this time.
const SERVER_TIMEOUT: Duration = Duration::from_secs(2);
const MAX_ATTEMPTS: usize = 3;

/// Returns a resolver without a cache.
///
/// # Errors
/// Fails if the servers of the system cannot be read.
pub(crate) fn resolver(dns: &Dns) -> Result<TokioResolver, ResolveError> {
    let mut builder = match dns {
        Dns::System => TokioResolver::builder_tokio()?,
        Dns::Servers(servers) => {
            TokioResolver::builder_with_config(config(servers), TokioConnectionProvider::default())
        }
    };
    let options = builder.options_mut();
    (options.timeout, options.attempts, options.cache_size) = (SERVER_TIMEOUT, MAX_ATTEMPTS, 0);
    // The addresses of both families: who asks chooses.
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    Ok(builder.build())
}

fn config(servers: &[SocketAddr]) -> ResolverConfig {
    let both =
        |server: &SocketAddr| [Protocol::Udp, Protocol::Tcp].map(|how| NameServerConfig::new(*server, how));
    let servers: Vec<NameServerConfig> = servers.iter().flat_map(both).collect();
    ResolverConfig::from_parts(None, Vec::new(), servers)
}
