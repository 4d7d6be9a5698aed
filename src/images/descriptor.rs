//! Images whose descriptors say where in IPFS each blob is (`urls: ["ipfs://<cid>"]`), as nerdctl and stargz make them.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use ocipfs_oci::{Descriptor, Digest, MediaType, media_type};
use serde::Deserialize;

use super::{
    Document, Error,
    cache::Cache,
    outline::{self, Link, Urls},
};
use crate::content::{Blob, CidPath, Content, Stat};

/// Maximum size of a descriptor file.
const MAX_DESCRIPTOR: u64 = 64 << 10;
/// Bytes of a location besides its texts, with its keys and the nodes of the maps.
const PLACE_BYTES: usize = 384;
/// Documents that are read to find one digest, and how deep.
const MAX_DOCUMENTS: usize = 1000;
const MAX_DEPTH: usize = 8;

/// Where blobs are, by the descriptor file of their image and their digest.
pub struct BlobLocations(Cache<(CidPath, Digest), Arc<BlobLocation>>);

impl BlobLocations {
    /// Holds locations of about so many bytes.
    pub fn new(bytes: u64) -> Self {
        Self(Cache::new(usize::try_from(bytes).unwrap_or(usize::MAX)))
    }
}

/// Location of a blob as its descriptor gives it.
struct BlobLocation {
    media_type: MediaType,
    size: u64,
    urls: Urls,
}

impl BlobLocation {
    fn leads_on(&self) -> bool {
        self.media_type.is_index() || self.media_type.is_manifest()
    }

    /// About as many bytes as it has in memory.
    fn weight(&self) -> usize {
        let names = self.urls.at.iter().flat_map(CidPath::names);
        PLACE_BYTES + names.chain(&self.urls.told).map(String::len).sum::<usize>()
    }
}

impl From<Link> for BlobLocation {
    fn from(Link { media_type, size, urls, .. }: Link) -> Self {
        Self { media_type, size, urls }
    }
}

impl From<&Descriptor> for BlobLocation {
    fn from(descriptor: &Descriptor) -> Self {
        let mut urls = Urls::default();
        descriptor.urls.iter().for_each(|url| urls.add(url));
        Self { media_type: descriptor.media_type.clone(), size: descriptor.size, urls }
    }
}

/// An image that one descriptor stands for.
pub struct DescriptorImage<'a> {
    content: &'a Content,
    locations: &'a BlobLocations,
    /// The file that holds the descriptor.
    at: CidPath,
    root: Descriptor,
}

impl<'a> DescriptorImage<'a> {
    /// Reads the descriptor in the file `at`.
    pub async fn open(
        content: &'a Content,
        locations: &'a BlobLocations,
        at: &CidPath,
        file: &Stat,
    ) -> Result<Self, Error> {
        let refused = |why: String| Error::NoDescriptor { at: at.clone(), why };
        if file.size > MAX_DESCRIPTOR {
            let why = format!("too large for a descriptor: {} bytes, limit {MAX_DESCRIPTOR}", file.size);
            return Err(refused(why));
        }
        let bytes = content.read(at, MAX_DESCRIPTOR).await?;
        let root = parse(&bytes, at.root()).map_err(refused)?;
        Ok(Self { content, locations, at: at.clone(), root })
    }

    /// The digest of the manifest or index at the top.
    pub fn digest(&self) -> &Digest {
        &self.root.digest
    }

    /// A manifest or index of the image.
    pub async fn document(&self, digest: &Digest) -> Result<Option<Document>, Error> {
        let Some(location) = self.find(digest).await?.filter(|location| location.leads_on()) else {
            return Ok(None);
        };
        let document = self.read(digest, &location).await?;
        // What is asked for next is known then.
        self.children(&document)?;
        Ok(Some(document))
    }

    /// A blob of the image.
    pub async fn blob(&self, digest: &Digest) -> Result<Option<Blob>, Error> {
        let location = self.find(digest).await?;
        location.map(|location| self.blob_at(digest, &location)).transpose()
    }

    fn blob_at(&self, digest: &Digest, location: &BlobLocation) -> Result<Blob, Error> {
        let digest = digest.clone();
        let Some(at) = location.urls.at.clone() else {
            let (media_type, urls) = (location.media_type.clone(), location.urls.told.clone());
            return Err(Error::Elsewhere { digest, media_type, urls });
        };
        Ok(Blob { digest, size: location.size, at, gc_root: Some(*self.at.root()) })
    }

    async fn read(&self, digest: &Digest, location: &BlobLocation) -> Result<Document, Error> {
        let blob = self.blob_at(digest, location)?;
        Document::read(self.content, &blob, Some(&location.media_type)).await
    }

