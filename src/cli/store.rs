use clap::{Args, Subcommand};
use indicatif::HumanBytes;

use super::{Exit, Global, ask, output, unexpected};
use crate::control::{
    Collected, Dropped, Failure, Pin, Reply, Request, Room, StoreReply, StoreRequest, Stored, Verified,
};

/// Inspect, pin, verify and clean the store
#[derive(Debug, Subcommand)]
pub enum Store {
    /// Show the size of the store, of downloads and of uploads
    #[command(after_help = "\
Examples:
  ocipfs store stat
  ocipfs store stat --json")]
    Stat,
    /// List the pins
    #[command(after_help = "\
Examples:
  ocipfs store ls")]
    Ls,
    Pin(PinArgs),
    Unpin(UnpinArgs),
    Gc(Gc),
    Verify(Verify),
}

/// Fetch an image or a DAG completely, and keep it until it is unpinned
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ocipfs store pin bafy...                     everything below a CID
  ocipfs store pin ipfs/bafy.../app:1          an image; stored content of the same root is kept too
  ocipfs store pin                             list the pins, as `store ls` does")]
pub struct PinArgs {
    /// CID, or reference of an image
    what: Option<String>,
}

/// Remove a pin; the content becomes cached content, unless it was added
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ocipfs store unpin bafy...")]
pub struct UnpinArgs {
    /// CID as `store ls` prints it, or the immutable reference that was pinned
    what: String,
}

/// Delete unreferenced data: deleted images, partial downloads, blocks fetched only to resolve a path
#[derive(Args, Debug)]
#[command(after_help = "\
The pull cache stays; `serve --cache-size` limits it. Content that repositories do not keep is removed first, as
`ocipfs repo gc` does.

Examples:
  ocipfs store gc --dry-run                      show what would be deleted
  ocipfs store gc --uploads                      delete abandoned uploads")]
pub struct Gc {
    /// Show what would be deleted, and delete nothing
    #[arg(long)]
    dry_run: bool,
    /// Delete abandoned uploads instead: those that received nothing for a minute, or not since the start
    #[arg(long)]
    uploads: bool,
}

/// Verify the digests of all stored blobs and blocks; damaged content is listed and no longer served (exit code 1)
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ocipfs store verify
  ocipfs store verify --repair")]
pub struct Verify {
    /// Fetch damaged content again from peers
    #[arg(long)]
    repair: bool,
}

pub async fn run(global: &Global, store: Store) -> Result<(), Exit> {
    let request = match store {
        Store::Stat => StoreRequest::Stat,
        Store::Ls | Store::Pin(PinArgs { what: None }) => StoreRequest::Pins,
        Store::Pin(PinArgs { what: Some(what) }) => StoreRequest::Pin { what },
        Store::Unpin(UnpinArgs { what }) => StoreRequest::Unpin { what },
        Store::Gc(Gc { dry_run, uploads }) => StoreRequest::Collect { dry: dry_run, uploads },
        Store::Verify(Verify { repair }) => StoreRequest::Verify { repair },
    };
    let Reply::Store(reply) = ask(global, Request::Store(request)).await? else { return Err(unexpected()) };
    match reply {
        StoreReply::Stored(stat) => output::print_all(global, &stat, || print_stat(&stat)),
        StoreReply::Pinned(Pin { cid }) | StoreReply::Unpinned(Pin { cid }) => {
            output::print(global, &serde_json::json!({ "cid": cid }), &cid, || {})
        }
        StoreReply::Pins { pins } => output::print_all(global, &pins, || {
            pins.iter().for_each(|pin| outln!("{}", pin.cid));
        }),
        StoreReply::Collected(collected) => {
            output::print_all(global, &collected, || print_collected(&collected))
        }
        StoreReply::Dropped(dropped) => output::print_all(global, &dropped, || print_dropped(&dropped)),
        StoreReply::Verified(verified) => print_verified(global, &verified),
    }
}

fn print_stat(stat: &Stored) {
    outln!("blobs       {} ({})", stat.blobs, HumanBytes(stat.bytes));
    outln!("layouts     {} DAGs over them", stat.layouts);
    outln!("blocks      {} known by their CIDs", stat.blocks);
    outln!("partial     {} files, of which {} are here", stat.partial, HumanBytes(stat.partial_bytes));
    if stat.damaged > 0 {
        outln!("damaged     {} blobs: `ocipfs store verify --repair` fetches them again", stat.damaged);
    }
    print_room(&stat.room);
}

/// The lines about room that `store stat` and `status` have in common.
pub fn print_room(room: &Room) {
    let of =
        |limit: Option<u64>| limit.map_or_else(String::new, |limit| format!(" of {}", HumanBytes(limit)));
    outln!("used        {}{}", HumanBytes(room.used_bytes), of(room.max_size));
    outln!("index       {} on disk", HumanBytes(room.index_bytes));
    outln!("cache       {}{}", HumanBytes(room.cached_bytes), of(room.cache_size));
    outln!("followed    {}", HumanBytes(room.followed_bytes));
    outln!("owned       {}", HumanBytes(room.owned_bytes));
    outln!("pinned      {} ({} CIDs)", HumanBytes(room.pinned_bytes), room.pins);
    print_uploads(room);
}

fn print_uploads(room: &Room) {
    if room.uploads + room.abandoned_uploads == 0 {
        return;
    }
    outln!("uploading   {} uploads ({})", room.uploads, HumanBytes(room.upload_bytes));
    if room.abandoned_uploads > 0 {
        outln!(
            "            {} abandoned ({}), the oldest for {}; `ocipfs store gc --uploads` drops them",
            room.abandoned_uploads,
            HumanBytes(room.abandoned_upload_bytes),
            indicatif::HumanDuration(std::time::Duration::from_secs(room.oldest_upload_seconds))
        );
    }
}

fn print_dropped(dropped: &Dropped) {
    let verb = if dropped.dry { "would be dropped" } else { "dropped" };
    outln!("{} abandoned uploads {verb}: {}", dropped.uploads, HumanBytes(dropped.bytes));
}

fn print_collected(collected: &Collected) {
    let Collected { blobs, partial, blocks, bytes, dry } = collected;
    let verb = if *dry { "would go" } else { "went" };
    outln!(
        "{blobs} blobs, {partial} files that came in part and {blocks} blocks {verb}: {}",
        HumanBytes(*bytes)
    );
}

fn print_verified(global: &Global, verified: &Verified) -> Result<(), Exit> {
    output::print_all(global, verified, || {
        for damage in &verified.damage {
            let state = match damage.repaired {
                None => "damaged",
                Some(true) => "repaired",
                Some(false) => "damaged, and no peer gave it",
            };
            outln!("{}  {state}: {}", damage.name, damage.why);
        }
        let Verified { blobs, blocks, bytes, .. } = verified;
        outln!("{blobs} blobs ({}) and {blocks} blocks were hashed", HumanBytes(*bytes));
    })?;
    let left = verified.damage.iter().filter(|damage| damage.repaired != Some(true)).count();
    if left == 0 {
        return Ok(());
    }
    let failure = Failure::new(format!("{left} blobs or blocks are damaged"));
    let hint = match verified.damage.iter().any(|damage| damage.repaired.is_some()) {
        true => {
            "connect to a peer that has them with `ocipfs swarm connect` and try again, or push or add them again"
        }
        false => {
            "they are not served until they are right: push or add them again, pull them, or run \
             `ocipfs store verify --repair`, which fetches them from peers"
        }
    };
    Err(Exit::Failed(failure.hint(hint)))
}
