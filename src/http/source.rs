//! Where connections come from, as limits count it.

use std::net::{IpAddr, Ipv6Addr};

/// The bits of an IPv6 address that one host does not choose.
const NETWORK: u128 = u128::MAX << 64;

/// An IPv4 address, or the network of an IPv6 one, in which a host has as many addresses as it likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source(IpAddr);

impl Source {
    /// The source of an address.
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(ip) if !ip.is_loopback() => Ipv6Addr::from(u128::from(ip) & NETWORK).into(),
            other => other,
        })
    }

    /// Whether it is this machine, where a proxy may connect for many clients.
    pub fn is_loopback(self) -> bool {
        self.0.is_loopback()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_host_are_one_source() {
        let of = |text: &str| Source::of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:ffff:ffff:ffff"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert!(of("::1").is_loopback() && of("127.0.0.2").is_loopback() && !of("192.0.2.1").is_loopback());
    }
}
