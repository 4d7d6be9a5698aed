use std::{
    fs::{self, File},
    io::{self, IsTerminal, Read},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use indicatif::HumanBytes;

use super::{Exit, Global, ask_with, output, settings::Size, unexpected};
use crate::{
    control::{
        Attachment, BundleReply, BundleRequest, Destination, Earlier, ExportedBundle, Failure,
        ImportedBundle, MAX_EXPANSION, Reply, Request, RequestedImage, bundle_failure,
    },
    images::{
        bundle::{
            self, Manifest, MissingBlob, WantList,
            import::BundleFile,
            list::{MAX_LIST_BYTES, parse_list, parse_platforms},
        },
        export::{Dest, ExportTarget, PartsDest},
        input::Input,
    },
};

mod compare;

use compare::{Diff, Inspect};

/// A file that is a standard stream.
const STREAM: &str = "-";
/// The largest want-list.
const MAX_WANT_BYTES: u64 = 16 << 20;

/// Carry images with their tags, signatures and other referrers to another network, in one file
#[derive(Debug, Subcommand)]
pub enum Bundle {
    Export(Export),
    Import(Import),
    Inspect(Inspect),
    Diff(Diff),
}

/// Write images with all their signatures, SBOMs and other referrers to a bundle, a CARv1
#[derive(Args, Debug)]
#[command(after_help = "\
Missing blobs are fetched from peers first. A reference may be a pattern: in `team/*:v1.*` each `*` stands for any text;
a pattern without a tag means all tags. --from-list takes a file with one reference to a line, which platforms may follow,
or YAML with `image:` keys: Kubernetes manifests, compose files, the output of `helm template`, lists of Hauler and
oc-mirror. The last line printed is the CID of the bundle, for a later --since.

Examples:
  ocipfs bundle export monday.car team/app:1.0 team/db:2
  ocipfs bundle export tuesday.car 'team/*' --since monday.car
                                                 only what the earlier bundle does not have
  helm template ./chart | ocipfs bundle export release.car --from-list -
  ocipfs bundle export dvd.car 'team/*' --split 4G    dvd.car.001, dvd.car.002, ...
  ocipfs bundle export missing.car --want monday.car.want.json
                                                 what an import on the other side did not find
  ocipfs bundle export - team/app:1.0 | ssh host ocipfs bundle import -")]
pub struct Export {
    /// File to write, which must not exist; or `-` for standard output
    out: String,
    /// References of images in this registry, or patterns
    #[arg(value_name = "REF")]
    references: Vec<String>,
    /// File that lists images; may be given several times
    #[arg(long, value_name = "FILE")]
    from_list: Vec<String>,
    /// Leave out the blobs of an earlier bundle: its file, or its CID where this node exported it; may be given several times
    #[arg(long, value_name = "BUNDLE|CID")]
    since: Vec<String>,
    /// Write parts smaller than this, such as 4G, with numbers behind the name
    #[arg(long, value_name = "SIZE")]
    split: Option<Size>,
    /// Platforms of multi-platform images, such as linux/amd64,linux/arm64 [default: all]
    #[arg(long, value_name = "PLATFORM,...")]
    platform: Option<String>,
    /// Write what an import printed as missing, from its want-list
    #[arg(long, value_name = "FILE")]
    want: Option<String>,
}

/// Import bundles, or all parts of one in any order, into local repositories
#[derive(Args, Debug)]
#[command(after_help = "\
Each block is verified. A tag is set only when all of its image is here, with all referrers that the bundle lists. An
import that was interrupted continues where it was when it is run again. What is missing is printed and written as a
want-list, for `ocipfs bundle export --want` on the other side (exit code 1).

Examples:
  ocipfs bundle import monday.car
  ocipfs bundle import dvd.car.001 dvd.car.002
  ocipfs bundle import - < monday.car")]
pub struct Import {
    /// Bundle, or parts of one; or `-` for standard input
    #[arg(required = true, value_name = "IN")]
    files: Vec<String>,
    /// Move tags that point at other manifests here
    #[arg(long)]
    force: bool,
    /// Import a bundle of another private swarm: its images become visible in the network of this node
    #[arg(long)]
    other_swarm: bool,
    /// Bytes that may be written for each byte of the files, beyond 1 GiB; 0 for no limit
    #[arg(long, value_name = "RATIO", default_value_t = MAX_EXPANSION)]
    max_expansion: u64,
    /// Where the want-list is written if something is missing [default: the first file's name and `.want.json`]
    #[arg(long, value_name = "FILE")]
    want: Option<String>,
}

pub async fn run(global: &Global, command: Bundle) -> Result<(), Exit> {
    match command {
        Bundle::Export(export) => {
            let (request, attachment) = export_request(export)?;
            match ask_with(global, Request::Bundle(request), attachment).await? {
                Reply::Bundle(BundleReply::Exported(exported)) => print_exported(global, &exported),
                _ => Err(unexpected()),
            }
        }
        Bundle::Import(import) => {
            let want = want_path(&import)?;
            let (request, attachment) = import_request(import)?;
            match ask_with(global, Request::Bundle(request), attachment).await? {
                Reply::Bundle(BundleReply::Imported(imported)) => print_imported(global, &imported, &want),
                _ => Err(unexpected()),
            }
        }
        Bundle::Inspect(inspect) => compare::inspect(global, &inspect),
        Bundle::Diff(diff) => compare::diff(global, &diff),
    }
}

fn export_request(export: Export) -> Result<(BundleRequest, Attachment), Exit> {
    let Export { out, references, from_list, since, split, platform, want } = export;
    let platforms = platform.as_deref().map_or(Ok(Vec::new()), parse_platforms).map_err(Failure::new)?;
    let request = |reference: String| RequestedImage {
        reference,
        platforms: platforms.clone(),
        tag: None,
        listed_in: None,
    };
    let mut images: Vec<RequestedImage> = references.into_iter().map(request).collect();
    for list in from_list {
        for image in read_list(&list)? {
            let platforms = if image.platforms.is_empty() { platforms.clone() } else { image.platforms };
            let listed_in = Some(list.clone());
            images.push(RequestedImage { reference: image.reference, platforms, tag: None, listed_in });
        }
    }
    let want = want.map(|path| read_want_list(&path)).transpose()?;
    if images.is_empty() && want.is_none() {
        return Err(Exit::Usage(
            Failure::new("no image is given").hint("give references, --from-list FILE or --want FILE"),
        ));
    }
    let since = since.iter().map(|earlier| read_earlier(earlier)).collect::<Result<_, _>>()?;
    let (dest, place) = destination(&out, split.is_some())?;
    let create = Box::new(move || ExportTarget::create(Dest::Parts(place)));
    let attachment = Attachment::Export(Destination { path: dest.clone(), create });
    let split = split.map(|Size(bytes)| bytes);
    Ok((BundleRequest::Export { images, dest, split, since, want }, attachment))
}

fn destination(out: &str, is_split: bool) -> Result<(PathBuf, PartsDest), Exit> {
    if out != STREAM {
        let path = absolute(out)?;
        let place = if is_split { PartsDest::Numbered(path.clone()) } else { PartsDest::File(path.clone()) };
        return Ok((path, place));
    }
    if is_split {
        let failure = Failure::new("parts cannot be written to the standard output");
        return Err(Exit::Usage(failure.hint("give a file, or leave out --split")));
    }
    if io::stdout().is_terminal() {
        return Err(Failure::new("refusing to write a bundle to a terminal")
            .hint("redirect the standard output, or give a file")
            .into());
    }
    Ok((PathBuf::from(STREAM), PartsDest::Stream(Box::new(io::stdout()))))
}

fn import_request(import: Import) -> Result<(BundleRequest, Attachment), Exit> {
    let Import { files, force, other_swarm, max_expansion, .. } = import;
    if files.iter().filter(|file| *file == STREAM).count() > 1 {
        return Err(Exit::Usage(Failure::new("the standard input can be read only once")));
    }
    let open = |file: &String| {
        let input = open(file)?;
        let size = match &input {
            Input::File(file) => file.metadata().ok().map(|meta| meta.len()),
            Input::Stream(_) => None,
        };
        Ok::<_, Exit>(BundleFile { what: described(file), input, size })
    };
    let files = files.iter().map(open).collect::<Result<_, _>>()?;
    let max_expansion = Some(max_expansion).filter(|ratio| *ratio > 0);
    Ok((BundleRequest::Import { force, other_swarm, max_expansion }, Attachment::Bundles(files)))
}

/// Returns where a want-list is written.
fn want_path(import: &Import) -> Result<PathBuf, Exit> {
    let first = import.files.first().map_or(STREAM, String::as_str);
    match &import.want {
        Some(path) => absolute(path),
        None if first == STREAM => absolute("bundle.want.json"),
        None => absolute(&format!("{first}.want.json")),
    }
}

/// Opens a file, or the standard input.
fn open(file: &str) -> Result<Input, Exit> {
    if file == STREAM {
        return Ok(Input::stream(io::stdin()));
    }
    let opened = File::open(file).and_then(|opened| Ok((opened.metadata()?.is_file(), opened)));
    match opened.map_err(|error| unreadable(file, &error))? {
        (true, file) => Ok(Input::File(file)),
        (false, pipe) => Ok(Input::stream(pipe)),
    }
}

fn described(file: &str) -> String {
    if file == STREAM { "the standard input".into() } else { file.into() }
}

fn unreadable(file: &str, error: &io::Error) -> Failure {
    let (what, why) = (described(file), error.to_string());
    bundle_failure(bundle::Error::Read { what, why })
}

/// Reads the manifest of a bundle, and its CID.
fn read_manifest(file: &str) -> Result<(String, Manifest), Exit> {
    let (root, manifest) = bundle::read_manifest(open(file)?, &described(file)).map_err(bundle_failure)?;
    Ok((root.to_string(), manifest))
}

fn read_text(file: &str, limit: u64) -> Result<String, Exit> {
    let mut text = String::new();
    let read = open(file)?.take(limit + 1).read_to_string(&mut text);
    read.map_err(|error| unreadable(file, &error))?;
    match text.len() as u64 > limit {
        true => {
            Err(Failure::new(format!("{} is too large: the limit is {limit} bytes", described(file))).into())
        }
        false => Ok(text),
    }
}

fn read_list(file: &str) -> Result<Vec<bundle::list::ListedImage>, Exit> {
    let text = read_text(file, MAX_LIST_BYTES)?;
    let images = parse_list(&text).map_err(|why| Failure::new(format!("{}: {why}", described(file))))?;
    match images.is_empty() {
        true => Err(Failure::new(format!("{} lists no image", described(file)))
            .hint("a list has one reference to a line; YAML has `image:` keys")
            .into()),
        false => Ok(images),
    }
}

fn read_want_list(file: &str) -> Result<WantList, Exit> {
    let text = read_text(file, MAX_WANT_BYTES)?;
    let list = WantList::parse(text.as_bytes());
    Ok(list.map_err(|why| {
        Failure::new(format!("{} is not a want-list: {why}", described(file)))
            .hint("`ocipfs bundle import` writes one if something is missing")
    })?)
}

/// Takes the file of an earlier bundle, or its CID.
fn read_earlier(earlier: &str) -> Result<Earlier, Exit> {
    if !Path::new(earlier).exists() && ocipfs_node::Cid::try_from(earlier).is_ok() {
        return Ok(Earlier::Exported(earlier.into()));
    }
    let (bundle, manifest) = read_manifest(earlier)?;
    Ok(Earlier::Read { bundle, blobs: manifest.blobs.into_iter().map(|blob| blob.digest).collect() })
}

fn print_exported(global: &Global, exported: &ExportedBundle) -> Result<(), Exit> {
    // The standard output has the bundle.
    if exported.dest.as_os_str() == STREAM {
        return Ok(());
    }
    output::print(global, exported, &exported.bundle, || {
        for image in &exported.images {
            outln!("{}  {}  {} referrers", image.reference, image.digest, image.referrers);
        }
        let ExportedBundle { dest, parts, bytes, blobs, left_out, .. } = exported;
        outln!("{}: {} in {parts} parts", dest.display(), HumanBytes(*bytes));
        outln!("{blobs} blobs, {left_out} left out");
    })
}

fn print_imported(global: &Global, imported: &ImportedBundle, want: &Path) -> Result<(), Exit> {
    let ImportedBundle { images, missing, missing_blobs, conflicts, problems, withheld, .. } = imported;
    let written = missing.as_ref().map(|missing| write_want_list(missing, want)).transpose()?;
    output::print_all(global, imported, || {
        if !global.quiet {
            problems.iter().for_each(|problem| eprintln!("warning: {}", output::printable(problem)));
            conflicts.iter().for_each(|conflict| eprintln!("warning: {}", output::printable(conflict)));
            withheld.iter().for_each(|image| eprintln!("warning: {}", output::printable(image)));
            for image in missing.iter().flat_map(|missing| &missing.images) {
                outln!("incomplete  {}  {}", image.reference(), known_missing(image.missing));
            }
            for MissingBlob { digest, size, what } in missing_blobs {
                let size = if *size > 0 { format!(", {}", HumanBytes(*size)) } else { String::new() };
                outln!("missing     {digest}  {}{size}", output::printable(what));
            }
        }
        images.iter().for_each(|image| outln!("{}", image.reference));
    })?;
    match (missing, written) {
        (Some(missing), Some(written)) => {
            let (count, blobs, bytes) =
                (missing.images.len(), missing.blobs.len(), HumanBytes(missing.bytes));
            let all = count + images.len();
            let are = if blobs == 1 { "blob" } else { "blobs" };
            let text = format!("{count} of {all} images incomplete: {blobs} {are} ({bytes}) missing");
            Err(Failure::new(text)
                .hint(format!("on the other side: `ocipfs bundle export OUT --want {written}`"))
                .into())
        }
        _ if !conflicts.is_empty() => {
            Err(Failure::new(format!("{} images were not imported", conflicts.len()))
                .hint("--force moves the tags")
                .into())
        }
        _ => Ok(()),
    }
}

/// Says how much of an image is known to be missing: what a manifest needs is not known before it is here.
fn known_missing(blobs: usize) -> String {
    match blobs {
        1 => "1 blob is known to be missing".into(),
        _ => format!("{blobs} blobs are known to be missing"),
    }
}

fn write_want_list(missing: &WantList, path: &Path) -> Result<String, Exit> {
    let mut json = serde_json::to_vec_pretty(missing).map_err(Failure::new)?;
    json.push(b'\n');
    fs::write(path, json).map_err(|error| {
        Failure::new(format!("cannot write the want-list {}: {error}", path.display()))
            .hint("give another place with --want FILE, and import again")
    })?;
    Ok(path.display().to_string())
}

/// Results show where a file is, wherever the command was typed.
fn absolute(path: &str) -> Result<PathBuf, Exit> {
    Ok(std::path::absolute(path).map_err(|e| Failure::new(format!("invalid path {path:?}: {e}")))?)
}
