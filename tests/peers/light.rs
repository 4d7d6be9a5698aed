//! Many honest peers that have nothing: each identifies itself, answers pings, and says so where a want asks for it.

use std::time::Duration;

use futures::{StreamExt, future::join_all};
use libp2p::{
    PeerId, Stream, Swarm, identify, noise, ping,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use libp2p_stream::Control;
use tokio::task::JoinSet;

use super::bitswap::{BITSWAP, presences, read, write};

#[derive(NetworkBehaviour)]
struct Parts {
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    stream: libp2p_stream::Behaviour,
}

/// Runs until it is dropped.
pub struct Crowd {
    addresses: Vec<String>,
    _peers: JoinSet<()>,
}

impl Crowd {
    pub async fn start(count: usize) -> Self {
        let started = join_all((0..count).map(|_| listen())).await;
        let (mut addresses, mut peers) = (Vec::new(), JoinSet::new());
        for (swarm, address) in started {
            addresses.push(address);
            peers.spawn(run(swarm));
        }
        Self { addresses, _peers: peers }
    }

    /// Where they listen, each with its peer id.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        self.addresses.iter().map(String::as_str)
    }
}

async fn listen() -> (Swarm<Parts>, String) {
    let mut swarm = libp2p::SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .expect("noise")
        .with_behaviour(|key| Parts {
            identify: identify::Behaviour::new(identify::Config::new("ipfs/0.1.0".into(), key.public())),
            ping: ping::Behaviour::default(),
            stream: libp2p_stream::Behaviour::new(),
        })
        .expect("a behaviour")
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(600)))
        .build();
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().expect("a multiaddr")).expect("it listens");
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address;
        }
    };
    let address = format!("{address}/p2p/{}", swarm.local_peer_id());
    (swarm, address)
}

async fn run(mut swarm: Swarm<Parts>) {
    let control = swarm.behaviour().stream.new_control();
    let mut incoming = control.clone().accept(BITSWAP).expect("only this accepts it");
    let mut answering = JoinSet::new();
    loop {
        tokio::select! {
            _ = swarm.select_next_some() => {}
            Some((peer, stream)) = incoming.next() => drop(answering.spawn(answer(control.clone(), peer, stream))),
            Some(_) = answering.join_next() => {}
        }
    }
}

/// Answers the wants on a stream on another one, as boxo does.
async fn answer(mut control: Control, peer: PeerId, mut wants: Stream) {
    let mut answers = None;
    while let Some(message) = read(&mut wants).await {
        let asked = message.wants.iter().filter(|want| want.send_dont_have && !want.cancel);
        let missing: Vec<_> = asked.map(|want| (want.cid, false)).collect();
        if missing.is_empty() {
            continue;
        }
        if answers.is_none() {
            answers = control.open_stream(peer, BITSWAP).await.ok();
        }
        let Some(stream) = &mut answers else { return };
        if write(stream, &presences(missing)).await.is_err() {
            return;
        }
    }
}
