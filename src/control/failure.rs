//! Failures with hints, for the errors of the layers below.

use std::{io, path::Path};

use super::Failure;
use crate::{
    content,
    http::TokensError,
    images::{
        archive, bundle, import,
        layer::{add, file},
    },
    names,
};

/// Adds what to do where a node does not start.
pub fn start_failure(error: ocipfs_node::StartError) -> Failure {
    use ocipfs_node::StartError::*;
    let hint = match &error {
        Listen { .. } => "another node may be running there: choose other addresses with --swarm-listen",
        HalfPrivate { .. } => "see `ocipfs serve --help` on private swarms",
        NoPeerId(_) => "end the address with the peer id that `ocipfs swarm id` prints on that node",
        Members(_) => "see `ocipfs swarm admin init --help`",
        KeyFile(_) => "restore the key from a backup, or move it away to start with a new peer id",
        _ => return Failure::new(error),
    };
    Failure::new(error).hint(hint)
}

/// Adds what to do where a token cannot be made or found.
pub fn token_failure(error: TokensError) -> Failure {
    let hint = match &error {
        TokensError::Exists(_) => "choose another name, or revoke it with `ocipfs token revoke`",
        TokensError::Unknown(_) => "`ocipfs token ls` lists the tokens",
        TokensError::TooMany => "`ocipfs token revoke` removes tokens",
        TokensError::Json { .. } => "restore the file from a backup; without it there are no tokens",
        TokensError::File { .. } | TokensError::Name(_) => return Failure::new(error),
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
        content::Error::Node(OnlyRelayed { .. }) => {
            "make one side reachable (forward a port, and --swarm-announce its address), or start `ocipfs serve --relay-for PEER` on a host that both can dial"
        }
        content::Error::Damaged { .. } => {
            "push or add it again, or connect to a peer that has it with `ocipfs swarm connect`"
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

/// Adds what to do where an image cannot be imported.
pub fn import_failure(error: import::Error) -> Failure {
    use archive::Error::*;
    let hint = match &error {
        import::Error::Content(_) | import::Error::Archive(Store(_)) => {
            return match error {
                import::Error::Content(error) => content_failure(error),
                import::Error::Archive(Store(error)) => content_failure(error.into()),
                other => Failure::new(other),
            };
        }
        import::Error::Archive(error) => match error {
            Read { .. } => "give a file, a folder, or - for standard input",
            Unknown(_) => {
                "`docker save`, `podman save` and `skopeo copy oci-archive:` write archives; \
                 a layer's tar is added with `ocipfs layer add`"
            }
            Truncated(_) => "create or copy the archive again: it is truncated",
            Missing { .. } | Lie { .. } => "save the image again: the archive is damaged, or was edited",
            Compressed { .. } => "check the file; `xz -dc FILE | ocipfs image import -` has no memory limit",
            SkopeoDir => {
                "convert it with `skopeo copy dir:DIR oci:LAYOUT:TAG`, then import LAYOUT; \
                 `skopeo copy ... oci:` and `docker-archive:` write what can be imported"
            }
            OutsideLink(_) => "`tar -ch DIR | ocipfs image import -` has the files instead of the links",
            Name { .. } => "choose another name with --name",
            _ => return Failure::new(error),
        },
        import::Error::Names(_) => "give --name without a tag, leave it out, or save the images one by one",
        import::Error::ImportFormat { .. } => "use --as layout, which accepts every image",
        import::Error::BrokenOff => return Failure::new(error),
    };
    Failure::new(error).hint(hint)
}

/// Adds what to do where a bundle cannot be read, written or imported.
pub fn bundle_failure(error: bundle::Error) -> Failure {
    use bundle::Error::*;
    let hint = match &error {
        Content(_) => {
            return match error {
                Content(error) => content_failure(error),
                other => Failure::new(other),
            };
        }
        Read { .. } => "give a file, or - for standard input",
        NotABundle { .. } => {
            "`ocipfs bundle export` writes bundles; `ocipfs image import` reads archives and image layouts"
        }
        DamagedManifest { .. } => "copy the file again",
        Newer { .. } => "use the version of ocipfs that wrote it, or a later one",
        TooLarge { .. } => "export fewer images at a time, into several bundles",
        SmallParts { .. } => "give --split a larger size",
        Manifest { .. } => "export the bundle again",
        Refused { hint, .. } => hint,
        Write(_) => return Failure::new(error),
    };
    Failure::new(error).hint(hint)
}

/// Adds what to do where a layer cannot be added.
pub fn add_failure(error: add::Error) -> Failure {
    match error {
        add::Error::Content(error) => content_failure(error),
        add::Error::File(error) => layer_file_failure(error),
        add::Error::NoLayer { .. } => Failure::new(error)
            .hint("a layer is a tar, plain or compressed with gzip or zstd; a folder is packed"),
        add::Error::Name(_) => Failure::new(error).hint("choose another name with --name"),
        add::Error::BrokenOff | add::Error::Cancelled => Failure::new(error),
    }
}

/// Adds what to do where a file or a folder cannot become a layer.
pub fn layer_file_failure(error: file::Error) -> Failure {
    let hint = match &error {
        file::Error::Read { .. } => "give a tar, a tar.gz, a tar.zst, a folder, - or ipfs://<cid>/<file>",
        file::Error::Name(_) => "move or link it to a path whose last component is its name",
        file::Error::Pack(_) => "every file in the folder must be readable, and none may be a socket",
    };
    Failure::new(error).hint(hint)
}

/// Adds what to do where an export cannot be written.
pub fn unwritable(dest: &Path, error: io::Error) -> Failure {
    let failure = Failure::new(format!("cannot write {}: {error}", dest.display()));
    match error.kind() {
        io::ErrorKind::AlreadyExists => failure.hint("give a file or a folder that does not exist yet"),
        _ => failure,
    }
}
