use clap::{Args, Subcommand};

use super::{Exit, Global, ask, output, unexpected};
use crate::{
    content::Profile,
    control::{Failure, Reply, Request, Source},
};

/// Layers that are pulled by the CID of their manifest
#[derive(Debug, Subcommand)]
pub enum Layer {
    Add(Add),
    Inspect(Inspect),
    Rm(Rm),
}

/// Make a layer and its manifest, and print the reference to pull
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ocipfs layer add foo-0.1.0.tar.gz         a tar, plain or compressed with gzip or zstd
  ocipfs layer add ./rootfs                 a folder: packed the same way everywhere, owned by root
  ocipfs layer add ipfs://bafy.../foo.tar.gz
                                            a layer that is on IPFS already
  docker pull $(ocipfs -q layer add ./rootfs)")]
pub struct Add {
    /// A tar, a folder, or ipfs://<cid>[/<file>]
    path: String,
    /// The platform of the image [default: linux/amd64]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<ocipfs_oci::Platform>,
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
        Layer::Inspect(inspect) => Request::LayerInspect { reference: inspect.reference },
        Layer::Rm(rm) => Request::LayerRm { reference: rm.reference },
    };
    match ask(global, request).await? {
        Reply::Added(added) => output::print(global, &added, &added.reference, || {
            println!("layer      {} ({}, {} bytes)", added.layer, added.media_type, added.size);
            println!("digest     {}", added.digest);
            println!("diff id    {}", added.diff_id);
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

fn add_request(add: Add) -> Result<Request, Exit> {
    let source = match add.path.strip_prefix("ipfs://") {
        Some(path) => Source::Ipfs(path.into()),
        None => {
            let path = std::path::absolute(&add.path);
            Source::Path(path.map_err(|e| Failure::new(format!("{:?} is no path: {e}", add.path)))?)
        }
    };
    Ok(Request::LayerAdd {
        source,
        platform: add.platform.map(|platform| platform.to_string()),
        epoch: source_date_epoch()?,
        profile: add.profile.map(|profile| profile.as_str().into()),
    })
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
