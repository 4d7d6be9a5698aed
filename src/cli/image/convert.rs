//! `image convert` and `image push`: an image of the registry in another form.

use clap::{Args, builder::PossibleValuesParser};
use ocipfs_oci::Platform;

use crate::{
    content::Profile,
    control::{ImageInfo, ImageRequest, ImportOptions},
};

/// Convert an image of the registry to eStargz, which stargz-snapshotter mounts before it is downloaded
#[derive(Args, Debug)]
#[command(after_help = "\
The converted image has other layers, so it has other digests. It is kept until `image rm`, and
the image that it was made of stays. The same image becomes the same layers on every machine.
Signatures and other referrers are left out: they are about the image before the conversion.

Examples:
  ocipfs image convert team/app:1.0 app:lazy --estargz
  ocipfs image convert team/app:1.0 app:lazy --estargz --as descriptor
                                                 then `nerdctl --snapshotter stargz run ipfs://<cid>`")]
pub struct Convert {
    /// Reference of an image in this registry, by tag or digest
    reference: String,
    /// Name of the converted image
    #[arg(value_name = "NAME[:TAG]")]
    name: String,
    /// Convert the layers to eStargz
    #[arg(long, required = true)]
    estargz: bool,
    /// Form of the result: `layout` (ipfs/<cid>/<name>:<tag>), or `descriptor` (ipfs/<cid>)
    #[arg(long = "as", value_name = "FORM", default_value = "layout",
        value_parser = PossibleValuesParser::new(["layout", "descriptor"]))]
    form: String,
    /// Profile of the UnixFS DAGs: `unixfs-v1-2025`, `legacy` or `kubo-cid-v1` [default: the node's, or kubo-cid-v1 with `--as descriptor`]
    #[arg(long)]
    profile: Option<Profile>,
    /// Registry in the printed reference [default: the node's]
    #[arg(short, long, value_name = "HOST")]
    registry: Option<String>,
}

/// Put an image of the registry on IPFS as nerdctl does, and print the CID of its descriptor
#[derive(Args, Debug)]
#[command(after_help = "\
The CID is the one that `nerdctl push --all-platforms ipfs://` gives for the same image, so both
share their blocks. Missing blobs are fetched from peers. The image is kept until
`ocipfs image rm <cid>`. Peers may get it, also where --share keeps pushed repositories from them.

Examples:
  ocipfs image push team/app:1.0 --as ipfs       then `nerdctl run ipfs://<cid>`
  ocipfs image push team/app:1.0 --as ipfs --platform linux/arm64
  ocipfs -q image push team/app:1.0 --as ipfs --estargz
                                                 with layers that stargz-snapshotter mounts")]
pub struct Push {
    /// Reference of an image in this registry, by tag or digest
    reference: String,
    /// Form of the image: `ipfs`, a descriptor whose tree names each blob by its CID
    #[arg(long = "as", value_name = "FORM", required = true, value_parser = PossibleValuesParser::new(["ipfs"]))]
    form: String,
    /// Platforms of a multi-platform image, such as linux/amd64,linux/arm64; its index names no others then [default: all]
    #[arg(long, value_name = "PLATFORM,...", value_delimiter = ',')]
    platform: Vec<Platform>,
    /// Convert the layers to eStargz
    #[arg(long)]
    estargz: bool,
}

impl Convert {
    pub fn request(self) -> ImageRequest {
        let Self { reference, name, estargz, form, profile, registry } = self;
        let profile = profile.map(|profile| profile.as_str().into());
        let options = ImportOptions { name: Some(name), form, compress: None, estargz, profile, registry };
        ImageRequest::Convert { reference, options }
    }
}

impl Push {
    pub fn request(self) -> ImageRequest {
        let Self { reference, platform: platforms, estargz, .. } = self;
        let (name, form) = (None, "descriptor".into());
        let options = ImportOptions { name, form, compress: None, estargz, profile: None, registry: None };
        match platforms.is_empty() {
            true => ImageRequest::Convert { reference, options },
            false => ImageRequest::ConvertPlatforms { reference, platforms, options },
        }
    }
}

/// Prints an image, and its CID last.
pub fn print_pushed(is_quiet: bool, image: &ImageInfo) {
    if !is_quiet {
        outln!("reference  {}", image.reference);
        outln!("digest     {}", image.digest);
        outln!("size       {} bytes", image.size);
    }
    outln!("{}", image.cid);
}
