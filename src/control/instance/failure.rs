//! Failures with hints, for the errors of the layers below.

use crate::{content, control::Failure, names};

/// Adds what to do where a node does not start.
pub fn start_failure(error: ocipfs_node::StartError) -> Failure {
    use ocipfs_node::StartError::*;
    let hint = match &error {
        Listen { .. } => "another node may be running there: choose other addresses with --swarm-listen",
        HalfPrivate { .. } => "see `ocipfs serve --help` on private swarms",
        NoPeerId(_) => "end the address with the peer id that `ocipfs swarm id` prints on that node",
        KeyFile(_) => "restore the key from a backup, or move it away to start with a new peer id",
        _ => return Failure::new(error),
    };
    Failure::new(error).hint(hint)
}

/// Adds what to do where the key to publish under is missing.
pub fn publish_key_failure(error: ocipfs_node::KeyError) -> Failure {
    Failure::new(error)
        .hint("`ocipfs name ls` lists the keys; `ocipfs name key import` imports one from another machine")
}

/// Adds what to do where the store cannot be opened or changed.
pub fn store_failure(error: content::StoreError) -> Failure {
    let hint = match &error {
        // It says itself what to do.
        content::StoreError::Earlier(_) | content::StoreError::Newer { .. } => return Failure::new(error),
        content::StoreError::Full => "free disk space, or choose another directory with --data-dir",
        _ => "choose another directory with --data-dir, or restore this one from a backup",
    };
    Failure::new(error).hint(hint)
}

/// Adds what to do where content cannot be read or stored.
pub fn content_failure(error: content::Error) -> Failure {
    use ocipfs_node::FetchError::*;
    let hint = match &error {
        content::Error::Node(Offline(_)) => "start `ocipfs serve` with this node directory, and try again",
        content::Error::Node(NotFound { .. }) => {
            "connect to a peer that has it with `ocipfs swarm connect`, or start serve with --peer"
        }
        content::Error::Node(Unanswered { .. }) => {
            "try again, or give the peers more time with --find-timeout"
        }
        content::Error::Stalled { .. } => "try again: the download resumes where it stopped",
        content::Error::Quota { .. } => {
            "remove pushed images (`ocipfs repo rm`, `repo gc --untagged`) or other content (`store unpin`, `layer rm`, `image rm`, then `store gc`), or raise --max-size"
        }
        content::Error::Full => {
            "free disk space: `ocipfs repo rm`, `repo gc --untagged` and `layer rm` remove content"
        }
        content::Error::NotAFile { .. } | content::Error::NoEntry { .. } => {
            "give a file in the directory: <cid>/<file>"
        }
        content::Error::TooLarge { .. } => {
            "give a reference printed by `layer add`; to add a layer by its own CID, use ipfs://<cid>"
        }
        _ => return Failure::new(error),
    };
    Failure::new(error).hint(hint)
}

/// Adds what to do where a repository name or a reference cannot be resolved.
pub fn names_failure(error: names::Error) -> Failure {
    match error {
        names::Error::Content(error) => content_failure(error),
        other => Failure::new(other),
    }
}
