use serde::{Deserialize, Serialize};

/// Request about the members of a private swarm.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "about", rename_all = "kebab-case")]
pub enum MembersRequest {
    /// Make an admin key, and an admission list of the connected peers.
    Init,
    /// Admit a peer.
    Allow {
        /// Its peer ID.
        peer: String,
    },
    /// Remove a peer.
    Remove {
        /// Its peer ID.
        peer: String,
    },
    /// List the members.
    Ls,
    /// Replace the swarm key.
    Rekey {
        /// How long both keys are accepted.
        seconds: u64,
    },
}

/// Reply to a [`MembersRequest`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum MembersReply {
    /// To `Init`.
    Admin {
        /// The ID of the admin key.
        admin: String,
        /// The first members.
        members: Vec<MemberInfo>,
    },
    /// To `Allow` and `Remove`.
    Changed {
        /// The peer ID.
        peer: String,
        /// Whether that changed anything.
        changed: bool,
    },
    /// To `Ls`.
    Listed {
        /// The ID of the admin key, if the node knows an admin.
        admin: Option<String>,
        /// The sequence number of the list, if there is one.
        sequence: Option<u64>,
        /// The list, or the one that peers tell of.
        #[serde(default, alias = "list")]
        admission_list: Option<ListInfo>,
        /// By peer ID.
        members: Vec<MemberInfo>,
    },
    /// To `Rekey`.
    Rekeyed {
        /// The new key in the format of Kubo's `swarm.key`.
        key: String,
        /// Until when the old key is accepted, in seconds since 1970.
        ends: u64,
    },
}

/// A member of a private swarm.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MemberInfo {
    /// Its peer ID.
    pub peer: String,
    /// `self`, `connected` or `not connected`, as seen by the node that answers.
    pub state: String,
}

/// The admission list of a private swarm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListInfo {
    /// The ID of the admin key that signed it. A peer of an earlier version that tells of the list does not say it.
    pub admin: Option<String>,
    /// Grows with each change.
    pub sequence: u64,
    /// When it was signed, in seconds since 1970.
    pub issued: u64,
    /// The peer that tells of it, where this node does not use it: its settings name no admin.
    pub unused_from: Option<String>,
}
