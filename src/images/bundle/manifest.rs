//! The manifest of a bundle: which images are in it, and which blobs.

use std::collections::{HashMap, HashSet};

use ocipfs_node::Cid;
use ocipfs_oci::{Digest, MediaType, Name, Platform, Tag};
use serde::{Deserialize, Serialize};

use super::Error;

/// The media type of a manifest of this version.
pub const MANIFEST_TYPE: &str = "application/vnd.ocipfs.bundle.manifest.v1+json";
/// What the media types of manifests of all versions begin with.
const MANIFEST_TYPES: &str = "application/vnd.ocipfs.bundle.manifest.v";
/// The media type of what ends a part.
pub const END_TYPE: &str = "application/vnd.ocipfs.bundle.end.v1+json";
/// The largest manifest: some 150,000 blobs.
pub const MAX_MANIFEST_BYTES: usize = 32 << 20;

/// What is in a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// [`MANIFEST_TYPE`].
    pub media_type: String,
    /// The network of the node that wrote it: `public`, `own`, or `private` and the sha256 of the swarm key.
    pub network: String,
    /// Earlier bundles, whose blobs it does not repeat.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub since: Vec<String>,
    /// The bundle of whose want-list it has the blobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completes: Option<String>,
    /// Records of IPNS names under which the images are published.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<NameRecord>,
    /// The images, each with its referrers.
    pub images: Vec<BundledImage>,
    /// All blobs of the images, manifests too, in the order of the bundle.
    pub blobs: Vec<BundledBlob>,
}

/// A signed record of an IPNS name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameRecord {
    /// The name.
    pub name: String,
    /// The record, in base64.
    pub record: String,
    /// The root that it names.
    pub root: String,
    /// The blocks below that root that lead to the images: directories and their indexes.
    pub blocks: Vec<String>,
}

/// An image of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BundledImage {
    /// Its repository.
    pub repository: Name,
    /// Its tag; none where it was exported by its digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<Tag>,
    /// Bytes of all its blobs and of those of its referrers.
    pub size: u64,
    /// The platforms that are in the bundle, where others were left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<String>,
    /// Its manifest or index first, then those below it, then its referrers and those below them.
    pub manifests: Vec<BundledManifest>,
}

/// A manifest or an index of an image or of one of its referrers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BundledManifest {
    /// Its media type.
    pub media_type: MediaType,
    /// Its digest.
    pub digest: Digest,
    /// The manifest that it refers to, where it is a referrer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Digest>,
    /// The tag that makes it a referrer, such as `sha256-<hex>.sig`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<Tag>,
}

/// A blob of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundledBlob {
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// The root of its DAG. It may be absent where the blob is left out.
    #[serde(default, with = "cid_text", skip_serializing_if = "Option::is_none")]
    pub cid: Option<Cid>,
    /// Whether it is left out, because an earlier bundle has it or nothing wants it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub elsewhere: bool,
}

/// The last block of each part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndOfPart {
    /// [`END_TYPE`].
    pub media_type: String,
    /// The CID of the bundle's manifest.
    pub bundle: String,
    /// The number of the part, from 1.
    pub part: u32,
    /// Whether it is the last one.
    pub last: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

