use std::time::Duration;

use clap::Args;
use ocipfs_node::Reachability;

use super::{
    Exit, Global, ask, output, output::printable, store::print_room, swarm::admission_list, unexpected,
};
use crate::control::{FollowedName, Publication, Reply, Request, Status as NodeStatus, WithheldImages};

/// Show the state of the node: peers, reachability, announcements, store, published and followed names
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ocipfs status
  ocipfs status --json")]
pub struct Status;

pub async fn run(global: &Global) -> Result<(), Exit> {
    let Reply::Status(status) = ask(global, Request::Status).await? else { return Err(unexpected()) };
    output::print_all(global, &status, || {
        let scheme = if status.tls { "https" } else { "http" };
        outln!(
            "registry    {scheme}://{} (ocipfs {}, up {} s)",
            status.registry,
            status.version,
            status.seconds
        );
        outln!("peer        {}", status.identity.peer);
        match status.reachable {
            true => status.identity.announced.iter().for_each(|address| outln!("announced   {address}")),
            false => {
                outln!("announced   nothing: not reachable; tell peers an address with --swarm-announce")
            }
        }
        outln!("reachable   {}", reachability(status.reachability));
        network(&status);
        let behind = match status.peers {
            0 => "no peer to tell".to_string(),
            _ => format!("{} s behind", status.announce_lag_seconds),
        };
        outln!("roots       {} announced, {} not yet, {behind}", status.announced, status.announcing);
        outln!(
            "blocks      {} sent ({}), {} received ({})",
            status.sent_blocks,
            indicatif::HumanBytes(status.sent_bytes),
            status.received_blocks,
            indicatif::HumanBytes(status.received_bytes)
        );
        outln!("layers      {} added, {} pulled", status.layers, status.cached_layers);
        outln!("images      {} imported", status.images);
        status.withheld.iter().for_each(withheld);
        print_room(&status.room);
        outln!(
            "memory      {} at most, beyond that of an idle node",
            indicatif::HumanBytes(status.max_memory)
        );
        published(&status.published);
        status.followed.iter().for_each(followed);
    })
}

/// Says who is connected, and who could not be.
fn network(status: &NodeStatus) {
    outln!("network     {}, {} peers connected", status.network, status.peers);
    if let Some(list) = &status.admission_list {
        outln!("            {}", admission_list(list));
    }
    if status.bootstrap_peers + status.remembered_peers > 0 {
        outln!(
            "            {} of {} bootstrap peers unreachable, started with {} remembered peers",
            status.unreachable_bootstrap_peers,
            status.bootstrap_peers,
            status.remembered_peers
        );
    }
    if status.http_providers > 0 {
        outln!("            {} HTTP providers asked", status.http_providers);
    }
    for address in &status.rejected_handshakes {
        outln!("            peer at {address} rejected the handshake: different swarm key?");
    }
    clock(status);
}

/// Says which pushed images clients get only if they may sign them.
fn withheld(WithheldImages { images, more, first }: &WithheldImages) {
    if *images == 0 && !more {
        return;
    }
    let at_least = if *more { "at least " } else { "" };
    outln!(
        "withheld    {at_least}{images} pushed images are not signed as the policies say; `ocipfs repo inspect NAME` shows those of a repository"
    );
    first.iter().for_each(|one| outln!("            {}: {}", printable(&one.image), printable(&one.why)));
}

/// Says where the clocks of peers differ: IPNS records expire by them.
fn clock(status: &NodeStatus) {
    let days = |seconds: u64| humantime::format_duration(Duration::from_secs(seconds / 60 * 60));
    match status.clock_ahead_seconds {
        Some(ahead) => outln!(
            "clock       {} {} those of {} peers: set the clock of this machine, or its names expire for them",
            days(ahead.unsigned_abs()),
            if ahead > 0 { "behind" } else { "ahead of" },
            status.peers_with_other_clocks
        ),
        None if status.peers_with_other_clocks > 0 => outln!(
            "clock       differs by more than five minutes from those of {} peers: see the log for which",
            status.peers_with_other_clocks
        ),
        None => {}
    }
}

/// Tags of a repository that are shown; `--json` lists them all.
const SHOWN: usize = 10;

fn followed(name: &FollowedName) {
    let stale = if name.stale { ", its record has expired" } else { "" };
    outln!(
        "followed    {}  {}{stale}",
        name.name,
        printable(name.value.as_deref().unwrap_or("never heard of"))
    );
    match &name.served {
        Some(served) if Some(served.sequence) == name.sequence => {
            outln!(
                "            complete: sequence {}, {} repositories",
                served.sequence,
                name.complete_repositories
            );
        }
        served => {
            let served =
                served.as_ref().map_or("nothing".into(), |served| format!("sequence {}", served.sequence));
            let missing = indicatif::HumanBytes(name.missing_bytes);
            match (name.missing_repositories, &name.failing) {
                (0, None) => outln!("            complete: {served}; the newest is being fetched"),
                (0, Some(_)) => outln!("            complete: {served}; the newest cannot be read"),
                (repositories, _) => outln!(
                    "            complete: {served}; missing of the newest: {repositories} repositories, at least {missing}"
                ),
            }
            if name.lag_seconds > 0 {
                let lag = indicatif::HumanDuration(Duration::from_secs(name.lag_seconds));
                outln!("            behind for {lag:#}");
            }
        }
    }
    if let Some(why) = &name.failing {
        outln!("            warning: {}", printable(why));
    }
    for repository in &name.repositories {
        let shown: Vec<&str> = repository.tags.iter().take(SHOWN).map(String::as_str).collect();
        let more = repository.tags.len() - shown.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        outln!("            {}: {}{more}", repository.name, shown.join(", "));
        if !repository.shadowed.is_empty() {
            outln!("              hidden by tags that were pushed here: {}", repository.shadowed.join(", "));
        }
    }
}

fn published(published: &Publication) {
    let Publication { share, name, root, sequence, behind, failing, conflicting_writers } = published;
    match (root, sequence) {
        (Some(root), Some(sequence)) => outln!("published   {name} is /ipfs/{root} (sequence {sequence})"),
        (Some(root), None) => outln!("published   nothing: pushes are not shared; their root is {root}"),
        (None, _) => outln!("published   nothing: nothing was pushed"),
    }
    if *behind > 0 || failing.is_some() {
        let why = failing.as_ref().map(|why| format!(": {}", printable(why))).unwrap_or_default();
        outln!("            {behind} changes behind{why}");
    }
    for writer in conflicting_writers {
        outln!("            warning: another node writes {} too (sequence {})", writer.name, writer.sequence);
    }
    outln!("sharing     {}", shared(share));
}

/// How peers can dial the node.
fn reachability(reachability: Reachability) -> &'static str {
    match reachability {
        Reachability::Unknown => "not known yet: no peer has said where it sees this node",
        Reachability::Direct => "directly",
        Reachability::HolePunching => "by hole punching: through a relay at first, then directly",
        Reachability::Relay => "by relay only: NAT gives each connection another port",
        Reachability::None => "not: behind NAT, and no connected peer relays; see docs/how-to/nat.md",
    }
}

/// What peers are given.
pub fn shared(share: &str) -> &'static str {
    match share {
        "all" => "all: content that was added, pulled or pushed here",
        _ => "added: content that was added or pulled here; pushed content is not shared (--share all)",
    }
}
