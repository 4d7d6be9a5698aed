use clap::{Args, Subcommand};

use super::{Exit, Global, ask, output, unexpected};
use crate::{
    content::Profile,
    control::{Failure, LayerRequest, Reply, Request, Source},
};

/// Layers that are pulled by the CID of their manifest
#[derive(Debug, Subcommand)]
pub enum Layer {
    Add(Add),
    Index(Index),
    Inspect(Inspect),
    Rm(Rm),
}

/// Make layers and their manifest, and print the reference to pull
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ocipfs layer add foo-0.1.0.tar.gz         a tar, plain or compressed with gzip or zstd
  ocipfs layer add ./rootfs                 a folder: packed the same way everywhere, owned by root
  ocipfs layer add ipfs://bafy.../foo.tar.gz
                                            a layer that is on IPFS already
  ocipfs layer add base.tar.gz ./app        an image of two layers, the lowest first
  ocipfs layer add ./app --platform linux/arm64
                                            for another platform: see `ocipfs layer index`
  docker pull $(ocipfs -q layer add ./rootfs)")]
pub struct Add {
    /// A tar, a folder, or ipfs://<cid>[/<file>]; of several the lowest layer first
    #[arg(required = true)]
    path: Vec<String>,
    /// The platform of the image [default: linux/amd64]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<ocipfs_oci::Platform>,
    /// The shape of the DAGs: `unixfs-v1-2025` or `legacy` [default: the node's]
    #[arg(long)]
    profile: Option<Profile>,
}

/// Join the layers of several platforms under one reference, from which each client takes its own
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  amd=$(ocipfs -q layer add ./amd64 --platform linux/amd64)
  arm=$(ocipfs -q layer add ./arm64 --platform linux/arm64)
  ocipfs layer index $amd $arm
  docker pull --platform linux/arm64 $(ocipfs -q layer index $amd $arm)")]
pub struct Index {
    /// As `layer add` printed it, or the CID alone; each of another platform
    #[arg(required = true)]
    reference: Vec<String>,
    /// The shape of the DAGs: `unixfs-v1-2025` or `legacy` [default: the node's]
    #[arg(long)]
    profile: Option<Profile>,
}

/// Tell what a reference means
#[derive(Args, Debug)]
pub struct Inspect {
    /// As `layer add` printed it, or the CID alone
    reference: String,
}

/// Forget a layer: its blocks are removed unless another layer needs them
#[derive(Args, Debug)]
pub struct Rm {
    /// As `layer add` printed it, or the CID alone
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
                    println!("platform   {platform}");
                }
                println!("layer      {} ({}, {} bytes)", layer.layer, layer.media_type, layer.size);
                println!("digest     {}", layer.digest);
                println!("diff id    {}", layer.diff_id);
            }
        }),
        Reply::Inspected(inspected) => output::print(global, &inspected, &inspected.reference, || {
            println!("{}", serde_json::to_string_pretty(&inspected.manifest).unwrap_or_default());
            println!("image      {}", inspected.image_digest);
            let here = match (inspected.owned, inspected.local) {
                (true, _) => "added here",
                (false, true) => "pulled here",
                (false, false) => "its bytes are not here",
            };
            println!("kept       {here}");
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
    Ok(Source::Path(absolute.map_err(|e| Failure::new(format!("{path:?} is no path: {e}")))?))
}

/// <https://reproducible-builds.org/specs/source-date-epoch/>
fn source_date_epoch() -> Result<u64, Exit> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text.parse().map_err(|_| {
            Exit::Usage(
                Failure::new(format!("SOURCE_DATE_EPOCH is {text:?}"))
                    .hint("it is a number of seconds since 1970"),
            )
        }),
        Err(_) => Ok(0),
    }
}
