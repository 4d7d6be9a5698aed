//! Images whose descriptors say where in IPFS each blob is (`urls: ["ipfs://<cid>"]`), as nerdctl and stargz make them.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use ocipfs_oci::{Descriptor, Digest, Index, Manifest, MediaType, media_type};

use super::{Document, Error, MAX_MANIFEST, cache::Cache};
use crate::content::{Blob, CidPath, Content, Stat};

/// Digests of all images that are remembered together.
const REMEMBERED: usize = 20_000;
/// Documents that are read to find one digest, and how deep.
const DOCUMENTS: usize = 1000;
const DEPTH: usize = 8;

/// Where blobs are, by the descriptor file of their image and their digest.
pub struct Places(Cache<(CidPath, Digest), Arc<Place>>);

impl Default for Places {
    fn default() -> Self {
        Self(Cache::new(REMEMBERED))
    }
}

/// What a descriptor says of a blob.
struct Place {
    media_type: MediaType,
    size: u64,
    at: Option<CidPath>,
    urls: Vec<String>,
}

impl Place {
    fn new(descriptor: &Descriptor) -> Self {
        Self {
            media_type: descriptor.media_type.clone(),
            size: descriptor.size,
            at: descriptor.urls.iter().find_map(|url| ipfs(url)),
            urls: descriptor.urls.iter().take(3).map(|url| url.chars().take(200).collect()).collect(),
        }
    }

    fn leads_on(&self) -> bool {
        self.media_type.is_index() || self.media_type.is_manifest()
    }
}

/// The CID, and the path below it, of an `ipfs://` url that is not absurdly long.
fn ipfs(url: &str) -> Option<CidPath> {
    let url = Some(url).filter(|url| url.len() <= 1024)?;
    url.strip_prefix("ipfs://")?.trim_end_matches('/').parse().ok()
}

/// An image that one descriptor stands for.
pub struct Tree<'a> {
    content: &'a Content,
    places: &'a Places,
    /// The file that holds the descriptor.
    at: CidPath,
    root: Descriptor,
}

impl<'a> Tree<'a> {
    /// Reads the descriptor in the file `at`.
    pub async fn open(
        content: &'a Content,
        places: &'a Places,
        at: &CidPath,
        file: &Stat,
    ) -> Result<Self, Error> {
        let refused = |why: String| Error::NoDescriptor { at: at.clone(), why };
        if file.size > MAX_MANIFEST {
            return Err(refused(format!("{} bytes are more than one has", file.size)));
        }
        let bytes = content.read(at, MAX_MANIFEST).await?;
        let root = parse(&bytes, at.root()).map_err(refused)?;
        Ok(Self { content, places, at: at.clone(), root })
    }

    /// The digest of the manifest or index at the top.
    pub fn digest(&self) -> &Digest {
        &self.root.digest
    }

    /// A manifest or index of the image.
    pub async fn document(&self, digest: &Digest) -> Result<Option<Document>, Error> {
        let Some(place) = self.find(digest).await?.filter(|place| place.leads_on()) else { return Ok(None) };
        let document = self.read(digest, &place).await?;
        // What is asked for next is known then.
        self.children(&document)?;
        Ok(Some(document))
    }

    /// A blob of the image.
    pub async fn blob(&self, digest: &Digest) -> Result<Option<Blob>, Error> {
        let place = self.find(digest).await?;
        place.map(|place| self.blob_at(digest, &place)).transpose()
    }

    fn blob_at(&self, digest: &Digest, place: &Place) -> Result<Blob, Error> {
        let digest = digest.clone();
        let Some(at) = place.at.clone() else {
            let (media_type, urls) = (place.media_type.clone(), place.urls.clone());
            return Err(Error::Elsewhere { digest, media_type, urls });
        };
        Ok(Blob { digest, size: place.size, at, holder: Some(*self.at.root()) })
    }

    async fn read(&self, digest: &Digest, place: &Place) -> Result<Document, Error> {
        let blob = self.blob_at(digest, place)?;
        Document::read(self.content, &blob, Some(&place.media_type)).await
    }

