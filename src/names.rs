//! Resolves a repository name and a reference, follows IPNS names, publishes under one, and receives pushes. This file
//! parses a repository name into its kind:
//!
//! | name | means |
//! |---|---|
//! | `layer/<cid>[:file]` | the image of one layer, by the CID of its layer manifest |
//! | `ipfs/<cid>[/<dir>...][:tag]` | an image of the OCI image layout that is in this directory |
//! | `ipfs/<cid>[:latest]` | the image whose descriptor is this file, and whose blobs are at `ipfs://` urls |
//! | `ipns/<k51... or domain>[/<dir>...][:tag]` | the same below what an IPNS name or a DNSLink means now |
//! | `<ciq... or 1220...>/<name>[:latest]` | an image of image2ipfs, by its CIDv0 in base32 or hex |
//! | `<anything else>[:tag]` | a repository: pushed here, or found at followed names |
//!
//! ```text
//! hosted, among_peers ─► follow (followed names) ─► resolve (one file for each kind of name)
//! publish (pushed repositories, under a name of this node)
//! ```

mod among_peers;
mod follow;
mod hosted;
mod image_tree;
pub mod publish;
pub mod push;
mod resolve;
mod signed;

use std::sync::Arc;

use ocipfs_node::{Cid, MutableName, long_inline_text};
use ocipfs_oci::{Digest, Name, Reference, Tag};

use crate::{
    content::{self, CidPath, Content, StoreError},
    images::{
        descriptor::BlobLocations,
        layout::{Layouts, Referrers},
        repository::Repositories,
    },
    signatures::PolicySource,
};
use followed::Followed;
use hosted::HostedRepository;
use resolve::{
    digests::DigestSearches,
    dockerized::{self, Dockerized},
    ipns_repository::IpnsRepository,
    layer, layout,
};
use signed::Admitted;

pub use follow::{Prefetch, followed, prefetch};
pub use image_tree::{ImageTree, TreeError, TreeOptions};
pub use resolve::{BlobSource, Document, Error, ipns};
pub use signed::Asked;

/// Codecs of CIDs in names.
const RAW: u64 = 0x55;
const DAG_PB: u64 = 0x70;
const LIBP2P_KEY: u64 = 0x72;
/// Entries of an OCI image layout, reserved in repository names.
const RESERVED: [&str; 3] = ["blobs", "index.json", "oci-layout"];

/// A repository name, classified by its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameKind {
    /// The image of one layer.
    Layer {
        /// The name itself.
        name: Name,
        /// The CID of its layer manifest.
        cid: Cid,
    },
    /// Content below a CID and a path: an image layout, or the descriptor of an image.
    Ipfs {
        /// The name itself.
        name: Name,
        /// The directory or file.
        at: CidPath,
    },
    /// Content below an IPNS name or a domain: an image layout, or the descriptor of an image.
    Ipns {
        /// The name itself.
        name: Name,
        /// The key or the domain.
        key: MutableName,
        /// The path below what that means.
        below: String,
    },
    /// An image of image2ipfs.
    Dockerized {
        /// The name itself.
        name: Name,
        /// The directory with `manifests` and `blobs`.
        at: CidPath,
    },
    /// A repository that was pushed here, or of a followed name.
    Hosted {
        /// The name itself.
        name: Name,
    },
}

/// Resolves names to images, and caches parsed layouts. Clones share the cache.
#[derive(Clone)]
pub struct Resolver {
    content: Content,
    repositories: Repositories,
    layouts: Layouts,
    locations: Arc<BlobLocations>,
    targets: Arc<ipns::Targets>,
    digests: DigestSearches,
    followed: Followed,
    policies: PolicySource,
    admitted: Admitted,
}

impl Resolver {
    /// Creates a resolver with an empty cache.
    pub fn new(content: Content, repositories: Repositories, followed: Followed) -> Self {
        let shares = content.memory().shares();
        let layouts = Layouts::new(shares.layouts);
        let (locations, targets) = (Arc::new(BlobLocations::new(shares.places)), Arc::default());
        let digests = DigestSearches::default();
        let (policies, admitted) = Default::default();
        Self { content, repositories, layouts, locations, targets, digests, followed, policies, admitted }
    }

    /// Has content signed as these policies say.
    pub fn with_policies(self, policies: PolicySource) -> Self {
        Self { policies, ..self }
    }

    /// Returns where the signature policies are.
    pub fn policies(&self) -> &PolicySource {
        &self.policies
    }

    /// Returns the pushed repositories.
    pub fn repositories(&self) -> &Repositories {
        &self.repositories
    }

    /// Returns the followed names.
    pub fn followed(&self) -> &Followed {
        &self.followed
    }

