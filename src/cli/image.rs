mod convert;

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    str::FromStr,
};

use clap::{Args, Subcommand, builder::PossibleValuesParser};

use super::{Exit, Global, ask_with, output, unexpected};
use crate::{
    content::Profile,
    control::{
        Attachment, Destination, Failure, ImageInfo, ImageReply, ImageRequest, ImportOptions, Reply, Request,
        import_failure,
    },
    images::{
        archive::ArchiveSource,
        export::{Dest, ExportTarget, Format},
    },
};

/// Destination of an export that is the standard output.
const STDOUT: &str = "-";

/// Import images from archives and layouts, export and convert them, and list them
#[derive(Debug, Subcommand)]
pub enum Image {
    Import(Import),
    Export(Export),
    Push(convert::Push),
    Convert(convert::Convert),
    Ls(Ls),
    Inspect(Inspect),
    Tag(Tag),
    Rm(Rm),
}

/// Import the images of an archive, and print the reference of each
#[derive(Args, Debug)]
#[command(after_help = "\
Uncompressed layers of docker archives are compressed with gzip, with the same result on every machine; OCI layouts
are kept byte for byte unless --compress is given. The same archive has the same references on every machine.
Archives may be compressed with gzip, zstd, xz or bzip2. Referrers are imported and not printed.

Examples:
  docker save busybox | ocipfs image import -
  ocipfs image import busybox.tar --name mine/busybox:1.36
  ocipfs image import ./layout                   an OCI image layout: `skopeo copy ... oci:layout`
  ocipfs image import busybox.tar --as descriptor
                                                 the form that nerdctl uses: ipfs/<cid>
  ocipfs image import busybox.tar --estargz      with layers that stargz-snapshotter mounts
  docker pull $(docker save foo | ocipfs -q image import -)")]
pub struct Import {
    /// Archive of `docker save`, OCI layout (directory or tar), or `-` for standard input
    source: String,
    /// Name of the image, instead of the one in the archive [default: the archive's, or `image`]
    #[arg(long, value_name = "NAME[:TAG]")]
    name: Option<String>,
    /// Form of the import: `layout` (ipfs/<cid>/<name>:<tag>), `descriptor` (ipfs/<cid>), or `dockerized` (the form of image2ipfs)
    #[arg(long = "as", value_name = "FORM", default_value = "layout",
        value_parser = PossibleValuesParser::new(["layout", "descriptor", "dockerized"]))]
    form: String,
    /// Compression of uncompressed layers [default: gzip in docker archives, none in layouts]
    #[arg(long, value_name = "FORMAT", value_parser = PossibleValuesParser::new(["gzip", "zstd", "none"]))]
    compress: Option<String>,
    /// Convert the layers to eStargz, which stargz-snapshotter mounts before they are downloaded; the digests change
    #[arg(long, conflicts_with = "compress")]
    estargz: bool,
    /// Profile of the UnixFS DAGs: `unixfs-v1-2025`, `legacy` or `kubo-cid-v1` [default: the node's, or kubo-cid-v1 with `--as descriptor`]
    #[arg(long)]
    profile: Option<Profile>,
    /// Registry in the printed references [default: the node's]
    #[arg(short, long, value_name = "HOST")]
    registry: Option<String>,
}

/// Export images with their signatures and other referrers to an OCI layout, an OCI archive or a docker archive
#[derive(Args, Debug)]
#[command(after_help = "\
Missing blobs are fetched from peers. The destination determines the format: `*.oci.tar` and
`*.oci` are OCI archives, other `*.tar` are docker archives, everything else is a directory with
an OCI layout. `*.tar.gz`, `*.tgz`, `*.tar.zst` and `*.tzst` are compressed archives.
`ocipfs image import` restores digests, tags and referrers.

Examples:
  ocipfs image export 127.0.0.1:5050/ipfs/<cid>/foo:1.0 foo.tar && docker load -i foo.tar
  ocipfs image export team/app:1 team/db:2 both.oci.tar.zst
  ocipfs image export team/app:1 - | ssh host ocipfs image import -
  ocipfs image export layer/<cid> ./layout       and `skopeo copy oci:layout ...`")]
pub struct Export {
    /// References of images in this registry, by tag or digest
    #[arg(required = true, value_name = "REFERENCE")]
    references: Vec<String>,
    /// File or directory to write, which must not exist; or `-` for a docker archive on standard output
    dest: String,
    /// Leave out signatures, SBOMs and other referrers
    #[arg(long)]
    no_referrers: bool,
    /// Format, instead of the one that the destination determines
    #[arg(long, value_parser = PossibleValuesParser::new(["oci", "oci-archive", "docker-archive"]))]
    format: Option<String>,
}

/// List the imported images
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ocipfs image ls
  ocipfs image ls --json")]
pub struct Ls {}

/// Show the manifest, size and origin of an image
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ocipfs image inspect 127.0.0.1:5050/ipfs/<cid>/foo:1.0
  ocipfs image inspect layer/<cid> --json")]
pub struct Inspect {
    /// Reference of an image in this registry
    reference: String,
}

/// Give an imported image another name; it gets a new root, and the old one stays
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ocipfs image tag 127.0.0.1:5050/ipfs/<cid>/foo:1.0 foo:stable")]
pub struct Tag {
    /// Reference as `image import` printed it
    reference: String,
    /// New name
    #[arg(value_name = "NAME[:TAG]")]
    name: String,
}

/// Remove all images of an import; blobs that nothing else references are deleted
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ocipfs image rm 127.0.0.1:5050/ipfs/<cid>/foo:1.0
  ocipfs image rm <cid>")]
