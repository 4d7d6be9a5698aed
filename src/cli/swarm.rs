mod members;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use ocipfs_node::SwarmKey;

use super::{Exit, Global, ask, output, output::printable, secrets, unexpected};
use crate::control::{Failure, Reply, Request};

pub use members::described as admission_list;

/// Show and connect peers; keys, invitations and members of private swarms
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
    /// Write addresses by which new nodes find the network: those that this node announces, and one of each peer that it reached
    #[command(after_help = "\
Examples:
  ocipfs swarm export-peers peers.txt
  ocipfs serve --bootstrap-from peers.txt        on a new node")]
    ExportPeers {
        /// File to write; without it they are printed
        file: Option<PathBuf>,
    },
    /// Print an invitation to the private swarm of this node: one string with its key and addresses, for `ocipfs join`
    #[command(after_help = "\
Examples:
  ocipfs swarm invite --follow self              who joins serves the repositories that are pushed here
  ocipfs join ocipfs-join-1.eyJ...               on the new machine, then `ocipfs serve`")]
    Invite {
        /// Name that the new node follows: `self` for the name of this node, or a name (k51...)
        #[arg(long, value_name = "NAME")]
        follow: Option<String>,
        /// How long the invitation is valid. It contains the swarm key: pass it on as you would pass on a password
        #[arg(long, value_name = "TIME", default_value = "1d")]
        expires: humantime::Duration,
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
    #[command(flatten)]
    Members(members::Members),
}

pub async fn run(global: &Global, swarm: Swarm) -> Result<(), Exit> {
    let export = match &swarm {
        Swarm::ExportPeers { file } => file.clone(),
        _ => None,
    };
    let request = match swarm {
        Swarm::Id => Request::SwarmId,
        Swarm::Peers => Request::SwarmPeers,
        Swarm::ExportPeers { .. } => Request::SwarmExportPeers,
        Swarm::Connect { address } => Request::SwarmConnect { address },
        Swarm::Invite { follow, expires } => Request::SwarmInvite { follow, seconds: expires.as_secs() },
        Swarm::Key { file: Some(file) } => {
            secrets::write_new(&file, format!("{}\n", SwarmKey::generate()).as_bytes())?;
            let path = file.display().to_string();
            return output::print(global, &serde_json::json!({ "file": path }), &path, || {});
        }
        Swarm::Members(members) => return members::run(global, members).await,
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
        Reply::Invited(invited) => output::print(global, &invited, &invited.invitation, || {}),
        Reply::ExportedPeers { addresses } => export_peers(global, &addresses, export.as_deref()),
        Reply::Connected { peer } => {
            output::print(global, &serde_json::json!({ "peer": peer }), &peer, || {})
        }
        _ => Err(unexpected()),
    }
}

/// Writes one address on each line, to a file or to standard output.
fn export_peers(global: &Global, addresses: &[String], file: Option<&Path>) -> Result<(), Exit> {
    if addresses.is_empty() && !global.quiet {
        eprintln!(
            "warning: there is no address to export: this node is not reachable, and has reached no peer"
        );
    }
    let Some(file) = file else {
        return output::print_all(global, &addresses, || {
            addresses.iter().for_each(|address| outln!("{address}"))
        });
    };
    let lines: String = addresses.iter().map(|address| format!("{address}\n")).collect();
    let path = file.display().to_string();
    std::fs::write(file, lines).map_err(|error| Failure::new(format!("cannot write {path}: {error}")))?;
    let written = serde_json::json!({ "file": path, "peers": addresses.len() });
    output::print(global, &written, &path, || {})
}
