use clap::Subcommand;
use indicatif::HumanBytes;

use super::{Exit, Global, ask, output, unexpected};
use crate::control::{Reply, Request};

/// What the node directory holds
#[derive(Debug, Subcommand)]
pub enum Store {
    /// How much is stored, and what is on its way
    Stat,
}

pub async fn run(global: &Global, store: Store) -> Result<(), Exit> {
    let request = match store {
        Store::Stat => Request::StoreStat,
    };
    let Reply::Stored(stat) = ask(global, request).await? else { return Err(unexpected()) };
    output::print_all(global, &stat, || {
        println!("blobs       {} ({})", stat.blobs, HumanBytes(stat.bytes));
        println!("layouts     {} DAGs over them", stat.layouts);
        println!("blocks      {} known by their CIDs", stat.blocks);
        println!(
            "arriving    {} files, of which {} are here",
            stat.arriving,
            HumanBytes(stat.arriving_bytes)
        );
    })
}
