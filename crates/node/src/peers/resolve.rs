//! Resolves the names in addresses before they are dialled: the transport dials IP addresses only. So in a private swarm no
//! address that a peer sends can cause a lookup.

use std::{io, net::IpAddr, time::Duration};

use hickory_resolver::proto::rr::rdata::TXT;
use libp2p::{Multiaddr, multiaddr::Protocol};

use crate::{Dns, dns};

/// A lookup that takes longer has failed.
const TIMEOUT: Duration = Duration::from_secs(5);
/// A `/dnsaddr/` may lead to names again, so often.
const MAX_DEPTH: usize = 3;
/// Addresses that are dialled of one peer.
const MAX_ADDRESSES: usize = 16;
const PREFIX: &str = "dnsaddr=";

/// Looks names up in DNS, at each dial again.
#[derive(Clone, Debug, Default)]
pub(crate) struct AddressResolver(pub(super) Dns);

impl AddressResolver {
    /// Returns the addresses to dial for `address`: itself where it begins with an IP address, else what its name stands for
    /// now.
    ///
    /// # Errors
    /// Fails if no resolver answers in time, or no address belongs to the name.
    pub(crate) async fn resolve(&self, address: &Multiaddr) -> io::Result<Vec<Multiaddr>> {
        let resolved = tokio::time::timeout(TIMEOUT, self.all(address)).await;
        let mut resolved =
            resolved.map_err(|_| io::Error::other("the resolver did not answer in time"))??;
        resolved.truncate(MAX_ADDRESSES);
        match resolved.is_empty() {
            true => Err(io::Error::other("the name has no address")),
            false => Ok(resolved.into_iter().map(with_tls_name).collect()),
        }
    }

    async fn all(&self, address: &Multiaddr) -> io::Result<Vec<Multiaddr>> {
        let (mut waiting, mut resolved) = (vec![(address.clone(), 0)], Vec::new());
        while let Some((address, depth)) = waiting.pop().filter(|_| resolved.len() < MAX_ADDRESSES) {
            match address.iter().next() {
                Some(Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name)) => {
                    let ips = self.hosts(&name).await?.into_iter().filter(|ip| is_wanted(&address, ip));
                    resolved.extend(ips.map(|ip| at(ip, &address)));
                }
                Some(Protocol::Dnsaddr(name)) if depth < MAX_DEPTH => {
                    let records = self.texts(&name).await?;
                    let next = matching(&address, records.iter().map(String::as_str));
                    waiting.extend(next.into_iter().map(|address| (address, depth + 1)));
                }
                Some(Protocol::Dnsaddr(_)) | None => {}
                Some(_) => resolved.push(address),
            }
        }
        Ok(resolved)
    }

    /// Looks up the addresses of a host. The system knows more than its DNS servers do, such as the hosts file.
    async fn hosts(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        match &self.0 {
            Dns::System => Ok(tokio::net::lookup_host((name, 0)).await?.map(|host| host.ip()).collect()),
            servers => {
                let resolver = dns::resolver(servers).map_err(io::Error::other)?;
                let found = resolver.lookup_ip(format!("{name}.")).await.map_err(io::Error::other)?;
                Ok(found.iter().collect())
            }
        }
    }

    /// Looks up the TXT records of `/dnsaddr/<name>`: <https://multiformats.io/dnsaddr/>.
    async fn texts(&self, name: &str) -> io::Result<Vec<String>> {
        let resolver = dns::resolver(&self.0).map_err(io::Error::other)?;
        let records = resolver.txt_lookup(format!("_dnsaddr.{name}.")).await.map_err(io::Error::other)?;
        // A longer text is in parts.
        let text = |record: &TXT| {
            String::from_utf8_lossy(&record.iter().flatten().copied().collect::<Vec<_>>()).into_owned()
        };
        Ok(records.iter().map(text).collect())
    }
}

/// Returns whether an address of a host is of the family that the multiaddress names.
fn is_wanted(address: &Multiaddr, ip: &IpAddr) -> bool {
    match address.iter().next() {
        Some(Protocol::Dns4(_)) => ip.is_ipv4(),
        Some(Protocol::Dns6(_)) => ip.is_ipv6(),
        _ => true,
    }
}

/// Returns an address with its host replaced. The name remains before it where it is that of a TLS certificate.
fn at(ip: IpAddr, address: &Multiaddr) -> Multiaddr {
    let rest = Multiaddr::from(ip);
    let rest = rest.iter().chain(address.iter().skip(1));
    let is_tls = address.iter().any(|part| matches!(part, Protocol::Tls | Protocol::Wss(_)));
    match is_tls {
        true => address.iter().take(2).chain(rest).collect(),
        false => rest.collect(),
    }
}

