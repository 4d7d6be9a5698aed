use clap::Args;

use super::{Exit, Global, ask, output, store::print_room, unexpected};
use crate::control::{Reply, Request};

/// How the running node is: peers, reachability, what is announced and kept
#[derive(Args, Debug)]
pub struct Status;

pub async fn run(global: &Global) -> Result<(), Exit> {
    let Reply::Status(status) = ask(global, Request::Status).await? else { return Err(unexpected()) };
    output::print_all(global, &status, || {
        println!(
            "registry    http://{} (ocipfs {}, up {} s)",
            status.registry, status.version, status.seconds
        );
        println!("peer        {}", status.identity.peer);
        match status.reachable {
            true => status.identity.announced.iter().for_each(|address| println!("announced   {address}")),
            false => {
                println!("announced   nothing: not reachable; tell peers an address with --swarm-announce")
            }
        }
        println!("network     {}, {} peers connected", status.network, status.peers);
        let lag = status.announce_lag_seconds;
        println!("roots       {} announced, {} not yet, {lag} s behind", status.announced, status.announcing);
        println!(
            "blocks      {} sent ({}), {} received ({})",
            status.sent_blocks,
            indicatif::HumanBytes(status.sent_bytes),
            status.received_blocks,
            indicatif::HumanBytes(status.received_bytes)
        );
        println!("layers      {} added, {} pulled", status.layers, status.cached_layers);
        println!("images      {} imported", status.images);
        print_room(&status.room);
    })
}
