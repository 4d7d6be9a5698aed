use std::path::PathBuf;

use clap::Subcommand;
use ocipfs_node::SwarmKey;

use super::{Exit, Global, ask, output, output::printable, secrets, unexpected};
use crate::control::{Reply, Request};

/// Show and connect peers; make keys of private swarms
#[derive(Debug, Subcommand)]
pub enum Swarm {
    /// Print the addresses of this node, and its peer ID last
    #[command(after_help = "\
Examples:
  ocipfs swarm id
  ocipfs -q swarm id                             the peer ID alone")]
    Id,
    /// List the connected peers: peer ID, direction, seconds since it connected, address, agent
    #[command(after_help = "\
Examples:
  ocipfs swarm peers
  ocipfs swarm peers --json")]
    Peers,
    /// Connect to a peer
    #[command(after_help = "\
Examples:
  ocipfs swarm connect /ip4/192.0.2.7/tcp/4001/p2p/12D3KooW...")]
    Connect {
        /// Multiaddr that ends in /p2p/<peer ID>
        address: String,
    },
    /// Make a key for a private swarm: print it, or write it to a file that only this user can read
    #[command(after_help = "\
Examples:
  ocipfs swarm key swarm.key
  ocipfs serve --swarm-key swarm.key             on every node of the swarm, with the same key")]
    Key {
        /// New file, such as swarm.key
        file: Option<PathBuf>,
    },
}

pub async fn run(global: &Global, swarm: Swarm) -> Result<(), Exit> {
    let request = match swarm {
        Swarm::Id => Request::SwarmId,
        Swarm::Peers => Request::SwarmPeers,
        Swarm::Connect { address } => Request::SwarmConnect { address },
        Swarm::Key { file: Some(file) } => {
            secrets::write_new(&file, format!("{}\n", SwarmKey::generate()).as_bytes())?;
            let path = file.display().to_string();
            return output::print(global, &serde_json::json!({ "file": path }), &path, || {});
        }
        Swarm::Key { file: None } => {
            let key = SwarmKey::generate().to_string();
            output::print(global, &serde_json::json!({ "key": key }), &key, || {})?;
            if !global.quiet && !global.json {
                eprintln!("hint: `ocipfs swarm key FILE` writes a file that only this user can read");
            }
            return Ok(());
        }
    };
    match ask(global, request).await? {
        Reply::Identity(identity) => output::print(global, &identity, &identity.peer, || {
            for address in if identity.announced.is_empty() { &identity.listen } else { &identity.announced }
            {
                outln!("{address}");
            }
        }),
        Reply::Peers { peers } => output::print_all(global, &peers, || {
            for peer in &peers {
                let agent = printable(peer.agent.as_deref().unwrap_or("-"));
                outln!(
                    "{}  {:3}  {:>6}s  {}  {}",
                    peer.peer,
                    peer.direction,
                    peer.seconds,
                    peer.address,
                    agent
                );
            }
        }),
        Reply::Connected { peer } => {
            output::print(global, &serde_json::json!({ "peer": peer }), &peer, || {})
        }
        _ => Err(unexpected()),
    }
}
