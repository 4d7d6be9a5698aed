use std::path::PathBuf;

use clap::{Args, Subcommand, builder::PossibleValuesParser};

use super::{Exit, Global, ask, output, unexpected};
use crate::{
    content::Profile,
    control::{Failure, ImageInfo, ImageReply, ImageRequest, Reply, Request},
};

/// Whole images: imported from archives, exported to them
#[derive(Debug, Subcommand)]
pub enum Image {
    Import(Import),
    Export(Export),
    Ls(Ls),
    Inspect(Inspect),
    Tag(Tag),
    Rm(Rm),
}

/// Import the images of an archive, and print the reference to pull of each
#[derive(Args, Debug)]
#[command(after_help = "\
Uncompressed layers of docker archives are compressed with gzip, the same way everywhere; image layouts are kept
byte for byte, unless --compress says otherwise. The same archive gives the same references on every machine.

Examples:
  docker save busybox | ocipfs image import -
  ocipfs image import busybox.tar --name mine/busybox:1.36
  ocipfs image import ./layout                   an OCI image layout: `skopeo copy ... oci:layout`
  ocipfs image import busybox.tar --as descriptor
                                                 as nerdctl has it: ipfs/<cid>
  docker pull $(docker save foo | ocipfs -q image import -)")]
pub struct Import {
    /// An archive of `docker save`, an OCI layout (folder or tar), or `-` for the standard input
    source: String,
    /// What the images are called, whatever the archive says
    #[arg(long, value_name = "NAME[:TAG]")]
    name: Option<String>,
    /// What it becomes: a layout (ipfs/<cid>/<name>:<tag>), a descriptor (ipfs/<cid>) or as image2ipfs has it
    #[arg(long = "as", value_name = "FORM", default_value = "layout",
        value_parser = PossibleValuesParser::new(["layout", "descriptor", "dockerized"]))]
    form: String,
    /// What uncompressed layers become [default: gzip in docker archives, none in layouts]
    #[arg(long, value_name = "HOW", value_parser = PossibleValuesParser::new(["gzip", "zstd", "none"]))]
    compress: Option<String>,
    /// The shape of the DAGs: `unixfs-v1-2025` or `legacy` [default: the node's]
    #[arg(long)]
    profile: Option<Profile>,
    /// The registry that the references are shown with [default: the node's]
    #[arg(short, long, value_name = "HOST")]
    registry: Option<String>,
}

/// Write an image to an OCI layout folder, an OCI tar or a docker archive
#[derive(Args, Debug)]
#[command(after_help = "\
What is not here is fetched from peers. The format follows from the destination: `*.oci.tar` and `*.oci` are OCI
archives, any other `*.tar` is a docker archive, and the rest are folders.

Examples:
  ocipfs image export 127.0.0.1:5050/ipfs/<cid>/foo:1.0 foo.tar && docker load -i foo.tar
  ocipfs image export layer/<cid> ./layout       and `skopeo copy oci:layout ...`")]
pub struct Export {
    /// Any reference that this registry answers
    reference: String,
    /// What is written: it must not be there yet
    dest: String,
    /// Another format than the destination says
    #[arg(long, value_parser = PossibleValuesParser::new(["oci", "oci-archive", "docker-archive"]))]
    format: Option<String>,
}

/// List the images that were imported
#[derive(Args, Debug)]
pub struct Ls {}

/// Tell what a reference means
#[derive(Args, Debug)]
pub struct Inspect {
    /// Any reference that this registry answers
    reference: String,
}

/// Call an imported image otherwise: it gets a new root and keeps the old one
#[derive(Args, Debug)]
pub struct Tag {
    /// As `image import` printed it
    reference: String,
    /// The new name
    #[arg(value_name = "NAME[:TAG]")]
    name: String,
}

/// Forget all images under one root: their blobs are removed unless something else needs them
#[derive(Args, Debug)]
pub struct Rm {
    /// As `image import` printed it, or the root's CID
    reference: String,
}

pub async fn run(global: &Global, image: Image) -> Result<(), Exit> {
    let request = match image {
        Image::Import(import) => import_request(import)?,
        Image::Export(Export { reference, dest, format }) => {
            ImageRequest::Export { reference, dest: absolute(&dest)?, format }
        }
        Image::Ls(Ls {}) => ImageRequest::Ls,
        Image::Inspect(Inspect { reference }) => ImageRequest::Inspect { reference },
        Image::Tag(Tag { reference, name }) => ImageRequest::Tag { reference, name },
        Image::Rm(Rm { reference }) => ImageRequest::Rm { reference },
    };
    match ask(global, Request::Image(request)).await? {
        Reply::Image(reply) => print(global, reply),
        _ => Err(unexpected()),
    }
}

fn print(global: &Global, reply: ImageReply) -> Result<(), Exit> {
    match reply {
        ImageReply::Imported { images } => output::print_all(global, &images, || {
            let details = |image: &ImageInfo| {
                println!("digest     {}", image.digest);
                println!("size       {} bytes", image.size);
            };
            if !global.quiet {
                images.iter().for_each(details);
            }
            images.iter().for_each(|image| println!("{}", image.reference));
        }),
        ImageReply::Exported { dest, image } => {
            let dest = dest.display().to_string();
            output::print(global, &serde_json::json!({ "dest": dest, "image": image }), &dest, || {
                println!("digest     {}", image.digest);
                println!("size       {} bytes", image.size);
            })
        }
        ImageReply::Listed { images } => output::print_all(global, &images, || {
            images.iter().for_each(|image| match global.quiet {
                true => println!("{}", image.reference),
                false => println!("{}  {}  {} bytes", image.reference, image.digest, image.size),
            });
        }),
        ImageReply::Inspected(inspected) => output::print(global, &inspected, &inspected.reference, || {
            println!("{}", serde_json::to_string_pretty(&inspected.manifest).unwrap_or_default());
            println!("media type {}", inspected.media_type);
            println!("digest     {}", inspected.digest);
            println!("kept       {}", if inspected.owned { "imported here" } else { "not imported here" });
        }),
        ImageReply::Removed { cid, references } => {
            output::print(global, &serde_json::json!({ "cid": cid, "references": references }), &cid, || {
                references.iter().for_each(|reference| println!("forgotten  {reference}"));
            })
        }
    }
}

fn import_request(import: Import) -> Result<ImageRequest, Exit> {
    let Import { source, name, form, compress, profile, registry } = import;
    let path = if source == "-" { None } else { Some(absolute(&source)?) };
    let profile = profile.map(|profile| profile.as_str().into());
    Ok(ImageRequest::Import { path, name, form, compress, profile, registry })
}

/// The instance may be in another process, with a working directory of its own.
fn absolute(path: &str) -> Result<PathBuf, Exit> {
    Ok(std::path::absolute(path).map_err(|e| Failure::new(format!("{path:?} is no path: {e}")))?)
}
