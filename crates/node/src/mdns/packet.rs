//! mDNS packets: queries for a service, and announcements of it.

use std::net::Ipv4Addr;

use bytes::{Bytes, BytesMut};
use hickory_proto::{
    op::{Message, MessageType, OpCode, Query},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, PTR, SRV, TXT},
    },
};
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

use super::secret::Secret;
use crate::bitswap::wire::fields::{self, Value, put_slice};

/// A packet that fits into one frame of Ethernet; Kubo's may be larger.
pub(super) const MAX_BYTES: usize = 9000;
/// How long an announcement is valid, in seconds.
const TTL: u32 = 120;
/// The longest string of a TXT record.
const MAX_STRING: usize = 255;
/// Records of a packet that are read, and peers in it.
const MAX_RECORDS: usize = 64;
const MAX_PEERS: usize = 8;
/// Addresses that are read of one peer.
const MAX_ADDRESSES: usize = 32;
const OPEN_SERVICE: &str = "_p2p._udp.local.";
const ATTRIBUTE: &[u8] = b"dnsaddr=";

/// What peers of one network look for.
pub(super) enum Service {
    /// libp2p's: peer IDs and addresses are readable by all.
    Open,
    /// That of a swarm key.
    Private(Secret),
}

/// What a node tells on an interface.
pub(super) struct Announcement {
    pub(super) peer: PeerId,
    /// The address of the interface.
    pub(super) ip: Ipv4Addr,
    pub(super) addresses: Vec<Multiaddr>,
}

/// What a packet of the service holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Query,
    Peers(Vec<(PeerId, Vec<Multiaddr>)>),
}

impl Service {
    fn name(&self) -> Option<Name> {
        match self {
            Self::Open => Name::from_ascii(OPEN_SERVICE).ok(),
            Self::Private(secret) => Name::from_ascii(format!("_{}._udp.local.", secret.tag())).ok(),
        }
    }

    /// Asks all peers to announce themselves.
    pub(super) fn query(&self) -> Option<Vec<u8>> {
        let mut message = Message::new();
        message.add_query(Query::query(self.name()?, RecordType::PTR));
        message.to_vec().ok()
    }

    /// Announces this node.
    pub(super) fn announce(&self, announcement: &Announcement) -> Option<Vec<u8>> {
        let service = self.name()?;
        // A name that says nothing, and another one each time.
        let label = hex::encode(rand::random::<[u8; 16]>());
        let instance = Name::from_ascii(&label).ok()?.append_domain(&service).ok()?;
        let text: Vec<Vec<u8>> = match self {
            Self::Open => announcement.dnsaddrs(),
            Self::Private(secret) => {
                secret.seal(&announcement.encode())?.chunks(MAX_STRING).map(<[u8]>::to_vec).collect()
            }
        };
        let text = TXT::from_bytes(text.iter().map(Vec::as_slice).collect());
        let mut message = Message::new();
        message.set_message_type(MessageType::Response).set_op_code(OpCode::Query).set_authoritative(true);
        message.add_answer(Record::from_rdata(service, TTL, RData::PTR(PTR(instance.clone()))));
        message.add_additional(Record::from_rdata(instance.clone(), TTL, RData::TXT(text)));
        if let (Self::Open, Some(port)) = (self, announcement.port()) {
            // Libraries of DNS-SD, such as Kubo's, wait for a host and its address.
            let host = Name::from_ascii(format!("{label}.local.")).ok()?;
            let server = SRV::new(0, 0, port, host.clone());
            message.add_additional(Record::from_rdata(instance, TTL, RData::SRV(server)));
            message.add_additional(Record::from_rdata(host, TTL, RData::A(A(announcement.ip))));
        }
        message.to_vec().ok()
    }

    /// Reads a packet, if it belongs to this service.
    pub(super) fn read(&self, packet: &[u8]) -> Option<Heard> {
        let message = Message::from_vec(packet).ok()?;
        let service = self.name()?;
        if message.message_type() == MessageType::Query {
            let asks = |query: &Query| {
                query.name() == &service && matches!(query.query_type(), RecordType::PTR | RecordType::ANY)
            };
            return message.queries().iter().any(asks).then_some(Heard::Query);
        }
        let records = message.answers().iter().chain(message.additionals()).take(MAX_RECORDS);
        let mut found = Vec::<(PeerId, Vec<Multiaddr>)>::new();
        for record in records.filter(|record| service.zone_of(record.name())) {
            let RData::TXT(text) = record.data() else { continue };
            match self {
                Self::Open => text.iter().filter_map(|text| dnsaddr(text)).for_each(|(peer, address)| {
                    add(&mut found, peer, address);
                }),
                Self::Private(secret) => {
                    let sealed: Vec<u8> = text.iter().flat_map(|text| text.iter().copied()).collect();
                    let opened = secret.open(&sealed).and_then(|text| decode(text.into()));
                    if let Some((peer, addresses)) = opened {
                        addresses.into_iter().for_each(|address| add(&mut found, peer, address));
                    }
                }
            }
        }
        (!found.is_empty()).then_some(Heard::Peers(found))
    }
}

