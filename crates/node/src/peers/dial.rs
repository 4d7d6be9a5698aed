//! Dials a peer, and explains failures in plain words.

use std::{collections::HashSet, error::Error as _, io, time::Duration};

use libp2p::{Multiaddr, PeerId, TransportError, multiaddr::Protocol, swarm::DialError};
use rust_ipfs::{DialOpts, Ipfs, PeerCondition};

use super::{Peers, resolve::with_tls_name};
use crate::{ConnectError, NoPeerId, address::is_dns};

const DIAL_TIMEOUT: Duration = Duration::from_secs(15);
/// Other transports are dialled this long after QUIC: it has the shorter handshake, and no stream of it waits for another.
const QUIC_HEAD_START: Duration = Duration::from_millis(300);
const OWN_ADDRESS: &str = "the address is this node's own";

/// Returns the peer id at the end of a dialable address.
pub(crate) fn peer_id(address: &Multiaddr) -> Result<PeerId, NoPeerId> {
    match address.iter().last() {
        Some(Protocol::P2p(id)) => Ok(id),
        _ => Err(NoPeerId(address.clone())),
    }
}

/// Returns one address of each peer, the first, and all addresses without a peer id.
pub(crate) fn one_of_each(addresses: &[Multiaddr]) -> Vec<Multiaddr> {
    let mut known = HashSet::new();
    let is_first = |address: &&Multiaddr| peer_id(address).map_or(true, |id| known.insert(id));
    addresses.iter().filter(is_first).cloned().collect()
}

fn is_quic(address: &Multiaddr) -> bool {
    address.iter().any(|part| matches!(part, Protocol::Quic | Protocol::QuicV1))
}

impl Peers {
    /// Waits until a peer is connected.
    pub(crate) async fn until_connected(&self, id: &PeerId) {
        self.wait_while(|peers| !peers.is_connected(id)).await;
    }

    /// Connects to the peer at the end of `address`, unless it is connected. Further addresses that are configured for the
    /// peer are dialled too, those of QUIC first.
    ///
    /// A dial in progress does not replace this one: it may be to another address, or hang in a handshake with a peer
    /// that has restarted. The first of the two to connect wins.
    pub(crate) async fn dial(&self, ipfs: &Ipfs, address: &Multiaddr) -> Result<PeerId, ConnectError> {
        let id = peer_id(address)?;
        if self.is_connected(&id) {
            return Ok(id);
        }
        if id == ipfs.keypair().public().to_peer_id() {
            return Err(ConnectError::Own(address.clone()));
        }
        let mut own = address.clone();
        own.pop();
        if ipfs.listening_addresses().await.is_ok_and(|listening| listening.contains(&own)) {
            return Err(ConnectError::Unreachable { address: address.clone(), why: OWN_ADDRESS.into() });
        }
        let mut addresses = self.addresses(address).await?;
        for further in self.configured_addresses(&id).into_iter().filter(|further| further != address) {
            addresses.extend(self.addresses(&further).await.unwrap_or_default());
        }
        self.want(id);
        self.call(id);
        let connect = |addresses: Vec<Multiaddr>| {
            let target = DialOpts::peer_id(id).condition(PeerCondition::Always);
            ipfs.connect(target.addresses(addresses).build())
        };
        let dial = async {
            let (quic, others): (Vec<_>, Vec<_>) = addresses.into_iter().partition(is_quic);
            if quic.is_empty() || others.is_empty() {
                return connect([quic, others].concat()).await;
            }
            match tokio::time::timeout(QUIC_HEAD_START, connect(quic)).await {
                Ok(Ok(connected)) => Ok(connected),
                _ => connect(others).await,
            }
        };
        let dial = tokio::time::timeout(DIAL_TIMEOUT, dial);
        let dialled = tokio::select! {
            dialled = dial => dialled,
            () = self.until_connected(&id) => return Ok(id),
        };
        let why = match dialled {
            Ok(Ok(_)) => return Ok(id),
            Ok(Err(_)) if self.is_connected(&id) => return Ok(id),
            Ok(Err(error)) => match error.downcast_ref() {
                Some(connexa::error::Error::<std::convert::Infallible>::Dial(error)) => reason(error),
                _ => error.to_string(),
            },
            Err(_) => format!("no answer within {} s", DIAL_TIMEOUT.as_secs()),
        };
        Err(ConnectError::Unreachable { address: address.clone(), why })
    }

    /// Returns the addresses to dial: those that a name stands for now, where this table resolves names.
    pub(super) async fn addresses(&self, address: &Multiaddr) -> Result<Vec<Multiaddr>, ConnectError> {
        if !self.0.resolves_names || !is_dns(address) {
            return Ok(vec![with_tls_name(address.clone())]);
        }
        let failed =
            |error: io::Error| ConnectError::Unreachable { address: address.clone(), why: error.to_string() };
        self.resolver().resolve(address).await.map_err(failed)
    }
}

/// Returns a readable reason; libp2p's texts mention its own types.
fn reason(error: &DialError) -> String {
    match error {
        DialError::LocalPeerId { .. } => {
            "peer id is this node's own: the address is its own, or another node uses a copy of its identity"
                .into()
        }
        DialError::WrongPeerId { obtained, .. } => format!("another peer answered: {obtained}"),
        DialError::NoAddresses => OWN_ADDRESS.into(),
        DialError::DialPeerConditionFalse(_) => "another dial of this peer is under way".into(),
        DialError::Aborted => "the dial was aborted".into(),
        DialError::Denied { cause } => {
            cause.source().map_or("refused by this node".into(), ToString::to_string)
        }
        DialError::Transport(errors) => {
            let mut all: Vec<String> = errors.iter().map(|(_, error)| transport_reason(error)).collect();
            all.dedup();
            all.join("; ")
        }
    }
}

fn transport_reason(error: &TransportError<io::Error>) -> String {
    let TransportError::Other(error) = error else {
        return "no transport of this node takes such an address".into();
    };
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let text = innermost.to_string();
    match text.as_str() {
        "Timeout has been reached" => "it did not complete the handshake in time".into(),
        _ => text,
    }
}
