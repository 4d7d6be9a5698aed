//! A bare libp2p stream between two processes: TCP, Noise and yamux as they come, and nothing but bytes.
//! No peer on these transports can be quicker.

use std::{
    net::SocketAddr,
    process::Command,
    time::{Duration, Instant},
};

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::{
    Multiaddr, StreamProtocol, Swarm, SwarmBuilder, multiaddr::Protocol, noise, swarm::SwarmEvent, tcp, yamux,
};
use serde_json::{Value, json};

use super::{Process, finish, multiaddr, socket_address};
use crate::{
    Failure,
    memory::Memory,
    proxy::{Link, Proxy},
    scenarios::Room,
    tar::MIB,
};

const PROTOCOL: StreamProtocol = StreamProtocol::new("/ocipfs-compare/bytes");
const IDLE: Duration = Duration::from_secs(600);

/// The end that sends.
pub struct Stream {
    _process: Process,
    _proxy: Option<Proxy>,
    address: String,
}

impl Stream {
    /// Sends `mib` MiB to each client, behind a link if one is given.
    pub fn serve(room: &Room, mib: usize, link: Option<Link>) -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["stream-source", &mib.to_string()]);
        let mut process = room.children.start(&mut command, &room.new_dir("stream")?)?;
        let ready = process.line()?;
        let (listen, peer) = (ready["listen"].as_str().unwrap_or_default(), &ready["peer"]);
        let target = socket_address(listen)?;
        let proxy = link.map(|link| leading(target, link)).transpose()?;
        let at = proxy.as_ref().map_or(target, Proxy::address);
        let address = format!("{}/p2p/{}", multiaddr(at), peer.as_str().unwrap_or_default());
        Ok(Self { _process: process, _proxy: proxy, address })
    }

    /// Takes it all in another process; gives the seconds, from the opening of the stream on, and the most memory.
    pub fn fetch(&self, room: &Room) -> Result<(f64, f64), Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["stream-sink", &self.address]);
        let process = room.children.start(&mut command, &room.new_dir("stream")?)?;
        let memory = Memory::watch(process.pid());
        let said: Value = serde_json::from_str(&finish(process)?)?;
        Ok((said["seconds"].as_f64().ok_or("no seconds")?, memory.most()))
    }
}

fn leading(target: SocketAddr, link: Link) -> Result<Proxy, Failure> {
    let mut proxy = Proxy::bind()?;
    proxy.lead(target, link);
    Ok(proxy)
}

fn swarm() -> Result<Swarm<libp2p_stream::Behaviour>, Failure> {
    let builder = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)?
        .with_behaviour(|_| libp2p_stream::Behaviour::new())?;
    Ok(builder.with_swarm_config(|config| config.with_idle_connection_timeout(IDLE)).build())
}

/// The process that sends, until it is killed.
#[tokio::main]
pub async fn source(mib: usize) -> Result<(), Failure> {
    let mut swarm = swarm()?;
    let mut streams = swarm.behaviour().new_control().accept(PROTOCOL)?;
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
    let peer = *swarm.local_peer_id();
    tokio::spawn(async move {
        while let Some((_, mut stream)) = streams.next().await {
            tokio::spawn(async move {
                let piece = vec![7; MIB];
                for _ in 0..mib {
                    stream.write_all(&piece).await?;
                }
                stream.close().await
            });
        }
    });
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            println!("{}", json!({ "listen": address, "peer": peer.to_string() }));
        }
    }
}

/// The process that receives.
#[tokio::main]
pub async fn sink(address: Multiaddr) -> Result<(), Failure> {
    let Some(Protocol::P2p(peer)) = address.iter().last() else { return Err("no peer id".into()) };
    let mut swarm = swarm()?;
    let mut control = swarm.behaviour().new_control();
    swarm.dial(address)?;
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::ConnectionEstablished { .. } => break,
            SwarmEvent::OutgoingConnectionError { error, .. } => return Err(error.into()),
            _ => {}
        }
    }
    tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    let start = Instant::now();
    let mut stream = control.open_stream(peer, PROTOCOL).await.map_err(|error| error.to_string())?;
    let mut buffer = vec![0; MIB];
    let mut bytes = 0;
    while let n @ 1.. = stream.read(&mut buffer).await? {
        bytes += n;
    }
    println!("{}", json!({ "bytes": bytes, "seconds": start.elapsed().as_secs_f64() }));
    Ok(())
}
