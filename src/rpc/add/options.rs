//! The options of `add`, with Kubo's defaults: they decide the CIDs, and no setting of this node does.

use crate::{
    content::{Chunker, DagOptions, DirectorySize, FileOptions, hash_function},
    rpc::{args::Args, error::Error},
};

/// Links of an inner node of a file.
const DEFAULT_LINKS: usize = 174;
const LINKS: std::ops::RangeInclusive<usize> = 2..=8192;
/// Bytes of a block that its CID carries.
const DEFAULT_INLINE_BYTES: usize = 32;
const MAX_INLINE_BYTES: usize = 64;
const DEFAULT_HASH: &str = "sha2-256";
/// Options that would change what is stored, and are not supported.
const UNSUPPORTED: [&str; 8] = [
    "trickle",
    "nocopy",
    "to-files",
    "preserve-mode",
    "preserve-mtime",
    "mode",
    "mtime",
    "max-directory-links",
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
    /// Tell how much of a file came.
    pub progress: bool,
    /// Pin the roots.
    pub pins: bool,
    /// The name of the pins.
    pub pin_name: String,
}

impl AddOptions {
    /// Reads the options.
    pub fn parse(args: &Args) -> Result<Self, Error> {
        if let Some(name) =
            UNSUPPORTED.iter().find(|name| !matches!(args.text(name), None | Some("false" | "0")))
        {
            return Err(Error::client(format!("the option {name:?} is not supported")));
        }
        let chunker: Chunker = args.text("chunker").unwrap_or_default().parse().map_err(Error::client)?;
        Ok(Self {
            file: FileOptions { chunker, dag: dag_options(args)? },
            only_hash: args.is_set("only-hash")?,
            wraps: args.is_set("wrap-with-directory")?,
            progress: args.is_set("progress")?,
            pins: args.flag("pin")?.unwrap_or(true),
            pin_name: args.text("pin-name").unwrap_or_default().chars().take(255).collect(),
        })
    }
}

fn dag_options(args: &Args) -> Result<DagOptions, Error> {
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
    Ok(DagOptions {
        cid_v0,
        hash,
        raw_leaves: args.flag("raw-leaves")?.unwrap_or(!cid_v0),
        max_links,
        inline: inlines.then_some(inline),
        directory_size: DirectorySize::Links,
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
            "mode=0644",
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
        assert!(parse("trickle=false&nocopy=false").is_ok());
    }
}