    /// Where a digest is, as was seen before, or by reading the tree from its top.
    async fn find(&self, digest: &Digest) -> Result<Option<Arc<BlobLocation>>, Error> {
        if let Some(location) = self.locations.0.get(&(self.at.clone(), digest.clone())) {
            return Ok(Some(location));
        }
        let root = self.remember(&self.root.digest, BlobLocation::from(&self.root));
        if *digest == self.root.digest {
            return Ok(Some(root));
        }
        let mut seen = HashSet::from([self.root.digest.clone()]);
        let mut unread = VecDeque::from([(self.root.digest.clone(), root, 0)]);
        let mut failed = None;
        while let Some((next, location, depth)) = unread.pop_front() {
            let children =
                match self.read(&next, &location).await.and_then(|document| self.children(&document)) {
                    Ok(children) => children,
                    // What has no address leads nowhere; any other may be what stands before the digest.
                    Err(Error::Elsewhere { .. }) => continue,
                    Err(error) => {
                        failed.get_or_insert(error);
                        continue;
                    }
                };
            if let Some((_, location)) = children.iter().find(|(child, _)| child == digest) {
                return Ok(Some(location.clone()));
            }
            let deeper =
                children.into_iter().filter(|(_, location)| location.leads_on() && depth < MAX_DEPTH);
            for (child, location) in deeper {
                if seen.len() < MAX_DOCUMENTS && seen.insert(child.clone()) {
                    unread.push_back((child, location, depth + 1));
                }
            }
        }
        failed.map_or(Ok(None), Err)
    }

    /// Returns the blobs that a document links to, and remembers their locations.
    fn children(&self, document: &Document) -> Result<Vec<(Digest, Arc<BlobLocation>)>, Error> {
        let links = match document.media_type.is_index() {
            true => outline::of_index(&document.bytes),
            false => outline::of_manifest(&document.bytes),
        };
        let links = links.map_err(|e| Error::Malformed {
            at: self.at.clone(),
            why: format!("{} in it: {e}", document.digest),
        })?;
        let remember = |link: Link| (link.digest.clone(), self.remember(&link.digest.clone(), link.into()));
        Ok(links.into_iter().map(remember).collect())
    }

    /// Keeps what a descriptor says, unless another one said more.
    fn remember(&self, digest: &Digest, location: BlobLocation) -> Arc<BlobLocation> {
        let key = (self.at.clone(), digest.clone());
        match self.locations.0.get(&key) {
            Some(known) if known.urls.at.is_some() || location.urls.at.is_none() => known,
            _ => {
                let weight = location.weight();
                let location = Arc::new(location);
                self.locations.0.insert(key, location.clone(), weight);
                location
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MediaTypeOnly {
    media_type: Option<String>,
}

/// Reads the descriptor that stands for an image; otherwise returns why it is not one.
fn parse(bytes: &[u8], cid: &ocipfs_node::Cid) -> Result<Descriptor, String> {
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return Err("invalid JSON: expected an object".into());
    }
    let kind: MediaTypeOnly = serde_json::from_slice(bytes).map_err(|e| format!("invalid JSON: {e}"))?;
    if kind.media_type.is_some_and(|kind| kind == media_type::OCIPFS_LAYER_MANIFEST) {
        return Err(format!("it is a layer manifest: pull layer/{cid}"));
    }
    let root: Descriptor = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    let location = BlobLocation::from(&root);
    if !location.leads_on() {
        return Err(format!("media type {} is not a manifest or index", root.media_type));
    }
    match location.urls.at.is_some() {
        true => Ok(root),
        false => Err("it has no url of the form ipfs://<cid>".into()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const CID: &str = "bafybeiat5rs4tk3kvllj4uu5zr652qnp7kxc4ttewhc5md23gxflqqp7lu";

    fn descriptor() -> Value {
        json!({"mediaType": media_type::OCI_INDEX, "digest": Digest::sha256_of(b"").to_string(), "size": 0,
            "urls": ["https://example.org/x", format!("ipfs://{CID}")]})
    }

    fn read(value: &Value) -> Result<Descriptor, String> {
        parse(value.to_string().as_bytes(), &CID.parse().unwrap())
    }

    #[test]
    fn an_image_descriptor_is_located_by_its_first_ipfs_url() {
        assert_eq!(BlobLocation::from(&read(&descriptor()).unwrap()).urls.at, Some(CID.parse().unwrap()));
    }

    #[test]
    fn invalid_image_descriptor_is_rejected_with_the_reason() {
        let with = |key: &str, value: Value| {
            let mut descriptor = descriptor();
            descriptor[key] = value;
            descriptor
        };
        for (value, told) in [
            (json!([]), "JSON"),
            (json!({}), "digest"),
            (with("mediaType", json!(null)), "not a manifest or index"),
            (with("digest", json!("md5:00")), "md5"),
            (with("size", json!(-1)), "size"),
            (with("urls", json!([])), "no url of the form ipfs://<cid>"),
            (with("urls", json!(["https://example.org"])), "no url of the form ipfs://<cid>"),
            (with("mediaType", json!(media_type::OCI_CONFIG)), "not a manifest or index"),
            (with("mediaType", json!(media_type::OCIPFS_LAYER_MANIFEST)), &format!("layer/{CID}")),
        ] {
            let why = read(&value).unwrap_err();
            assert!(why.contains(told), "{value}: {why}");
        }
        assert!(parse(b"hello", &CID.parse().unwrap()).unwrap_err().contains("JSON"));
    }
}