/// Adds an address of a peer, within bounds.
fn add(found: &mut Vec<(PeerId, Vec<Multiaddr>)>, peer: PeerId, address: Multiaddr) {
    match found.iter().position(|(known, _)| *known == peer) {
        Some(at) if found[at].1.len() < MAX_ADDRESSES => found[at].1.push(address),
        None if found.len() < MAX_PEERS => found.push((peer, vec![address])),
        _ => {}
    }
}

/// Reads an attribute of libp2p's service: an address that ends in a peer ID.
fn dnsaddr(text: &[u8]) -> Option<(PeerId, Multiaddr)> {
    let text = std::str::from_utf8(text.strip_prefix(ATTRIBUTE)?).ok()?;
    let mut address: Multiaddr = text.parse().ok()?;
    match address.pop()? {
        Protocol::P2p(peer) => Some((peer, address)),
        _ => None,
    }
}

impl Announcement {
    /// Returns the attributes of libp2p's service.
    fn dnsaddrs(&self) -> Vec<Vec<u8>> {
        let dnsaddr = |address: &Multiaddr| {
            let address = crate::address::without_peer(address).with(Protocol::P2p(self.peer));
            [ATTRIBUTE, address.to_string().as_bytes()].concat()
        };
        self.addresses.iter().map(dnsaddr).filter(|text| text.len() <= MAX_STRING).collect()
    }

    fn port(&self) -> Option<u16> {
        let mut parts = self.addresses.iter().flat_map(|address| address.iter());
        parts.find_map(|part| match part {
            Protocol::Tcp(port) | Protocol::Udp(port) => Some(port),
            _ => None,
        })
    }

    /// Fields of protobuf: 1 is the peer ID, each 2 an address.
    fn encode(&self) -> BytesMut {
        let mut bytes = BytesMut::new();
        put_slice(&mut bytes, 1, &self.peer.to_bytes());
        for address in &self.addresses {
            put_slice(&mut bytes, 2, &crate::address::without_peer(address).to_vec());
        }
        bytes
    }
}

/// Reads what [`Announcement::encode`] has written.
fn decode(mut bytes: Bytes) -> Option<(PeerId, Vec<Multiaddr>)> {
    let (mut peer, mut addresses) = (None, Vec::new());
    while let Some((number, value)) = fields::next(&mut bytes).ok()? {
        match (number, value) {
            (1, Value::Slice(id)) => peer = PeerId::from_bytes(&id).ok(),
            (2, Value::Slice(address)) => addresses.extend(Multiaddr::try_from(address.to_vec()).ok()),
            _ => {}
        }
    }
    Some((peer?, addresses))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announcement() -> Announcement {
        let addresses = ["/ip4/10.0.0.1/tcp/4001", "/ip4/10.0.0.1/udp/4001/quic-v1"];
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        Announcement { peer: PeerId::random(), ip: Ipv4Addr::new(10, 0, 0, 1), addresses }
    }

    fn private(key: u8) -> Service {
        Service::Private(Secret::of(&[key; 32]))
    }

    #[test]
    fn an_announcement_is_read_by_the_same_service_only() {
        let announced = announcement();
        let expected = Some(Heard::Peers(vec![(announced.peer, announced.addresses.clone())]));
        let services = [Service::Open, private(1), private(2)];
        for (n, one) in services.iter().enumerate() {
            let (packet, query) = (one.announce(&announced).unwrap(), one.query().unwrap());
            assert!(packet.len() <= 1472 && query.len() <= 512);
            for (m, other) in services.iter().enumerate() {
                assert_eq!(other.read(&packet), expected.clone().filter(|_| n == m));
                assert_eq!(other.read(&query), (n == m).then_some(Heard::Query));
            }
        }
    }

    #[test]
    fn an_announcement_in_a_private_swarm_has_no_peer_id_and_no_address_in_clear() {
        let announced = announcement();
        let packet = private(1).announce(&announced).unwrap();
        let contains = |part: &[u8]| packet.windows(part.len()).any(|window| window == part);
        assert!(!contains(&announced.peer.to_bytes()) && !contains(announced.peer.to_string().as_bytes()));
        assert!(
            !contains(&[10, 0, 0, 1])
                && !contains(b"10.0.0.1")
                && !contains(&announced.addresses[0].to_vec())
        );
        let open = Service::Open.announce(&announced).unwrap();
        assert!(open.windows(8).any(|window| window == b"dnsaddr="), "what is looked for would be found");
    }

    #[test]
    fn damaged_packets_are_ignored() {
        let packet = private(1).announce(&announcement()).unwrap();
        for length in 0..packet.len() {
            assert_eq!(private(1).read(&packet[..length]), None, "{length}");
        }
        for at in 0..packet.len() {
            let mut damaged = packet.clone();
            damaged[at] ^= 0xff;
            for service in [Service::Open, private(1)] {
                let _ = service.read(&damaged);
            }
        }
    }
}
