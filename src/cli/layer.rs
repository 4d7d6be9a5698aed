use clap::{Args, Subcommand};

use super::{Exit, Global, ask_with, output, unexpected};
use crate::{
    content::Profile,
    control::{Attachment, Failure, LayerRequest, Reply, Request, Source, layer_file_failure},
    images::layer::LayerFile,
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
  tar -c -C rootfs . | gzip -n | ocipfs layer add - --name rootfs.tar.gz
  ocipfs layer add ./app --platform linux/arm64
                                            for another platform: see `ocipfs layer index`
  docker pull $(ocipfs -q layer add ./rootfs)")]
pub struct Add {
    /// Tar archives, directories, `-` for standard input, or ipfs://<cid>[/<file>]; the lowest layer first
    #[arg(required = true)]
    path: Vec<String>,
    /// Name of the layer's file, which is the tag in the reference [default: the last component of PATH; `layer.tar`, `layer.tar.gz` or `layer.tar.zst` for standard input]
    #[arg(long, value_name = "FILE")]
    name: Option<String>,
    /// Platform of the image [default: linux/amd64]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<ocipfs_oci::Platform>,
    /// Profile of the UnixFS DAGs: `unixfs-v1-2025`, `legacy` or `kubo-cid-v1` [default: the node's]
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
    /// Profile of the UnixFS DAGs: `unixfs-v1-2025`, `legacy` or `kubo-cid-v1` [default: the node's]
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
    let mut attachment = Attachment::Nothing;
    let request = match layer {
        Layer::Add(add) => {
            let (request, files) = add_request(add)?;
            attachment = Attachment::Layers(files);
            request
        }
        Layer::Index(index) => LayerRequest::Index {
            references: index.reference,
            profile: index.profile.map(|profile| profile.as_str().into()),
        },
        Layer::Inspect(inspect) => LayerRequest::Inspect { reference: inspect.reference },
        Layer::Rm(rm) => LayerRequest::Rm { reference: rm.reference },
    };
    match ask_with(global, Request::Layer(request), attachment).await? {
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

fn add_request(add: Add) -> Result<(LayerRequest, Vec<LayerFile>), Exit> {
    let Add { path: paths, name, platform, profile } = add;
    if name.is_some() && paths.len() > 1 {
        return Err(Exit::Usage(
            Failure::new("--name names one layer").hint("add several layers without --name"),
        ));
    }
    let epoch = source_date_epoch()?;
    let (mut sources, mut files) = (Vec::new(), Vec::new());
    for path in paths {
        match path.strip_prefix("ipfs://") {
            Some(_) if name.is_some() => {
                let message = "a layer that is on IPFS already keeps its name";
                return Err(Exit::Usage(Failure::new(message).hint("leave out --name")));
            }
            Some(path) => sources.push(Source::Ipfs(path.into())),
            None => {
                files.push(file(&path, epoch)?);
                sources.push(Source::Attached);
            }
        }
    }
    if let (Some(name), [file]) = (name, &mut files[..]) {
        file.name = name;
    }
    let (platform, profile) =
        (platform.map(|platform| platform.to_string()), profile.map(|profile| profile.as_str().into()));
    Ok((LayerRequest::Add { sources, platform, profile }, files))
}

fn file(path: &str, epoch: u64) -> Result<LayerFile, Exit> {
    let file = match path {
        "-" => LayerFile::unnamed("the standard input".into(), std::io::stdin()),
        path => {
            let absolute = std::path::absolute(path);
            let path = absolute.map_err(|e| Failure::new(format!("invalid path {path:?}: {e}")))?;
            LayerFile::open(&path, epoch)
        }
    };
    Ok(file.map_err(layer_file_failure)?)
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