    /// Where a digest is, as was seen before, or by reading the tree from its top.
    async fn find(&self, digest: &Digest) -> Result<Option<Arc<Place>>, Error> {
        if let Some(place) = self.places.0.get(&(self.at.clone(), digest.clone())) {
            return Ok(Some(place));
        }
        let root = self.remember(&self.root);
        if *digest == self.root.digest {
            return Ok(Some(root));
        }
        let mut seen = HashSet::from([self.root.digest.clone()]);
        let mut unread = VecDeque::from([(self.root.digest.clone(), root, 0)]);
        let mut failed = None;
        while let Some((next, place, depth)) = unread.pop_front() {
            let children = match self.read(&next, &place).await.and_then(|document| self.children(&document))
            {
                Ok(children) => children,
                // What has no address leads nowhere; any other may be what stands before the digest.
                Err(Error::Elsewhere { .. }) => continue,
                Err(error) => {
                    failed.get_or_insert(error);
                    continue;
                }
            };
            if let Some((_, place)) = children.iter().find(|(child, _)| child == digest) {
                return Ok(Some(place.clone()));
            }
            let deeper = children.into_iter().filter(|(_, place)| place.leads_on() && depth < DEPTH);
            for (child, place) in deeper {
                if seen.len() < DOCUMENTS && seen.insert(child.clone()) {
                    unread.push_back((child, place, depth + 1));
                }
            }
        }
        failed.map_or(Ok(None), Err)
    }

    /// What a document leads to, remembered.
    fn children(&self, document: &Document) -> Result<Vec<(Digest, Arc<Place>)>, Error> {
        let malformed = |e: ocipfs_oci::manifest::Error| Error::Malformed {
            at: self.at.clone(),
            why: format!("{} in it: {e}", document.digest),
        };
        let descriptors: Vec<Descriptor> = if document.media_type.is_index() {
            Index::parse(&document.bytes).map_err(malformed)?.manifests
        } else {
            Manifest::parse(&document.bytes).map_err(malformed)?.blobs().cloned().collect()
        };
        Ok(descriptors.iter().map(|child| (child.digest.clone(), self.remember(child))).collect())
    }

    /// Keeps what a descriptor says, unless another one said more.
    fn remember(&self, descriptor: &Descriptor) -> Arc<Place> {
        let key = (self.at.clone(), descriptor.digest.clone());
        let place = Arc::new(Place::new(descriptor));
        match self.places.0.get(&key) {
            Some(known) if known.at.is_some() || place.at.is_none() => known,
            _ => {
                self.places.0.insert(key, place.clone(), 1);
                place
            }
        }
    }
}

/// Reads the descriptor that stands for an image; why it is none, otherwise.
fn parse(bytes: &[u8], cid: &ocipfs_node::Cid) -> Result<Descriptor, String> {
    let object: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(bytes).map_err(|e| format!("not its JSON ({e})"))?;
    let value = serde_json::Value::from(object);
    let kind = value.get("mediaType").and_then(|kind| kind.as_str()).unwrap_or_default().to_owned();
    if kind == media_type::OCIPFS_LAYER_MANIFEST {
        return Err(format!("it is a layer manifest, which is pulled as layer/{cid}"));
    }
    let root: Descriptor = serde_json::from_value(value).map_err(|e| e.to_string())?;
    if !Place::new(&root).leads_on() {
        return Err(format!("its media type {} is that of no manifest and no index", root.media_type));
    }
    match root.urls.iter().any(|url| ipfs(url).is_some()) {
        true => Ok(root),
        false => Err("it has no url ipfs://<cid>".into()),
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
    fn a_url_is_a_cid_with_or_without_a_path() {
        for (url, at) in [
            (format!("ipfs://{CID}"), Some(CID.to_string())),
            (format!("ipfs://{CID}/"), Some(CID.to_string())),
            (format!("ipfs://{CID}/a/b.tar"), Some(format!("{CID}/a/b.tar"))),
            (format!("https://{CID}"), None),
            ("ipfs://".into(), None),
            (format!("ipfs://{CID}/../x"), None),
            ("ipfs://nonsense".into(), None),
        ] {
            assert_eq!(ipfs(&url).map(|at| at.to_string()), at, "{url}");
        }
        assert_eq!(Place::new(&read(&descriptor()).unwrap()).at, Some(CID.parse().unwrap()));
    }

    #[test]
    fn what_is_no_descriptor_of_an_image_is_told_why() {
        let with = |key: &str, value: Value| {
            let mut descriptor = descriptor();
            descriptor[key] = value;
            descriptor
        };
        for (value, told) in [
            (json!([]), "JSON"),
            (json!({}), "mediaType"),
            (with("digest", json!("md5:00")), "md5"),
            (with("size", json!(-1)), "size"),
            (with("urls", json!([])), "no url ipfs://<cid>"),
            (with("urls", json!(["https://example.org"])), "no url ipfs://<cid>"),
            (with("mediaType", json!(media_type::OCI_CONFIG)), "of no manifest and no index"),
            (with("mediaType", json!(media_type::OCIPFS_LAYER_MANIFEST)), &format!("layer/{CID}")),
        ] {
            let why = read(&value).unwrap_err();
            assert!(why.contains(told), "{value}: {why}");
        }
        assert!(parse(b"hello", &CID.parse().unwrap()).unwrap_err().contains("JSON"));
    }
}
