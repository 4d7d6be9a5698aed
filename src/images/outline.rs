//! Outline of a manifest or an index: its links to blobs. Little else of an untrusted document is kept in
//! memory.

use std::fmt;

use ocipfs_oci::{Digest, MediaType};
use serde::{
    Deserialize, Deserializer,
    de::{SeqAccess, Visitor},
};

use crate::content::CidPath;

/// Addresses of a blob that a message tells, and their lengths.
const MAX_SHOWN_URLS: usize = 3;
const MAX_SHOWN_CHARS: usize = 200;
/// A longer address leads nowhere.
const MAX_URL: usize = 1024;

/// Fields of a descriptor that tell where a blob is.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Link {
    #[serde(default, deserialize_with = "stated")]
    pub media_type: MediaType,
    pub digest: Digest,
    pub size: u64,
    #[serde(default)]
    pub urls: Urls,
}

/// Reads what a document states; `null` is nothing, as Go writes it.
fn stated<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MediaType, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The addresses of a blob.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Urls {
    /// The first that is a CID.
    pub at: Option<CidPath>,
    /// The first few as they are.
    pub told: Vec<String>,
}

impl Urls {
    pub fn add(&mut self, url: &str) {
        if self.at.is_none() {
            self.at = ipfs(url);
        }
        if self.told.len() < MAX_SHOWN_URLS {
            self.told.push(url.chars().take(MAX_SHOWN_CHARS).collect());
        }
    }
}

/// The CID, and the path below it, of an `ipfs://` url that is not absurdly long.
fn ipfs(url: &str) -> Option<CidPath> {
    let url = Some(url).filter(|url| url.len() <= MAX_URL)?;
    url.strip_prefix("ipfs://")?.trim_end_matches('/').parse().ok()
}

impl<'de> Deserialize<'de> for Urls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;

        impl<'de> Visitor<'de> for List {
            type Value = Urls;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of urls")
            }

            fn visit_unit<E>(self) -> Result<Urls, E> {
                Ok(Urls::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Urls, A::Error> {
                let mut urls = Urls::default();
                while let Some(url) = list.next_element::<String>()? {
                    urls.add(&url);
                }
                Ok(urls)
            }
        }
        deserializer.deserialize_any(List)
    }
}

#[derive(Deserialize)]
struct ManifestOutline {
    config: Link,
    layers: Option<Vec<Link>>,
}

#[derive(Deserialize)]
struct IndexOutline {
    manifests: Option<Vec<Link>>,
}

/// Reads the configuration and the layers of an image.
pub fn of_manifest(json: &[u8]) -> Result<Vec<Link>, serde_json::Error> {
    let ManifestOutline { config, layers } = serde_json::from_slice(json)?;
    let mut links = layers.unwrap_or_default();
    links.insert(0, config);
    Ok(links)
}

/// Reads the entries of an index.
pub fn of_index(json: &[u8]) -> Result<Vec<Link>, serde_json::Error> {
    serde_json::from_slice::<IndexOutline>(json).map(|index| index.manifests.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const CID: &str = "bafybeiat5rs4tk3kvllj4uu5zr652qnp7kxc4ttewhc5md23gxflqqp7lu";

    #[test]
    fn an_ipfs_url_is_a_cid_with_an_optional_path() {
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
    }

    #[test]
    fn descriptor_urls_are_bounded_and_the_first_ipfs_url_is_kept() {
        let mut urls = vec!["https://example.org/".to_string() + &"x".repeat(1000); 1000];
        urls.push(format!("ipfs://{CID}"));
        let link = json!({"mediaType": "a/b", "digest": Digest::sha256_of(b"").to_string(), "size": 1,
            "urls": urls, "annotations": {"a": "b"}});
        let manifest = json!({"config": link, "layers": [link, link], "other": [[]]}).to_string();
        let links = of_manifest(manifest.as_bytes()).unwrap();
        assert_eq!(links.len(), 3);
        assert_eq!(links[0].urls.at.as_ref().map(ToString::to_string).as_deref(), Some(CID));
        assert!(links[0].urls.told.iter().map(String::len).eq([200; 3]));
        for media_type in [json!("text/plain; charset=utf-8"), json!("sbom"), json!(""), json!(null)] {
            let mut odd = link.clone();
            odd["mediaType"] = media_type;
            let manifest = json!({"config": odd, "layers": [odd]}).to_string();
            assert_eq!(of_manifest(manifest.as_bytes()).unwrap().len(), 2, "{manifest}");
        }
        for none in [json!({"manifests": null}), json!({"manifests": []})] {
            assert!(of_index(none.to_string().as_bytes()).unwrap().is_empty());
        }
        assert!(of_manifest(b"{}").is_err() && of_index(br#"{"manifests":[{}]}"#).is_err());
    }
}
