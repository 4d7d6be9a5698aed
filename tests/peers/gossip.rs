//! A peer that is in one topic of pubsub: it counts what it is told, and tells what a test likes.

use std::time::Duration;

use futures::StreamExt;
use libp2p::{
    Swarm,
    gossipsub::{self, IdentTopic, MessageAuthenticity},
    identify, noise,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

#[derive(NetworkBehaviour)]
struct Parts {
    identify: identify::Behaviour,
    gossipsub: gossipsub::Behaviour,
}

/// Runs until it is dropped.
pub struct Gossip {
    address: String,
    /// All that it was told, in its order.
    told: watch::Receiver<Vec<Vec<u8>>>,
    subscribers: watch::Receiver<usize>,
    tell: mpsc::Sender<Vec<u8>>,
    running: JoinHandle<()>,
}

impl Drop for Gossip {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Gossip {
    /// Starts one in `topic`.
    pub async fn start(topic: &str) -> Self {
        let topic = IdentTopic::new(topic);
        let mut swarm = swarm();
        swarm.behaviour_mut().gossipsub.subscribe(&topic).expect("a topic");
        swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().expect("a multiaddr")).expect("it listens");
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address;
            }
        };
        let address = format!("{address}/p2p/{}", swarm.local_peer_id());
        let (hear, told) = watch::channel(Vec::new());
        let (count, subscribers) = watch::channel(0);
        let (tell, queue) = mpsc::channel(1);
        let running = tokio::spawn(run(swarm, topic, queue, hear, count));
        Self { address, told, subscribers, tell, running }
    }

    /// Where it listens, with its peer id.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// All that it was told until now.
    pub fn told(&self) -> Vec<Vec<u8>> {
        self.told.borrow().clone()
    }

    /// Waits until it was told something that `holds`.
    pub async fn is_told(&self, holds: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let mut told = self.told.clone();
        let told = told.wait_for(|told| told.iter().any(|message| holds(message))).await.expect("it runs");
        told.iter().find(|message| holds(message)).expect("just now").clone()
    }

    /// Waits until a peer is in the topic too.
    pub async fn is_joined(&self) {
        self.subscribers.clone().wait_for(|count| *count > 0).await.expect("it runs");
    }

    /// Tells its peers something, in an envelope of its own each time.
    pub async fn tell(&self, message: Vec<u8>) {
        self.tell.send(message).await.expect("it runs");
    }
}

async fn run(
    mut swarm: Swarm<Parts>,
    topic: IdentTopic,
    mut queue: mpsc::Receiver<Vec<u8>>,
    hear: watch::Sender<Vec<Vec<u8>>>,
    count: watch::Sender<usize>,
) {
    loop {
        tokio::select! {
            event = swarm.select_next_some() => match event {
                SwarmEvent::Behaviour(PartsEvent::Gossipsub(gossipsub::Event::Message { message, .. })) => {
                    hear.send_modify(|told| told.push(message.data));
                }
                SwarmEvent::Behaviour(PartsEvent::Gossipsub(gossipsub::Event::Subscribed { .. })) => {
                    count.send_modify(|count| *count += 1);
                }
                _ => {}
            },
            Some(message) = queue.recv() => {
                // What does not fit into its queues is lost, as with any flood.
                let _ = swarm.behaviour_mut().gossipsub.publish(topic.clone(), message);
            }
        }
    }
}

fn swarm() -> Swarm<Parts> {
    libp2p::SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .expect("noise")
        .with_behaviour(|key| {
            let identify = identify::Config::new("ipfs/0.1.0".into(), key.public());
            let author = MessageAuthenticity::Signed(key.clone());
            let gossipsub = gossipsub::Behaviour::new(author, gossipsub::Config::default());
            Parts {
                identify: identify::Behaviour::new(identify),
                gossipsub: gossipsub.expect("a configuration"),
            }
        })
        .expect("a behaviour")
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(600)))
        .build()
}