pub struct Rm {
    /// Reference as `image import` printed it, or the CID of the root
    reference: String,
}

pub async fn run(global: &Global, image: Image) -> Result<(), Exit> {
    let is_push = matches!(image, Image::Push(_));
    let (request, attachment) = match image {
        Image::Import(import) => import_request(import)?,
        Image::Export(export) => export_request(export)?,
        Image::Push(push) => (push.request(), Attachment::Nothing),
        Image::Convert(convert) => (convert.request(), Attachment::Nothing),
        Image::Ls(Ls {}) => (ImageRequest::Ls, Attachment::Nothing),
        Image::Inspect(Inspect { reference }) => (ImageRequest::Inspect { reference }, Attachment::Nothing),
        Image::Tag(Tag { reference, name }) => (ImageRequest::Tag { reference, name }, Attachment::Nothing),
        Image::Rm(Rm { reference }) => (ImageRequest::Rm { reference }, Attachment::Nothing),
    };
    match ask_with(global, Request::Image(request), attachment).await? {
        Reply::Image(ImageReply::Imported { images }) if is_push => {
            output::print_all(global, &images, || {
                images.iter().for_each(|image| convert::print_pushed(global.quiet, image));
            })
        }
        Reply::Image(reply) => print(global, reply),
        _ => Err(unexpected()),
    }
}

fn print(global: &Global, reply: ImageReply) -> Result<(), Exit> {
    match reply {
        ImageReply::Imported { images } => output::print_all(global, &images, || {
            let details = |image: &ImageInfo| {
                outln!("digest     {}", image.digest);
                outln!("size       {} bytes", image.size);
            };
            if !global.quiet {
                images.iter().for_each(details);
            }
            let is_shown = |image: &&ImageInfo| !global.quiet || !image.is_untagged();
            images.iter().filter(is_shown).for_each(|image| outln!("{}", image.reference));
        }),
        // The standard output has the archive.
        ImageReply::Exported { dest, .. } if dest.as_os_str() == STDOUT => Ok(()),
        ImageReply::Exported { dest, images } => {
            let dest = dest.display().to_string();
            output::print(global, &serde_json::json!({ "dest": dest, "images": images }), &dest, || {
                for image in &images {
                    outln!("image      {}", image.reference);
                    outln!("digest     {}", image.digest);
                    outln!("size       {} bytes", image.size);
                    outln!("referrers  {}", image.referrers);
                }
            })
        }
        ImageReply::Listed { images } => output::print_all(global, &images, || {
            images.iter().for_each(|image| match global.quiet {
                true => outln!("{}", image.reference),
                false => outln!("{}  {}  {} bytes", image.reference, image.digest, image.size),
            });
        }),
        ImageReply::Inspected(inspected) => output::print(global, &inspected, &inspected.reference, || {
            outln!("{}", serde_json::to_string_pretty(&inspected.manifest).unwrap_or_default());
            outln!("media type {}", inspected.media_type);
            outln!("digest     {}", inspected.digest);
            outln!("kept       {}", if inspected.owned { "imported here" } else { "not imported here" });
        }),
        ImageReply::Removed { cid, references } => {
            output::print(global, &serde_json::json!({ "cid": cid, "references": references }), &cid, || {
                references.iter().for_each(|reference| outln!("forgotten  {reference}"));
            })
        }
    }
}

fn import_request(import: Import) -> Result<(ImageRequest, Attachment), Exit> {
    let Import { source, name, form, compress, estargz, profile, registry } = import;
    let source = match source.as_str() {
        "-" => ArchiveSource::stream("the standard input", std::io::stdin()),
        path => ArchiveSource::open(&absolute(path)?).map_err(|e| import_failure(e.into()))?,
    };
    let profile = profile.map(|profile| profile.as_str().into());
    let options = ImportOptions { name, form, compress, estargz, profile, registry };
    let request = ImageRequest::Import { options };
    Ok((request, Attachment::Archive(source)))
}

fn export_request(export: Export) -> Result<(ImageRequest, Attachment), Exit> {
    let Export { references, dest, no_referrers, format } = export;
    let given = format.as_deref().map(Format::from_str).transpose().map_err(Failure::new)?;
    let (kind, compression) = Format::of(Path::new(&dest), given)
        .map_err(|why| Failure::new(why).hint("an archive with another suffix: `... - | xz > FILE`"))?;
    let is_stream = dest == STDOUT;
    let dest = if is_stream { PathBuf::from(STDOUT) } else { absolute(&dest)? };
    let place = match kind {
        _ if is_stream && std::io::stdout().is_terminal() => {
            return Err(Failure::new("refusing to write an archive to a terminal")
                .hint("redirect the standard output, or give a file")
                .into());
        }
        Format::Oci if is_stream => {
            return Err(Failure::new("a layout directory cannot be written to the standard output")
                .hint("use --format oci-archive")
                .into());
        }
        _ if is_stream => Dest::Stream(Box::new(std::io::stdout()), compression),
        Format::Oci => Dest::Folder(dest.clone()),
        Format::OciArchive | Format::DockerArchive => Dest::File(dest.clone(), compression),
    };
    let create = Box::new(move || ExportTarget::create(place));
    let destination = Destination { path: dest.clone(), create };
    let request = ImageRequest::Export { references, dest, format, referrers: !no_referrers };
    Ok((request, Attachment::Export(destination)))
}

/// Results show where a file is, wherever the command was typed.
fn absolute(path: &str) -> Result<PathBuf, Exit> {
    Ok(std::path::absolute(path).map_err(|e| Failure::new(format!("invalid path {path:?}: {e}")))?)
}
