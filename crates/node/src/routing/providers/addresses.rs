//! The addresses of one provider, in one allocation.

use libp2p::Multiaddr;

/// Addresses one after the other, each after its length in two bytes.
#[derive(Default)]
pub struct PackedAddresses(Box<[u8]>);

impl PackedAddresses {
    pub fn new(addresses: &[Multiaddr]) -> Self {
        let mut packed = Vec::with_capacity(addresses.iter().map(|address| address.len() + 2).sum());
        for address in addresses {
            // A record with a longer one is not accepted.
            let Ok(length) = u16::try_from(address.len()) else { continue };
            packed.extend(length.to_be_bytes());
            packed.extend(address.as_ref());
        }
        Self(packed.into())
    }

    pub fn to_vec(&self) -> Vec<Multiaddr> {
        let (mut rest, mut all) = (&self.0[..], Vec::new());
        while let Some((length, after)) = rest.split_first_chunk::<2>() {
            let Some((address, after)) = after.split_at_checked(u16::from_be_bytes(*length).into()) else {
                break;
            };
            all.extend(Multiaddr::try_from(address.to_vec()));
            rest = after;
        }
        all
    }

    /// Returns the number of bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_addresses_are_unpacked_in_order() {
        let texts =
            ["/ip4/192.0.2.1/tcp/4001", "/ip6/2001:db8::1/udp/4001/quic-v1", "/dns4/example.org/tcp/1"];
        let addresses: Vec<Multiaddr> = texts.iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(PackedAddresses::new(&addresses).to_vec(), addresses);
        assert!(PackedAddresses::new(&[]).to_vec().is_empty());
        assert_eq!(PackedAddresses::default().len(), 0);
    }
}
