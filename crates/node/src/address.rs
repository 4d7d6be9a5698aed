//! Classification of addresses by network.

use std::net::{IpAddr, Ipv4Addr};

use libp2p::{Multiaddr, multiaddr::Protocol};

/// Returns the IP address at the start of a multiaddress.
pub(crate) fn ip(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(IpAddr::from(ip).to_canonical()),
        _ => None,
    }
}

/// Returns whether an address belongs to another machine in each network: loopback, link-local and private ranges.
pub(crate) fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_unspecified() || is_shared(ip)
        }
        IpAddr::V6(ip) => {
            ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_unspecified()
        }
    }
}

/// Returns whether this is an IPv6 link-local address, which cannot be dialled without the name of an interface.
pub(crate) fn is_link_local(address: &Multiaddr) -> bool {
    matches!(ip(address), Some(IpAddr::V6(ip)) if ip.is_unicast_link_local())
}

/// 100.64.0.0/10, RFC 6598.
fn is_shared(ip: Ipv4Addr) -> bool {
    ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64
}

/// Returns whether an address needs a DNS lookup before it is dialled.
pub(crate) fn is_dns(address: &Multiaddr) -> bool {
    let names = |part: Protocol| {
        matches!(part, Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_) | Protocol::Dnsaddr(_))
    };
    address.iter().any(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_and_dns_addresses_are_distinguished_from_public_ones() {
        for (text, private, dns) in [
            ("/ip4/127.0.0.1/tcp/1", Some(true), false),
            ("/ip4/10.1.2.3/tcp/1", Some(true), false),
            ("/ip4/100.64.0.1/tcp/1", Some(true), false),
            ("/ip4/169.254.169.254/tcp/80", Some(true), false),
            ("/ip4/203.0.113.9/udp/1/quic-v1", Some(false), false),
            ("/ip6/::1/tcp/1", Some(true), false),
            ("/ip6/::ffff:192.168.0.1/tcp/1", Some(true), false),
            ("/ip6/fd00::1/tcp/1", Some(true), false),
            ("/ip6/fe80::1/tcp/1", Some(true), false),
            ("/ip6/2001:db8::1/tcp/1", Some(false), false),
            ("/dns4/example.org/tcp/1", None, true),
            ("/dnsaddr/example.org", None, true),
            ("/memory/1", None, false),
        ] {
            let address: Multiaddr = text.parse().unwrap();
            assert_eq!(ip(&address).map(is_private), private, "{text}");
            assert_eq!(is_dns(&address), dns, "{text}");
            assert_eq!(is_link_local(&address), text.starts_with("/ip6/fe80"), "{text}");
        }
    }
}