mod cid_text {
    use ocipfs_node::Cid;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(cid: &Option<Cid>, serializer: S) -> Result<S::Ok, S::Error> {
        match cid {
            Some(cid) => serializer.collect_str(cid),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Cid>, D::Error> {
        let text = String::deserialize(deserializer)?;
        Cid::try_from(text.as_str()).map(Some).map_err(D::Error::custom)
    }
}

impl BundledImage {
    /// Returns the reference by which it is pulled, without a registry.
    pub fn reference(&self) -> String {
        match (&self.tag, self.manifests.first()) {
            (Some(tag), _) => format!("{}:{tag}", self.repository),
            (None, Some(top)) => format!("{}@{}", self.repository, top.digest),
            (None, None) => self.repository.to_string(),
        }
    }

    /// Returns how many manifests refer to it or to what is below it.
    pub fn referrers(&self) -> usize {
        self.manifests.iter().filter(|manifest| manifest.subject.is_some()).count()
    }
}

impl Manifest {
    /// Reads the manifest of a bundle; `what` names the bundle in errors.
    pub fn parse(bytes: &[u8], what: &str) -> Result<Self, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Kind {
            #[serde(default)]
            media_type: String,
        }
        let kind = serde_json::from_slice::<Kind>(bytes).map(|kind| kind.media_type).unwrap_or_default();
        if kind != MANIFEST_TYPE {
            return Err(match kind.starts_with(MANIFEST_TYPES) {
                true => Error::Newer { what: what.into(), found: kind },
                false => {
                    let why = "its first root is not the manifest of a bundle".into();
                    Error::NotABundle { what: what.into(), why }
                }
            });
        }
        let damaged = |why: String| Error::DamagedManifest { what: what.into(), why };
        let manifest: Self = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
        manifest.check().map_err(damaged)?;
        Ok(manifest)
    }

    /// Returns its JSON, the same for the same contents.
    pub fn to_json(&self) -> Result<Vec<u8>, Error> {
        let json = serde_json::to_vec(self).map_err(std::io::Error::from)?;
        match json.len() > MAX_MANIFEST_BYTES {
            true => Err(Error::TooLarge { size: json.len() }),
            false => Ok(json),
        }
    }

    /// Returns the blobs by their digests.
    pub fn by_digest(&self) -> HashMap<&Digest, &BundledBlob> {
        self.blobs.iter().map(|blob| (&blob.digest, blob)).collect()
    }

    /// Returns the bytes of the blobs that are in the bundle.
    pub fn contained_bytes(&self) -> u64 {
        self.contained().map(|blob| blob.size).fold(0, u64::saturating_add)
    }

    /// Returns the blobs that are in the bundle.
    pub fn contained(&self) -> impl Iterator<Item = &BundledBlob> {
        self.blobs.iter().filter(|blob| !blob.elsewhere)
    }

    fn check(&self) -> Result<(), String> {
        let mut digests = HashSet::new();
        if let Some(twice) = self.blobs.iter().find(|blob| !digests.insert(&blob.digest)) {
            return Err(format!("blob {} is listed twice", twice.digest));
        }
        let blocks = self.records.iter().flat_map(|record| record.blocks.iter().chain([&record.root]));
        if let Some(text) = blocks.into_iter().find(|text| Cid::try_from(text.as_str()).is_err()) {
            return Err(format!("{text:?} is not a CID"));
        }
        if let Some(lost) = self.contained().find(|blob| blob.cid.is_none()) {
            return Err(format!("blob {} has no CID", lost.digest));
        }
        for image in &self.images {
            let reference = image.reference();
            if image.manifests.is_empty() {
                return Err(format!("image {reference} has no manifest"));
            }
            if let Some(unlisted) = image.manifests.iter().find(|one| !digests.contains(&one.digest)) {
                return Err(format!("manifest {} of {reference} is not among its blobs", unlisted.digest));
            }
            if let Some(platform) = image.platforms.iter().find(|text| text.parse::<Platform>().is_err()) {
                return Err(format!("image {reference} has the invalid platform {platform:?}"));
            }
        }
        Ok(())
    }
}

impl EndOfPart {
    /// Reads the end of a part; none where a block is something else.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        const MAX_BYTES: usize = 1 << 10;
        let end: Self = serde_json::from_slice(Some(bytes).filter(|bytes| bytes.len() <= MAX_BYTES)?).ok()?;
        (end.media_type == END_TYPE).then_some(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let blob = |bytes: &[u8]| BundledBlob {
            digest: Digest::sha256_of(bytes),
            size: bytes.len() as u64,
            cid: (!bytes.is_empty())
                .then(|| "bafkreibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq".parse().unwrap()),
            elsewhere: bytes.is_empty(),
        };
        let top = BundledManifest {
            media_type: "application/vnd.oci.image.manifest.v1+json".parse().unwrap(),
            digest: Digest::sha256_of(b"top"),
            subject: None,
            tag: None,
        };
        Manifest {
            media_type: MANIFEST_TYPE.into(),
            network: "own".into(),
            since: Vec::new(),
            completes: None,
            records: Vec::new(),
            images: vec![BundledImage {
                repository: "team/app".parse().unwrap(),
                tag: Some("1".parse().unwrap()),
                size: 3,
                platforms: Vec::new(),
                manifests: vec![top],
            }],
            blobs: vec![blob(b"top"), blob(b"")],
        }
    }

    #[test]
    fn a_manifest_is_read_as_it_was_written_and_says_which_blobs_are_in_the_bundle() {
        let manifest = manifest();
        let json = manifest.to_json().unwrap();
        assert_eq!(Manifest::parse(&json, "x.car").unwrap(), manifest);
        assert_eq!((manifest.contained().count(), manifest.contained_bytes()), (1, 3));
        assert_eq!(manifest.images[0].reference(), "team/app:1");
        insta::assert_snapshot!(serde_json::to_string_pretty(&manifest).unwrap());
    }

    #[test]
    fn a_manifest_of_another_version_or_that_contradicts_itself_is_rejected() {
        let json = String::from_utf8(manifest().to_json().unwrap()).unwrap();
        let top = Digest::sha256_of(b"top").to_string();
        let empty = Digest::sha256_of(b"").to_string();
        for (text, told) in [
            ("{}".to_string(), "is not a bundle"),
            ("no JSON".into(), "is not a bundle"),
            (json.replace(".v1+json", ".v2+json"), "does not know"),
            (json.replace(&empty, &top), "listed twice"),
            (json.replacen(&top, &Digest::sha256_of(b"other").to_string(), 1), "not among its blobs"),
            (
                json.replace(r#""size":3,"manifests":["#, r#""size":3,"manifests":[],"x":["#),
                "has no manifest",
            ),
            (json.replace("team/app", "Team/App"), "damaged"),
            (json.replace("bafk", "ba"), "damaged"),
            (json.replace(r#""cid":"#, r#""id":"#), "has no CID"),
            (json[..json.len() - 1].into(), "is not a bundle"),
        ] {
            let error = Manifest::parse(text.as_bytes(), "x.car").unwrap_err().to_string();
            assert!(error.contains(told), "{text}: {error}");
        }
    }

    #[test]
    fn the_end_of_a_part_is_told_from_other_blocks() {
        let end = EndOfPart { media_type: END_TYPE.into(), bundle: "bafk".into(), part: 2, last: true };
        let json = serde_json::to_vec(&end).unwrap();
        assert_eq!(EndOfPart::parse(&json), Some(end));
        assert_eq!(EndOfPart::parse(b"{}"), None);
        assert_eq!(EndOfPart::parse(&[b' '; 2000]), None);
    }
}
