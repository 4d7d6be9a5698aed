//! The options of `add`, with Kubo's defaults: they decide the CIDs, and no setting of this node does.

use crate::{
    content::{Chunker, DagOptions, DirectorySize, FileOptions, Metadata, hash_function},
    rpc::{args::Args, error::Error},
};

/// Links of an inner node of a file.
const DEFAULT_LINKS: usize = 174;
const LINKS: std::ops::RangeInclusive<usize> = 2..=8192;
/// Bytes of a block that its CID carries.
const DEFAULT_INLINE_BYTES: usize = 32;
const MAX_INLINE_BYTES: usize = 64;
const DEFAULT_HASH: &str = "sha2-256";
/// Options that would change what is stored, and why each is not supported.
const UNSUPPORTED: [(&str, &str); 3] = [
    ("nocopy", "files are copied into the store, which verifies them"),
    ("to-files", "there is no MFS"),
    ("max-directory-links", "directories are sharded by their size alone"),
];

/// Options of `add`.
#[derive(Clone, Debug)]
pub struct AddOptions {
    /// How the DAGs are made.
    pub file: FileOptions,
    /// Compute CIDs, and store nothing.
    pub only_hash: bool,
    /// Put everything into one directory.
    pub wraps: bool,
    /// Add directories without entries.
    pub empty_dirs: bool,
    /// Tell how much of a file came.
    pub progress: bool,
    /// Pin the roots.
    pub pins: bool,
    /// The name of the pins.
    pub pin_name: String,
    /// Mode and time of all that is added.
    metadata: Metadata,
    /// Whether files keep their own mode, and their own time.
    preserve_mode: bool,
    preserve_mtime: bool,
}

impl AddOptions {
    /// Reads the options.
    pub fn parse(args: &Args) -> Result<Self, Error> {
        let is_given = |(name, _): &&(&str, &str)| !matches!(args.text(name), None | Some("false" | "0"));
        if let Some((name, why)) = UNSUPPORTED.iter().find(is_given) {
            return Err(Error::client(format!("the option {name:?} is not supported: {why}")));
        }
        let chunker: Chunker = args.text("chunker").unwrap_or_default().parse().map_err(Error::client)?;
        let (metadata, preserve_mode) = (metadata(args)?, args.is_set("preserve-mode")?);
        let preserve_mtime = args.is_set("preserve-mtime")?;
        let has_metadata = preserve_mode || preserve_mtime || !metadata.is_empty();
        if has_metadata && args.is_set("raw-leaves")? {
            let why = "raw-leaves can't be used with UnixFS metadata like mode or modification time";
            return Err(Error::failed(why));
        }
        Ok(Self {
            file: FileOptions { chunker, dag: dag_options(args, has_metadata)? },
            metadata,
            preserve_mode,
            preserve_mtime,
            only_hash: args.is_set("only-hash")?,
            wraps: args.is_set("wrap-with-directory")?,
            empty_dirs: args.flag("empty-dirs")?.unwrap_or(true),
            progress: args.is_set("progress")?,
            pins: args.flag("pin")?.unwrap_or(true),
            pin_name: args.text("pin-name").unwrap_or_default().chars().take(255).collect(),
        })
    }
}

impl AddOptions {
    /// Returns the mode and the time that a file gets whose own ones are these.
    pub fn metadata(&self, own: Metadata) -> Metadata {
        Metadata {
            mode: self.metadata.mode.or(own.mode.filter(|_| self.preserve_mode)),
            mtime: if self.preserve_mtime { own.mtime } else { self.metadata.mtime },
        }
    }
}

/// Reads mode and time for all that is added; zero is none.
fn metadata(args: &Args) -> Result<Metadata, Error> {
    let nanos = args.option::<u32>("mtime-nsecs")?.filter(|nanos| *nanos > 0);
    let mtime = args.option::<i64>("mtime")?.filter(|seconds| *seconds != 0);
    if let (Some(_), None) = (nanos, mtime) {
        return Err(Error::failed("option \"mtime-nsecs\" requires \"mtime\" to be provided as well"));
    }
    if nanos.is_some_and(|nanos| nanos >= 1_000_000_000) {
        return Err(Error::client("mtime-nsecs: a second has 1,000,000,000 nanoseconds"));
    }
    let mode =
        args.text("mode").map(|text| parse_mode(text).ok_or_else(|| invalid_mode(text))).transpose()?;
    let mode = mode.filter(|mode| *mode != 0).map(permissions);
    Ok(Metadata { mode, mtime: mtime.map(|seconds| (seconds, nanos.unwrap_or_default())) })
}

fn invalid_mode(text: &str) -> Error {
    Error::request(format!("invalid value {text:?} of option \"mode\""))
}

/// Reads a number as Go does: octal behind a zero.
fn parse_mode(text: &str) -> Option<u32> {
    match text.strip_prefix("0o").or_else(|| text.strip_prefix('0')) {
        Some(octal) if !octal.is_empty() => u32::from_str_radix(octal, 8).ok(),
        _ => text.parse().ok(),
    }
}

