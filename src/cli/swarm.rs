use std::path::PathBuf;

use clap::Subcommand;
use ocipfs_node::SwarmKey;

use super::{Exit, Global, ask, output, output::printable, secrets, unexpected};
use crate::control::{Reply, Request};

/// This node among its peers
#[derive(Debug, Subcommand)]
pub enum Swarm {
    /// Who this node is: its addresses, and its peer id last
    Id,
    /// Who is connected
    Peers,
    /// Dial a peer
    Connect {
        /// A multiaddr that ends in /p2p/<peer id>
        address: String,
    },
    /// Write a new key for a private swarm to a file that only this user can read, or print it; every node needs it
    Key {
        /// The new file, such as swarm.key
        file: Option<PathBuf>,
    },
}

pub async fn run(global: &Global, swarm: Swarm) -> Result<(), Exit> {
    let request = match swarm {
        Swarm::Id => Request::SwarmId,
        Swarm::Peers => Request::SwarmPeers,
        Swarm::Connect { address } => Request::SwarmConnect { address },
        Swarm::Key { file: Some(file) } => {
            return secrets::write_new(&file, &SwarmKey::generate().to_string());
        }
        Swarm::Key { file: None } => {
            println!("{}", SwarmKey::generate());
            if !global.quiet {
                eprintln!("hint: `ocipfs swarm key FILE` writes a file that only this user can read");
            }
            return Ok(());
        }
    };
    match ask(global, request).await? {
        Reply::Identity(identity) => output::print(global, &identity, &identity.peer, || {
            for address in if identity.announced.is_empty() { &identity.listen } else { &identity.announced }
            {
                println!("{address}");
            }
        }),
        Reply::Peers { peers } => output::print_all(global, &peers, || {
            for peer in &peers {
                let agent = printable(peer.agent.as_deref().unwrap_or("-"));
                println!(
                    "{}  {:3}  {:>6}s  {}  {}",
                    peer.peer, peer.direction, peer.seconds, peer.address, agent
                );
            }
        }),
        Reply::Connected { peer } => {
            output::print(global, &serde_json::json!({ "peer": peer }), &peer, || {})
        }
        _ => Err(unexpected()),
    }
}