    /// Returns the content.
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// Reads or changes the pushed repositories, on a thread that may block.
    async fn on_repositories<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Repositories) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, content::Error> {
        let repositories = self.repositories.clone();
        Ok(self.content.store().run(move |_| work(&repositories)).await?)
    }

    /// Whether the last lookup of a name failed, so that its last known value is used.
    pub fn is_stale(&self, kind: &NameKind) -> bool {
        match kind {
            NameKind::Ipns { key, below, .. } => self.targets.is_stale(key, below),
            NameKind::Hosted { name } => self.followed.is_stale(name),
            NameKind::Layer { .. } | NameKind::Ipfs { .. } | NameKind::Dockerized { .. } => false,
        }
    }
}

impl NameKind {
    /// Parses a repository name.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let name: Name = text.parse().map_err(|error| other_base(text).unwrap_or(Error::Syntax(error)))?;
        let components: Vec<&str> = name.components().collect();
        match components.as_slice() {
            ["layer"] => Err(Error::Unfinished { name, instead: "layer/<cid>" }),
            ["layer", cid] => {
                let cid = parse_cid(&name, cid)?;
                Ok(Self::Layer { name, cid })
            }
            ["ipfs"] => Err(Error::Unfinished { name, instead: "ipfs/<cid>[/<dir>...]" }),
            ["ipfs", cid, names @ ..] => {
                let at = unixfs_path(&name, cid, names)?;
                Ok(NameKind::Ipfs { name, at })
            }
            ["ipns"] => Err(Error::Unfinished { name, instead: "ipns/<k51... or domain>[/<dir>...]" }),
            ["ipns", key, names @ ..] => {
                let key = key.parse().map_err(|why| Error::NoIpnsName { name: name.clone(), why })?;
                let below = names.join("/");
                Ok(Self::Ipns { name, key, below })
            }
            [hash, names @ ..] => match dockerized::parse(hash) {
                Some(cid) => {
                    let cid = cid.map_err(|why| no_cid(&name, hash, why))?;
                    let at = path_below(&name, cid, names)?;
                    match names.is_empty() {
                        true => Err(Error::Unfinished { name, instead: "<ciq... or 1220...>/<name>" }),
                        false => Ok(Self::Dockerized { name, at }),
                    }
                }
                None => local(name),
            },
            [] => Err(Error::UnknownName(name)),
        }
    }

    /// Returns the manifest of a reference.
    pub async fn manifest(&self, resolver: &Resolver, reference: &Reference) -> Result<Document, Error> {
        match self {
            Self::Layer { name, cid } => {
                layer::open(&resolver.content, name, *cid).await?.manifest(reference)
            }
            Self::Ipfs { name, at } => layout::open(resolver, name, at).await?.manifest(reference).await,
            Self::Ipns { name, key, below } => {
                IpnsRepository { resolver, name, key, below }.manifest(reference).await
            }
            Self::Dockerized { name, at } => {
                Dockerized { content: &resolver.content, name, at }.manifest(reference).await
            }
            Self::Hosted { name } => HostedRepository { resolver, name }.manifest(reference).await,
        }
    }

    /// Returns where a blob is: its bytes, or a CID and a path for [`Content::open_ranges`]. At most the blocks
    /// on the way to it and its root block are fetched: that one knows its size.
    pub async fn locate_blob(&self, resolver: &Resolver, digest: &Digest) -> Result<BlobSource, Error> {
        match self {
            Self::Layer { name, cid } => layer::open(&resolver.content, name, *cid).await?.blob(digest),
            Self::Ipfs { name, at } => layout::open(resolver, name, at).await?.blob(digest).await,
            Self::Ipns { name, key, below } => {
                IpnsRepository { resolver, name, key, below }.blob(digest).await
            }
            Self::Dockerized { name, at } => {
                Dockerized { content: &resolver.content, name, at }.blob(digest).await
            }
            Self::Hosted { name } => HostedRepository { resolver, name }.blob(digest).await,
        }
    }

    /// Returns the tags after `last`, sorted, at most `most`.
    pub async fn tags_after(&self, resolver: &Resolver, last: &str, most: usize) -> Result<Vec<Tag>, Error> {
        if let Self::Hosted { name } = self {
            return HostedRepository { resolver, name }.tags(last, most).await;
        }
        let tags = self.tags(resolver).await?;
        Ok(tags.into_iter().filter(|tag| tag.as_str() > last).take(most).collect())
    }

    /// Returns the tags, sorted.
    pub async fn tags(&self, resolver: &Resolver) -> Result<Vec<Tag>, Error> {
        match self {
            Self::Layer { name, cid } => Ok(layer::open(&resolver.content, name, *cid).await?.tags()),
            Self::Ipfs { name, at } => layout::open(resolver, name, at).await?.tags().await,
            Self::Ipns { name, key, below } => IpnsRepository { resolver, name, key, below }.tags().await,
            Self::Dockerized { name, at } => Dockerized { content: &resolver.content, name, at }.tags().await,
            Self::Hosted { name } => HostedRepository { resolver, name }.tags("", usize::MAX).await,
        }
    }

    /// Returns the referrers of a manifest after `last`.
    pub async fn referrers(
        &self,
        resolver: &Resolver,
        subject: &Digest,
        last: &str,
    ) -> Result<Referrers, Error> {
        match self {
            Self::Ipfs { name, at } => layout::open(resolver, name, at).await?.referrers(subject, last).await,
            Self::Ipns { name, key, below } => {
                IpnsRepository { resolver, name, key, below }.referrers(subject, last).await
            }
            Self::Hosted { name } => HostedRepository { resolver, name }.referrers(subject, last).await,
            Self::Layer { .. } | Self::Dockerized { .. } => Ok(Referrers::default()),
        }
    }

    /// Returns the parsed name.
    pub fn name(&self) -> &Name {
        match self {
            Self::Layer { name, .. }
            | Self::Ipfs { name, .. }
            | Self::Ipns { name, .. }
            | Self::Dockerized { name, .. }
            | Self::Hosted { name } => name,
        }
    }
}

