use serde::{Deserialize, Serialize};

/// Request about the store.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "about", rename_all = "kebab-case")]
pub enum StoreRequest {
    /// How much is stored.
    Stat,
    /// Fetch what is missing, and keep it.
    Pin {
        /// A CID, or the reference of an image.
        what: String,
    },
    /// Unpin it.
    Unpin {
        /// A CID, or the reference of an image.
        what: String,
    },
    /// List the pins.
    Pins,
    /// Remove unreferenced data.
    Collect {
        /// Only count it.
        dry: bool,
        /// Drop abandoned uploads instead.
        #[serde(default)]
        uploads: bool,
    },
    /// Hash everything again.
    Verify {
        /// Fetch what is damaged.
        repair: bool,
    },
}

/// Reply to a [`StoreRequest`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum StoreReply {
    /// To `Stat`.
    Stored(Box<Stored>),
    /// To `Pin`.
    Pinned(Pin),
    /// To `Unpin`.
    Unpinned(Pin),
    /// To `Pins`.
    Pins {
        /// By CID.
        pins: Vec<Pin>,
    },
    /// To `Collect`.
    Collected(Collected),
    /// To `Collect` of uploads.
    Dropped(Dropped),
    /// To `Verify`.
    Verified(Verified),
}

/// Statistics of the store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stored {
    /// Blobs that are here whole.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The DAGs over them.
    pub layouts: u64,
    /// Blocks that are here for good.
    pub blocks: u64,
    /// Files that are on their way.
    #[serde(alias = "arriving")]
    pub partial: u64,
    /// Bytes of those files that are on disk.
    #[serde(alias = "arriving_bytes")]
    pub partial_bytes: u64,
    /// Blobs that were found damaged, and are not served until they come again.
    pub damaged: u64,
    /// How the room is used.
    #[serde(flatten)]
    pub room: Room,
}

/// How the room on the disk is used, in bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Room {
    /// All of it; what is being pulled counts whole.
    pub used_bytes: u64,
    /// The size of the index file: rows, small blobs and blocks outside files, and pages that are free.
    pub index_bytes: u64,
    /// Added, imported, pushed or pinned.
    pub owned_bytes: u64,
    /// Pinned, be it added too or not.
    pub pinned_bytes: u64,
    /// Content of followed names that nothing else keeps.
    pub followed_bytes: u64,
    /// Only pulled.
    pub cached_bytes: u64,
    /// How many CIDs are pinned.
    pub pins: u64,
    /// Uploads of which something came within a minute.
    pub uploads: u64,
    /// Their bytes.
    pub upload_bytes: u64,
    /// Uploads of which nothing came for longer, or not since the start.
    pub abandoned_uploads: u64,
    /// Their bytes.
    pub abandoned_upload_bytes: u64,
    /// How long nothing came of the oldest of those.
    pub oldest_upload_seconds: u64,
    /// Maximum size of the pull cache.
    pub cache_size: Option<u64>,
    /// The most at all.
    pub max_size: Option<u64>,
}

/// Something that is pinned.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pin {
    /// The root of it.
    pub cid: String,
}

/// The collected content, or in a dry run the content that would be collected.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Collected {
    /// Stored blobs.
    pub blobs: u64,
    /// Files that had come in part.
    #[serde(alias = "arriving")]
    pub partial: u64,
    /// Blocks that were no part of a file.
    pub blocks: u64,
    /// The bytes of all of them.
    pub bytes: u64,
    /// Whether it was only counted.
    pub dry: bool,
}

/// Abandoned uploads that were dropped, or would be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Dropped {
    /// How many.
    pub uploads: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Whether they were only counted.
    pub dry: bool,
}

/// The result of a verification.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Verified {
    /// Stored blobs.
    pub blobs: u64,
    /// Blocks that stand in the index.
    pub blocks: u64,
    /// The bytes of the blobs.
    pub bytes: u64,
    /// The damage found.
    pub damage: Vec<DamageInfo>,
}

/// A blob or a block that was not what its name says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DamageInfo {
    /// The blob's digest, or the CID of anything else.
    pub name: String,
    /// Its root, or its own CID.
    pub cid: String,
    /// Description of the damage.
    pub why: String,
    /// Whether it is right again; none where that was not tried.
    pub repaired: Option<bool>,
}
