use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use indicatif::HumanBytes;

use super::{Exit, Global, ask, output, unexpected};
use crate::control::{
    RemovedInfo, Reply, RepoCollected, RepoContents, RepoInfo, RepoReply, RepoRequest, Request,
};

/// List, inspect and remove pushed repositories
#[derive(Debug, Subcommand)]
pub enum Repo {
    Ls(Ls),
    Inspect(Inspect),
    Rm(Rm),
    Gc(Gc),
}

/// List pushed repositories: size, tags, last push
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ocipfs repo ls
  ocipfs -q repo ls                              names only, one per line
  ocipfs repo ls --json")]
pub struct Ls {}

/// Show the tags and manifests of a repository
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ocipfs repo inspect team/app
  ocipfs repo inspect team/app --json            with untagged manifests")]
pub struct Inspect {
    /// The name of the repository
    name: String,
}

/// Remove a repository or one of its images; blobs that nothing else references are deleted
#[derive(Args, Debug)]
#[command(after_help = "\
Removing a tag also removes its image, unless another tag, an index or a subject references it. Removing a manifest
also removes its tags and its referrers.

Examples:
  ocipfs repo rm team/app                        the whole repository
  ocipfs repo rm team/app:1.0                    one tag
  ocipfs repo rm team/app@sha256:...             one manifest")]
pub struct Rm {
    /// Repository, or a tag or manifest of it
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    what: String,
}

/// Delete unreferenced blobs and expired untagged manifests of repositories
#[derive(Args, Debug)]
#[command(after_help = "\
The settings --upload-grace, --keep-untagged and --retention of `serve` determine what is kept. `serve` collects the
rest in the background; this command does it at once. `store gc` includes it.

Examples:
  ocipfs repo gc                                 in all repositories
  ocipfs repo gc team/app --untagged             also the untagged manifests that are not expired
  ocipfs repo gc --dry-run                       list what would be removed")]
pub struct Gc {
    /// Repository [default: all]
    name: Option<String>,
    /// Also remove untagged manifests that are not expired
    #[arg(long)]
    untagged: bool,
    /// Show what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
}

pub async fn run(global: &Global, repo: Repo) -> Result<(), Exit> {
    let request = match repo {
        Repo::Ls(Ls {}) => RepoRequest::Ls,
        Repo::Inspect(Inspect { name }) => RepoRequest::Inspect { name },
        Repo::Rm(Rm { what }) => RepoRequest::Rm { what },
        Repo::Gc(Gc { name, untagged, dry_run }) => RepoRequest::Collect { name, untagged, dry: dry_run },
    };
    let Reply::Repo(reply) = ask(global, Request::Repo(request)).await? else { return Err(unexpected()) };
    match reply {
        RepoReply::Listed { repositories } => {
            output::print_all(global, &repositories, || print_list(global, &repositories))
        }
        RepoReply::Inspected(contents) => output::print_all(global, &contents, || print_contents(&contents)),
        RepoReply::Collected(collected) => {
            output::print_all(global, &collected, || print_collected(global, &collected))
        }
    }
}

/// Seconds since 1970, as people read them.
fn time(seconds: u64) -> String {
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(SystemTime::UNIX_EPOCH);
    humantime::format_rfc3339_seconds(time).to_string()
}

fn print_list(global: &Global, repositories: &[RepoInfo]) {
    let width = repositories.iter().map(|repository| repository.name.len()).max().unwrap_or(0);
    for RepoInfo { name, tags, bytes, last_push, .. } in repositories {
        match global.quiet {
            true => outln!("{name}"),
            false => {
                let (size, pushed) = (HumanBytes(*bytes).to_string(), time(*last_push));
                outln!("{name:width$}  {size:>10}  {tags:>5} tags  pushed {pushed}");
            }
        }
    }
}

fn print_contents(contents: &RepoContents) {
    let RepoContents { info, tag_list, manifest_list } = contents;
    outln!("name        {}", info.name);
    outln!("size        {} in {} blobs and {} manifests", HumanBytes(info.bytes), info.blobs, info.manifests);
    outln!("last push   {}", time(info.last_push));
    for tag in tag_list {
        outln!("tag         {}  {}  pushed {}", tag.tag, tag.digest, time(tag.pushed));
    }
    for manifest in manifest_list {
        if let Some(since) = manifest.untagged_since {
            outln!("untagged    {}  since {}", manifest.digest, time(since));
        }
        if let Some(why) = &manifest.withheld {
            outln!("withheld    {}  {why}", manifest.digest);
        }
    }
    let listed = tag_list.len() as u64;
    if listed < info.tags {
        outln!("            and {} more tags", info.tags - listed);
    }
}

fn print_collected(global: &Global, collected: &RepoCollected) {
    let RepoCollected { removed, bytes, dry } = collected;
    if !global.quiet {
        removed.iter().for_each(print_removed);
    }
    let verb = if *dry { "would be removed" } else { "removed" };
    let count = |kind: &str| removed.iter().filter(|one| one.kind == kind).count();
    outln!(
        "{} tags, {} manifests and {} blobs {verb}: {} freed",
        count("tag"),
        count("manifest"),
        count("blob"),
        HumanBytes(*bytes)
    );
}

fn print_removed(removed: &RemovedInfo) {
    let RemovedInfo { repository, kind, tag, digest, size, freed } = removed;
    match tag {
        Some(tag) => outln!("{kind:8}  {repository}:{tag}  {digest}"),
        None => {
            let shared = if *freed { "" } else { ", needed elsewhere" };
            outln!("{kind:8}  {repository}@{digest}  {}{shared}", HumanBytes(*size));
        }
    }
}