/// Returns the error for a CID, key or domain in upper case, with the same in lower case.
fn other_base(text: &str) -> Option<Error> {
    let has_capitals = |component: &&str| component.contains(|c: char| c.is_ascii_uppercase());
    if let Some(key) = text.strip_prefix("ipns/") {
        let given = key.split('/').next().filter(has_capitals)?;
        let instead = given.parse::<MutableName>().ok()?.to_string();
        return Some(Error::UpperCase { given: given.into(), instead });
    }
    text.split('/').filter(has_capitals).find_map(|component| {
        let cid = Cid::try_from(component).ok()?;
        let (given, instead) = (component.into(), Cid::new_v1(cid.codec(), *cid.hash()));
        Some(match component.starts_with("Qm") {
            true => Error::CidV0 { given, instead },
            false => Error::UpperCase { given, instead: instead.to_string() },
        })
    })
}

/// Parses the name of a hosted repository.
fn local(name: Name) -> Result<NameKind, Error> {
    if let Some(instead) = misplaced(&name) {
        return Err(Error::Misplaced { name, instead });
    }
    let reserved = name.components().skip(1).find(|component| RESERVED.contains(component)).map(String::from);
    match reserved {
        Some(component) => Err(Error::Reserved { component, name }),
        None => Ok(NameKind::Hosted { name }),
    }
}

/// Returns the intended name if a prefix is missing (`ipfs/`, `ipns/`) or `layer/<cid>` has more components.
fn misplaced(name: &Name) -> Option<String> {
    let (first, rest) = name.as_str().split_once('/').unwrap_or((name.as_str(), ""));
    match (first, Cid::try_from(first)) {
        ("layer", _) => rest.split_once('/').map(|(cid, _)| format!("layer/{cid}")),
        (_, Ok(cid)) if cid.codec() == LIBP2P_KEY => Some(format!("ipns/{name}")),
        (_, Ok(_)) if rest.is_empty() => Some(format!("ipfs/{name} or layer/{name}")),
        (_, Ok(_)) => Some(format!("ipfs/{name}")),
        (_, Err(_)) => None,
    }
}

fn no_cid(name: &Name, component: &str, why: String) -> Error {
    Error::NoCid { name: name.to_string(), found: component.into(), why }
}

fn parse_cid(name: &Name, component: &str) -> Result<Cid, Error> {
    Cid::try_from(component).map_err(|e| {
        let why = match component.contains('.') {
            _ if !matches!(long_inline_text(component), Ok(None)) => {
                "it carries its bytes, of which at most 64 are allowed in such a name".into()
            }
            true => format!("{e}; for a domain, use ipns/{component}"),
            false => format!("{e}; expected a CIDv1 in lower case, bafy... or bafk..."),
        };
        no_cid(name, component, why)
    })
}

/// Parses a CID that a file or a directory can have.
fn unixfs_cid(name: &Name, component: &str) -> Result<Cid, Error> {
    let cid = parse_cid(name, component)?;
    match cid.codec() {
        RAW | DAG_PB => Ok(cid),
        LIBP2P_KEY => {
            let why = format!("it is an IPNS key: use ipns/{component}");
            Err(no_cid(name, component, why))
        }
        codec => Err(no_cid(name, component, format!("codec 0x{codec:x} is not a file or directory"))),
    }
}

/// Parses a path that begins with a CID, which may carry its block itself.
fn unixfs_path(name: &Name, component: &str, names: &[&str]) -> Result<CidPath, Error> {
    match long_inline_text(component) {
        Ok(Some(_)) => path_below(name, component, names),
        Ok(None) => path_below(name, unixfs_cid(name, component)?, names),
        Err(too_long) => Err(no_cid(name, component, too_long.to_string())),
    }
}

fn path_below(name: &Name, root: impl ToString, names: &[&str]) -> Result<CidPath, Error> {
    let text = std::iter::once(root.to_string()).chain(names.iter().map(ToString::to_string));
    let text: Vec<String> = text.collect();
    text.join("/").parse().map_err(|why| Error::Path { name: name.clone(), why })
}

#[cfg(test)]
mod tests;
