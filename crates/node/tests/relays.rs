//! The relay service, asked by libp2p's own client.

mod stores;

use std::{path::Path, sync::Arc, time::Duration};

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm, identify,
    multiaddr::Protocol,
    noise,
    relay::client,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use ocipfs_node::{Keypair, Node, Options};
use stores::Memory;
use tokio::{sync::mpsc, task::JoinHandle};

const SOON: Duration = Duration::from_secs(30);
const ECHO: StreamProtocol = StreamProtocol::new("/test/echo/1.0.0");
/// More than a limited circuit carries in one direction.
const MUCH: usize = 400 << 10;

async fn relay(dir: &Path, strangers: bool, named: &[PeerId]) -> (Node, Multiaddr) {
    let listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
    let options =
        Options { listen, relay_service: strangers, relay_for: named.to_vec(), ..Options::new(dir) };
    let node = Node::start(options, Arc::new(Memory::default())).await.unwrap();
    let address = node.listen_addresses().await.swap_remove(0);
    (node, address)
}

#[derive(NetworkBehaviour)]
struct Parts {
    identify: identify::Behaviour,
    relay: client::Behaviour,
    streams: libp2p_stream::Behaviour,
}

fn swarm(key: Keypair) -> Swarm<Parts> {
    let builder = libp2p::SwarmBuilder::with_existing_identity(key).with_tokio();
    let builder =
        builder.with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default).unwrap();
    let builder = builder.with_relay_client(noise::Config::new, yamux::Config::default).unwrap();
    let builder = builder.with_behaviour(|key, relay| Parts {
        identify: identify::Behaviour::new(identify::Config::new("test/1".into(), key.public())),
        relay,
        streams: libp2p_stream::Behaviour::new(),
    });
    builder.unwrap().with_swarm_config(|config| config.with_idle_connection_timeout(SOON)).build()
}

/// What happens to a peer.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    /// The relay granted a reservation, limited or not.
    Reserved {
        limited: bool,
    },
    Refused,
    /// A circuit was opened to this peer, limited or not.
    Opened {
        limited: bool,
    },
    Failed,
}

struct Peer {
    id: PeerId,
    control: libp2p_stream::Control,
    heard: mpsc::UnboundedReceiver<Heard>,
    task: JoinHandle<()>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Peer {
    /// Starts a peer that reserves a place on a relay, or dials through it; it echoes what it receives.
    fn start(key: Keypair, begin: impl FnOnce(&mut Swarm<Parts>)) -> Self {
        let mut swarm = swarm(key);
        let (id, mut control) = (*swarm.local_peer_id(), swarm.behaviour().streams.new_control());
        let mut echoes = control.accept(ECHO).unwrap();
        begin(&mut swarm);
        let (tell, heard) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            loop {
                let heard = tokio::select! {
                    event = swarm.select_next_some() => heard_of(event),
                    Some((_, stream)) = echoes.next() => {
                        tokio::spawn(echo(stream));
                        None
                    }
                };
                if let Some(heard) = heard {
                    let _ = tell.send(heard);
                }
            }
        });
        Self { id, control, heard, task }
    }

    async fn next(&mut self) -> Heard {
        tokio::time::timeout(SOON, self.heard.recv()).await.expect("an event").unwrap()
    }
}

fn heard_of(event: SwarmEvent<PartsEvent>) -> Option<Heard> {
    Some(match event {
        SwarmEvent::Behaviour(PartsEvent::Relay(event)) => match event {
            client::Event::ReservationReqAccepted { limit, .. } => {
                Heard::Reserved { limited: limit.is_some() }
            }
            client::Event::OutboundCircuitEstablished { limit, .. } => {
                Heard::Opened { limited: limit.is_some() }
            }
            client::Event::InboundCircuitEstablished { limit, .. } => {
                Heard::Opened { limited: limit.is_some() }
            }
        },
        SwarmEvent::ListenerClosed { .. } => Heard::Refused,
        SwarmEvent::OutgoingConnectionError { .. } => Heard::Failed,
        _ => return None,
    })
}

async fn echo(stream: libp2p::Stream) {
    let (reader, mut writer) = stream.split();
    let _ = futures::io::copy(reader, &mut writer).await;
    let _ = writer.close().await;
}

/// Sends bytes to a peer, and returns how many come back.
async fn echoed(from: &mut Peer, to: PeerId, length: usize) -> usize {
    let stream = from.control.open_stream(to, ECHO).await.expect("a stream");
    let (mut reader, mut writer) = stream.split();
    let sending = async {
        let _ = writer.write_all(&vec![7; length]).await;
        let _ = writer.close().await;
    };
    let mut back = Vec::new();
    let receiving = async {
        let _ = reader.read_to_end(&mut back).await;
    };
    tokio::time::timeout(SOON, async { tokio::join!(sending, receiving) }).await.expect("the stream ends");
    back.len()
}

fn circuit(relay: &Multiaddr) -> Multiaddr {
    relay.clone().with(Protocol::P2pCircuit)
}

async fn pair(relay: &Multiaddr, destination: Keypair, limited: bool) -> (Peer, Peer) {
    let mut destination = Peer::start(destination, |swarm| {
        swarm.listen_on(circuit(relay)).unwrap();
    });
    assert_eq!(destination.next().await, Heard::Reserved { limited });
    let address = circuit(relay).with(Protocol::P2p(destination.id));
    let mut source = Peer::start(Keypair::generate_ed25519(), |swarm| swarm.dial(address).unwrap());
    assert_eq!(source.next().await, Heard::Opened { limited });
    assert_eq!(destination.next().await, Heard::Opened { limited });
    (source, destination)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_gets_a_limited_circuit_that_carries_little() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = relay(dir.path(), true, &[]).await;
    let (mut source, destination) = pair(&address, Keypair::generate_ed25519(), true).await;
    assert_eq!(echoed(&mut source, destination.id, 10_000).await, 10_000);
    assert!(echoed(&mut source, destination.id, MUCH).await < MUCH, "it is cut off");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_peer_gets_circuits_without_limits_and_strangers_none() {
    let dir = tempfile::tempdir().unwrap();
    let key = Keypair::generate_ed25519();
    let (node, address) = relay(dir.path(), false, &[key.public().to_peer_id()]).await;
    let (mut source, destination) = pair(&address, key, false).await;
    assert_eq!(echoed(&mut source, destination.id, MUCH).await, MUCH);
    let mut stranger = Peer::start(Keypair::generate_ed25519(), |swarm| {
        swarm.listen_on(circuit(&address)).unwrap();
    });
    assert_eq!(stranger.next().await, Heard::Refused);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circuit_to_a_peer_without_a_reservation_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = relay(dir.path(), true, &[]).await;
    let absent = circuit(&address).with(Protocol::P2p(PeerId::random()));
    let mut source = Peer::start(Keypair::generate_ed25519(), |swarm| swarm.dial(absent).unwrap());
    assert_eq!(source.next().await, Heard::Failed);
    node.shutdown().await;
}