/// Returns the permissions of a mode in Go's notation, with the setuid, setgid and sticky bits where Unix has them.
pub fn permissions(mode: u32) -> u32 {
    (mode & 0x00c0_0000) >> 12 | (mode & 0x0010_0000) >> 11 | mode & 0x1ff
}

fn dag_options(args: &Args, has_metadata: bool) -> Result<DagOptions, Error> {
    let hash_name = args.text("hash").unwrap_or(DEFAULT_HASH);
    let hash = hash_function(hash_name)
        .ok_or_else(|| Error::client(format!("unrecognized hash function: {hash_name:?}")))?;
    let is_default_hash = hash_name == DEFAULT_HASH;
    let cid_v0 = match args.option::<u64>("cid-version")? {
        None => is_default_hash,
        Some(0) if is_default_hash => true,
        Some(0) => return Err(Error::client("CIDv0 only supports sha2-256")),
        Some(1) => false,
        Some(version) => return Err(Error::client(format!("unknown CID version: {version}"))),
    };
    let max_links = args.option("max-file-links")?.unwrap_or(DEFAULT_LINKS);
    if !LINKS.contains(&max_links) {
        return Err(Error::client(format!("invalid max-file-links: expected {LINKS:?}")));
    }
    let inline = args.option("inline-limit")?.unwrap_or(DEFAULT_INLINE_BYTES);
    let inlines = args.is_set("inline")?;
    if inlines && inline > MAX_INLINE_BYTES {
        return Err(Error::client(format!("inline-limit is too large: at most {MAX_INLINE_BYTES}")));
    }
    if !matches!(args.option::<u64>("max-hamt-fanout")?, None | Some(0 | 256)) {
        return Err(Error::client("max-hamt-fanout: only 256 is supported"));
    }
    // Of a raw block nothing else can be said.
    let raw_leaves = !has_metadata && args.flag("raw-leaves")?.unwrap_or(!cid_v0);
    let trickle = args.is_set("trickle")?;
    if trickle && !raw_leaves {
        // The store knows one form of leaves that are not raw: that of balanced trees.
        return Err(Error::client("trickle needs raw-leaves=true, or cid-version=1"));
    }
    Ok(DagOptions {
        cid_v0,
        hash,
        raw_leaves,
        trickle,
        max_links,
        inline: inlines.then_some(inline),
        directory_size: DirectorySize::Links,
        metadata: Metadata::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Result<AddOptions, Error> {
        AddOptions::parse(&Args::parse(query))
    }

    #[test]
    fn add_has_the_defaults_of_kubo() {
        let options = parse("").unwrap();
        let dag = options.file.dag;
        assert!(dag.cid_v0 && !dag.raw_leaves && dag.inline.is_none() && dag.max_links == 174);
        assert_eq!(options.file.chunker, Chunker::Size(262_144));
        assert!(options.pins && !options.wraps && !options.only_hash && !options.progress);
        for (query, cid_v0, raw_leaves) in [
            ("cid-version=1", false, true),
            ("cid-version=1&raw-leaves=false", false, false),
            ("raw-leaves=true", true, true),
            ("hash=blake3", false, true),
            ("hash=sha2-256", true, false),
        ] {
            let dag = parse(query).unwrap().file.dag;
            assert_eq!((dag.cid_v0, dag.raw_leaves), (cid_v0, raw_leaves), "{query}");
        }
        assert_eq!(parse("inline=true").unwrap().file.dag.inline, Some(32));
    }

    #[test]
    fn an_unsupported_or_invalid_option_of_add_is_refused() {
        for query in [
            "trickle=true",
            "nocopy=1",
            "mode=x",
            "mode=0644&raw-leaves=true",
            "mtime-nsecs=5",
            "cid-version=2",
            "cid-version=0&hash=blake3",
            "hash=md5",
            "chunker=rabin-1-2-3",
            "chunker=size-0",
            "inline=true&inline-limit=128",
            "max-file-links=1",
            "max-hamt-fanout=16",
            "pin=maybe",
        ] {
            assert!(parse(query).is_err(), "{query}");
        }
        assert!(parse("trickle=false&nocopy=false&fscache=true").is_ok());
        assert!(parse("trickle=true&cid-version=1").unwrap().file.dag.trickle);
        let given = parse("mode=0644&mtime=-5&mtime-nsecs=7&cid-version=1").unwrap();
        assert!(!given.file.dag.raw_leaves);
        let own = Metadata { mode: Some(0o700), mtime: Some((1, 2)) };
        assert_eq!(given.metadata(own), Metadata { mode: Some(0o644), mtime: Some((-5, 7)) });
        assert_eq!(
            parse("preserve-mode=true").unwrap().metadata(own),
            Metadata { mode: own.mode, mtime: None }
        );
        assert_eq!((parse_mode("420"), permissions(0o644 | 1 << 23 | 1 << 20)), (Some(0o644), 0o5644));
    }
}