/// Returns an address with the name of its TLS certificate (`/tls/sni/<name>/ws`) where the WebSocket transport looks for it:
/// before the IP address, as a prefix that the TCP transport ignores.
pub(crate) fn with_tls_name(address: Multiaddr) -> Multiaddr {
    let sni = address.iter().find_map(|part| match part {
        Protocol::Sni(name) => Some(name.into_owned()),
        _ => None,
    });
    let (Some(name), Some(Protocol::Tcp(port))) = (sni, address.iter().nth(1)) else { return address };
    let prefix = Multiaddr::from(Protocol::Dns(name.into())).with(Protocol::Tcp(port));
    let rest = address.iter().filter(|part| !matches!(part, Protocol::Sni(_)));
    prefix.iter().chain(rest).collect()
}

/// Returns the addresses in TXT records that end like `address` after its name: those of the same peer.
fn matching<'a>(address: &Multiaddr, records: impl Iterator<Item = &'a str>) -> Vec<Multiaddr> {
    let suffix: Multiaddr = address.iter().skip(1).collect();
    let addresses = records.filter_map(|record| record.strip_prefix(PREFIX)?.parse::<Multiaddr>().ok());
    addresses.filter(|found| found.ends_with(&suffix)).take(MAX_ADDRESSES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "12D3KooWNdH5vzZ6HK3XTmLz9R82zucX1Jwibw1h3WEejRsVVPWh";

    fn parse(text: &str) -> Multiaddr {
        text.replace("PEER", PEER).parse().unwrap()
    }

    async fn resolve(address: &Multiaddr) -> io::Result<Vec<Multiaddr>> {
        AddressResolver::default().resolve(address).await
    }

    #[tokio::test]
    async fn a_dns_address_of_a_peer_is_resolved_in_its_family() {
        let loopback = parse("/ip4/127.0.0.1/tcp/4001/p2p/PEER");
        assert_eq!(
            resolve(&parse("/dns4/localhost/tcp/4001/p2p/PEER")).await.unwrap(),
            std::slice::from_ref(&loopback)
        );
        assert!(resolve(&parse("/dns/localhost/tcp/4001/p2p/PEER")).await.unwrap().contains(&loopback));
        // A machine may have no IPv6 address of that name; it never gets an IPv4 address.
        let six = resolve(&parse("/dns6/localhost/tcp/4001/p2p/PEER")).await.unwrap_or_default();
        assert!(!six.contains(&loopback), "{six:?}");
        assert_eq!(resolve(&loopback).await.unwrap(), [loopback]);
    }

    #[tokio::test]
    async fn the_name_of_a_certificate_stays_in_a_resolved_address() {
        for tls in ["tls/ws", "wss"] {
            let found = resolve(&parse(&format!("/dns4/localhost/tcp/443/{tls}/p2p/PEER"))).await.unwrap();
            let expected = format!("/dns4/localhost/tcp/443/ip4/127.0.0.1/tcp/443/{tls}/p2p/PEER");
            assert_eq!(found, [parse(&expected)]);
            assert_eq!(crate::address::ips(&found[0]).next().unwrap().to_string(), "127.0.0.1");
        }
        let sni = parse("/ip4/192.0.2.7/tcp/443/tls/sni/one.example/ws/p2p/PEER");
        let expected = "/dns/one.example/tcp/443/ip4/192.0.2.7/tcp/443/tls/ws/p2p/PEER";
        assert_eq!(resolve(&sni).await.unwrap(), [parse(expected)]);
    }

    #[test]
    fn a_dnsaddr_record_of_another_peer_is_ignored() {
        let other = "12D3KooWGzBXWNvHpLUS1rFNPbvEeLQ1kYmpTPnwt4MM2XUzpY4q";
        let records = [
            format!("dnsaddr=/ip4/192.0.2.7/tcp/4001/p2p/{PEER}"),
            format!("dnsaddr=/ip4/192.0.2.8/tcp/4001/p2p/{other}"),
            format!("dnsaddr=/dns4/one.example/tcp/4001/p2p/{PEER}"),
            "dnslink=/ipfs/bafkqaaa".into(),
            "dnsaddr=nonsense".into(),
        ];
        let found = matching(&parse("/dnsaddr/example.org/p2p/PEER"), records.iter().map(String::as_str));
        let expected = ["/ip4/192.0.2.7/tcp/4001/p2p/PEER", "/dns4/one.example/tcp/4001/p2p/PEER"].map(parse);
        assert_eq!(found, expected);
    }
}
