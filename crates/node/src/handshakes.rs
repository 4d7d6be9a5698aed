//! Handshakes that failed in a private swarm: what a wrong swarm key looks like from both sides.
//!
//! With another key the bytes of a connection are noise, so what fails is whatever reads them first. That is told from a
//! peer that cannot be reached at all, which says nothing of its key.

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

/// The addresses whose handshake failed last. Clones are handles on the same.
#[derive(Clone, Default)]
pub(crate) struct Handshakes(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    failed: BTreeSet<String>,
    /// Those that were logged.
    said: HashSet<String>,
}

impl Handshakes {
    /// The addresses of peers that rejected the handshake and did not connect since.
    pub fn failed(&self) -> Vec<String> {
        self.lock().failed.iter().cloned().collect()
    }

    /// Takes what happens to connections.
    pub fn note(&self, event: &FromSwarm) {
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
        if state.said.len() < MAX_ADDRESSES && state.said.insert(address.clone()) {
            tracing::warn!("peer at {address} rejected the handshake: different swarm key?");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        locked(&self.0)
    }
}

/// An inbound connection has a port of its own, so that the host alone tells who it is.
fn host(address: &Multiaddr) -> String {
    address.iter().take(1).collect::<Multiaddr>().to_string()
}

fn dialled(address: &Multiaddr) -> String {
    let is_place = |part: &Protocol| !matches!(part, Protocol::P2p(_));
    address.iter().take_while(is_place).collect::<Multiaddr>().to_string()
}

/// Whether a peer accepted the connection that failed then.
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
