use serde::{Deserialize, Serialize};

/// Request about pushed repositories.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "about", rename_all = "kebab-case")]
pub enum RepoRequest {
    /// List them.
    Ls,
    /// Show what is in one.
    Inspect {
        /// Its name.
        name: String,
    },
    /// Remove one, or an image of it.
    Rm {
        /// `NAME`, `NAME:TAG` or `NAME@DIGEST`.
        what: String,
    },
    /// Remove what is not kept any more.
    Collect {
        /// Only in this repository.
        name: Option<String>,
        /// All manifests that no tag leads to.
        untagged: bool,
        /// Only tell what would be removed.
        dry: bool,
    },
}

/// Reply to a [`RepoRequest`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum RepoReply {
    /// To `Ls`.
    Listed {
        /// By name.
        repositories: Vec<RepoInfo>,
    },
    /// To `Inspect`.
    Inspected(Box<RepoContents>),
    /// To `Rm` and `Collect`.
    Collected(RepoCollected),
}

/// A repository, in numbers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RepoInfo {
    /// Its name.
    pub name: String,
    /// How many tags it has.
    pub tags: u64,
    /// How many manifests and indexes.
    pub manifests: u64,
    /// How many blobs.
    pub blobs: u64,
    /// Bytes of manifests and blobs; other repositories may have some of them too.
    pub bytes: u64,
    /// When a manifest was pushed last, in seconds since 1970.
    pub last_push: u64,
}

/// Contents of a repository.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RepoContents {
    /// The repository in numbers.
    #[serde(flatten)]
    pub info: RepoInfo,
    /// Its first tags, by name.
    pub tag_list: Vec<RepoTag>,
    /// Its first manifests, by digest.
    pub manifest_list: Vec<RepoManifest>,
}

/// A tag.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RepoTag {
    /// Its name.
    pub tag: String,
    /// Digest that it points at.
    pub digest: String,
    /// When it was pushed, in seconds since 1970.
    pub pushed: u64,
}

/// A manifest or an index.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RepoManifest {
    /// Its digest.
    pub digest: String,
    /// Its kind.
    pub media_type: String,
    /// Its own size in bytes.
    pub size: u64,
    /// When it was pushed, in seconds since 1970.
    pub pushed: u64,
    /// Digest of its subject.
    pub subject: Option<String>,
    /// Since when it ages because no tag points at it.
    pub untagged_since: Option<u64>,
    /// Why it is served only to users who may sign it, with `--policy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withheld: Option<String>,
}

/// The removed content, or in a dry run the content that would be removed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RepoCollected {
    /// In the order in which it was removed.
    pub removed: Vec<RemovedInfo>,
    /// Bytes that nothing else holds.
    pub bytes: u64,
    /// Whether it was only told.
    pub dry: bool,
}

/// Something that was removed from a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedInfo {
    /// The repository.
    pub repository: String,
    /// `tag`, `manifest` or `blob`.
    pub kind: String,
    /// The tag's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// The digest; of a tag, what it pointed at.
    pub digest: String,
    /// Its size in bytes.
    pub size: u64,
    /// Whether nothing else holds the bytes.
    pub freed: bool,
}
