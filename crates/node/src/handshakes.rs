//! Failed handshakes in a private swarm, which are what a wrong swarm key looks like to both sides.
//!
//! With another key the bytes of a connection are noise, so the first protocol that reads them fails. That differs from
//! an unreachable peer, which says nothing about its key.

use std::{
    collections::{BTreeSet, HashSet},
    io::{self, ErrorKind},
    sync::{Arc, Mutex, MutexGuard},
};

use libp2p::{
    Multiaddr, TransportError,
    core::ConnectedPoint,
    multiaddr::Protocol,
    swarm::{DialError, FromSwarm, ListenError},
};

use crate::locked;

/// Addresses that are remembered and logged.
const MAX_ADDRESSES: usize = 64;

/// The addresses whose last handshake failed. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Handshakes(Arc<Mutex<HandshakeState>>);

#[derive(Default)]
struct HandshakeState {
    failed: BTreeSet<String>,
    /// Addresses that were logged.
    logged: HashSet<String>,
}

impl Handshakes {
    /// Returns the addresses of peers that rejected the handshake and have not connected since.
    pub fn failed(&self) -> Vec<String> {
        self.lock().failed.iter().cloned().collect()
    }

    /// Records connections and failed handshakes.
    pub fn on_swarm_event(&self, event: &FromSwarm) {
        match event {
            FromSwarm::ConnectionEstablished(e) => {
                self.lock().failed.remove(&match e.endpoint {
                    ConnectedPoint::Dialer { address, .. } => dialled(address),
                    ConnectedPoint::Listener { send_back_addr, .. } => host(send_back_addr),
                });
            }
            FromSwarm::ListenFailure(e) if matches!(e.error, ListenError::Transport(_)) => {
                self.fail(host(e.send_back_addr));
            }
            FromSwarm::DialFailure(e) => {
                let DialError::Transport(errors) = e.error else { return };
                let answered = errors.iter().filter(|(_, error)| is_answered(error));
                answered.for_each(|(address, _)| self.fail(dialled(address)));
            }
            _ => {}
        }
    }

    fn fail(&self, address: String) {
        let mut state = self.lock();
        if state.failed.len() < MAX_ADDRESSES {
            state.failed.insert(address.clone());
        }
        if state.logged.len() < MAX_ADDRESSES && state.logged.insert(address.clone()) {
            tracing::warn!("peer at {address} rejected the handshake: different swarm key?");
        }
    }

    fn lock(&self) -> MutexGuard<'_, HandshakeState> {
        locked(&self.0)
    }
}

/// Each inbound connection has another port, so only the host identifies the peer.
fn host(address: &Multiaddr) -> String {
    address.iter().take(1).collect::<Multiaddr>().to_string()
}

fn dialled(address: &Multiaddr) -> String {
    let is_place = |part: &Protocol| !matches!(part, Protocol::P2p(_));
    address.iter().take_while(is_place).collect::<Multiaddr>().to_string()
}

/// Returns whether a peer accepted the connection before it failed.
fn is_answered(error: &TransportError<io::Error>) -> bool {
    let TransportError::Other(error) = error else { return false };
    let mut kinds = vec![error.kind()];
    let mut source: Option<&(dyn std::error::Error + 'static)> = error.get_ref().map(|error| error as _);
    while let Some(error) = source {
        kinds.extend(error.downcast_ref::<io::Error>().map(io::Error::kind));
        source = error.source();
    }
    let text = error.to_string();
    !text.contains("Timeout")
        && !text.contains("onnection refused")
        && !kinds.iter().any(|kind| {
            matches!(
                kind,
                ErrorKind::ConnectionRefused
                    | ErrorKind::HostUnreachable
                    | ErrorKind::NetworkUnreachable
                    | ErrorKind::AddrNotAvailable
                    | ErrorKind::PermissionDenied
                    | ErrorKind::TimedOut
            )
        })
}
