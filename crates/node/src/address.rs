//! Classification of addresses by network.

use std::net::{IpAddr, Ipv4Addr};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

/// Relays that one dial tries.
const MAX_RELAYS_PER_DIAL: usize = 4;

/// Returns the IP address at the start of a multiaddress.
pub(crate) fn ip(address: &Multiaddr) -> Option<IpAddr> {
    as_ip(address.iter().next()?)
}

/// Returns all IP addresses in a multiaddress; of a circuit, those of the relay. The TCP transport dials the last of several.
pub(crate) fn ips(address: &Multiaddr) -> impl Iterator<Item = IpAddr> {
    address.iter().take_while(|part| *part != Protocol::P2pCircuit).filter_map(as_ip)
}

fn as_ip(part: Protocol) -> Option<IpAddr> {
    match part {
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

/// Returns whether an address leads through a relay.
pub(crate) fn is_circuit(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::P2pCircuit)
}

/// Returns the relay that an address leads through.
pub(crate) fn relay_of(address: &Multiaddr) -> Option<PeerId> {
    let mut relay = None;
    for part in address.iter() {
        match part {
            Protocol::P2p(peer) => relay = Some(peer),
            Protocol::P2pCircuit => return relay,
            _ => {}
        }
    }
    None
}

/// Returns whether an address belongs to another machine in each network. Of a circuit, that is the relay's address.
pub(crate) fn is_local(address: &Multiaddr) -> bool {
    ips(address).any(is_private)
}

/// Returns an address without the peer ID at its end.
pub(crate) fn without_peer(address: &Multiaddr) -> Multiaddr {
    let mut place = address.clone();
    if matches!(place.iter().last(), Some(Protocol::P2p(_))) {
        place.pop();
    }
    place
}

/// Returns at most one circuit through each relay, and all other addresses: each circuit to a peer is a connection that the
/// relay and the peer have to open.
pub(crate) fn with_one_circuit_per_relay(mut addresses: Vec<Multiaddr>) -> Vec<Multiaddr> {
    let mut relays = Vec::new();
    addresses.retain(|address| match relay_of(address) {
        None => !is_circuit(address),
        Some(relay) if relays.contains(&relay) => false,
        Some(relay) => {
            relays.push(relay);
            relays.len() <= MAX_RELAYS_PER_DIAL
        }
    });
    addresses
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

    #[test]
    fn each_ip_of_an_address_decides_whether_it_is_local() {
        for (text, local) in [
            ("/ip4/203.0.113.9/tcp/1/ip4/10.0.0.1/tcp/22", true),
            ("/dns/example.org/tcp/1/ip4/10.0.0.1/tcp/443/tls/ws", true),
            ("/dns/example.org/tcp/1/ip4/203.0.113.9/tcp/443/tls/ws", false),
            ("/ip4/203.0.113.9/tcp/1/p2p-circuit/ip4/10.0.0.1/tcp/1", false),
        ] {
            assert_eq!(is_local(&text.parse().unwrap()), local, "{text}");
        }
    }

    #[test]
    fn the_relay_of_a_circuit_address_is_found_and_tried_once() {
        let (relay, other, peer) = (PeerId::random(), PeerId::random(), PeerId::random());
        let parse = |text: String| text.parse::<Multiaddr>().unwrap();
        let quic = parse(format!("/ip4/203.0.113.1/udp/1/quic-v1/p2p/{relay}/p2p-circuit"));
        let tcp = parse(format!("/ip4/203.0.113.1/tcp/1/p2p/{relay}/p2p-circuit/p2p/{peer}"));
        let second = parse(format!("/ip4/203.0.113.2/tcp/1/p2p/{other}/p2p-circuit/p2p/{peer}"));
        let direct = parse(format!("/ip4/203.0.113.3/tcp/1/p2p/{peer}"));
        for circuit in [&quic, &tcp] {
            assert_eq!((is_circuit(circuit), relay_of(circuit)), (true, Some(relay)));
        }
        assert_eq!((is_circuit(&direct), relay_of(&direct)), (false, None));
        // The listener of a circuit sees this: its relay is unknown.
        let nameless = parse("/ip4/203.0.113.1/tcp/1/p2p-circuit".into());
        assert_eq!((is_circuit(&nameless), relay_of(&nameless)), (true, None));
        let all = vec![direct.clone(), quic.clone(), tcp, second.clone(), nameless];
        assert_eq!(with_one_circuit_per_relay(all), [direct.clone(), quic, second]);
        assert_eq!(without_peer(&direct), parse("/ip4/203.0.113.3/tcp/1".into()));
    }
}
