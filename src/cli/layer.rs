use clap::{Args, Subcommand};

use super::{Exit, Global, ask, output, unexpected};
use crate::{
    content::Profile,
    control::{Failure, LayerRequest, Reply, Request, Source},
};

/// Make single-layer images that are pulled by the CID of their layer manifest
#[derive(Debug, Subcommand)]
pub enum Layer {
    Add(Add),
    Index(Index),
    Inspect(Inspect),
    Rm(Rm),
}

/// Make an image from layers, and print its reference
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ocipfs layer add foo-0.1.0.tar.gz         a tar, plain or compressed with gzip or zstd
  ocipfs layer add ./rootfs                 a directory: packed reproducibly, owned by root
  ocipfs layer add ipfs://bafy.../foo.tar.gz
                                            a layer that is already on IPFS
  ocipfs layer add base.tar.gz ./app        an image of two layers, the lowest first
  ocipfs layer add ./app --platform linux/arm64
                                            for another platform: see `ocipfs layer index`
  docker pull $(ocipfs -q layer add ./rootfs)")]
pub struct Add {
    /// Tar archives, directories, or ipfs://<cid>[/<file>]; the lowest layer first
    #[arg(required = true)]
    path: Vec<String>,
    /// Platform of the image [default: linux/amd64]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<ocipfs_oci::Platform>,
    /// Profile of the UnixFS DAGs: `unixfs-v1-2025` or `legacy` [default: the node's]
    #[arg(long)]
    profile: Option<Profile>,
}

/// Make a multi-platform image from single-platform ones, and print its reference
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  amd=$(ocipfs -q layer add ./amd64 --platform linux/amd64)
  arm=$(ocipfs -q layer add ./arm64 --platform linux/arm64)
  ocipfs layer index $amd $arm
  docker pull --platform linux/arm64 $(ocipfs -q layer index $amd $arm)")]
pub struct Index {
    /// References as `layer add` printed them, or CIDs; each of another platform
    #[arg(required = true)]
    reference: Vec<String>,
    /// Profile of the UnixFS DAGs: `unixfs-v1-2025` or `legacy` [default: the node's]
    #[arg(long)]
    profile: Option<Profile>,
}

/// Show a layer manifest and the digest of its image
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ocipfs layer inspect 127.0.0.1:5050/layer/<cid>
  ocipfs layer inspect <cid> --json")]
pub struct Inspect {
    /// Reference as `layer add` printed it, or the CID
    reference: String,
}

/// Remove a layer; blocks that nothing else references are deleted
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ocipfs layer rm <cid>")]
pub struct Rm {
    /// Reference as `layer add` printed it, or the CID
    reference: String,
}

pub async fn run(global: &Global, layer: Layer) -> Result<(), Exit> {
    let request = match layer {
        Layer::Add(add) => add_request(add)?,
        Layer::Index(index) => LayerRequest::Index {
            references: index.reference,
            profile: index.profile.map(|profile| profile.as_str().into()),
        },
        Layer::Inspect(inspect) => LayerRequest::Inspect { reference: inspect.reference },
        Layer::Rm(rm) => LayerRequest::Rm { reference: rm.reference },
    };
    match ask(global, Request::Layer(request)).await? {
        Reply::Added(added) => output::print(global, &added, &added.reference, || {
            for layer in &added.layers {
                if let Some(platform) = &layer.platform {
                    outln!("platform   {platform}");
                }
                outln!("layer      {} ({}, {} bytes)", layer.layer, layer.media_type, layer.size);
                outln!("digest     {}", layer.digest);
                outln!("diff id    {}", layer.diff_id);
            }
        }),
        Reply::Inspected(inspected) => output::print(global, &inspected, &inspected.reference, || {
            outln!("{}", serde_json::to_string_pretty(&inspected.manifest).unwrap_or_default());
            outln!("image      {}", inspected.image_digest);
            let here = match (inspected.owned, inspected.local) {
                (true, _) => "added",
                (false, true) => "cached",
                (false, false) => "not stored",
            };
            outln!("stored     {here}");
        }),
        Reply::Removed { cid } => output::print(global, &serde_json::json!({ "cid": cid }), &cid, || {}),
        _ => Err(unexpected()),
    }
}

fn add_request(add: Add) -> Result<LayerRequest, Exit> {
    let sources = add.path.iter().map(|path| source(path)).collect::<Result<_, _>>()?;
    Ok(LayerRequest::Add {
        sources,
        platform: add.platform.map(|platform| platform.to_string()),
        epoch: source_date_epoch()?,
        profile: add.profile.map(|profile| profile.as_str().into()),
    })
}

fn source(path: &str) -> Result<Source, Exit> {
    if let Some(path) = path.strip_prefix("ipfs://") {
        return Ok(Source::Ipfs(path.into()));
    }
    let absolute = std::path::absolute(path);
    Ok(Source::Path(absolute.map_err(|e| Failure::new(format!("invalid path {path:?}: {e}")))?))
}

/// <https://reproducible-builds.org/specs/source-date-epoch/>
fn source_date_epoch() -> Result<u64, Exit> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text.parse().map_err(|_| {
            Exit::Usage(Failure::new(format!(
                "invalid SOURCE_DATE_EPOCH {text:?}: expected seconds since 1970"
            )))
        }),
        Err(_) => Ok(0),
    }
}
