//! Errors of the formats of OCI and IPFS, and of a swarm key.

use ocipfs_node::SwarmKey;
use ocipfs_oci::ByteRanges;

use super::{cid, refused, why};

/// All groups of this file.
pub fn all(text: &mut String) {
    oci_errors(text);
    range_errors(text);
    unixfs_errors(text);
    swarm_key_errors(text);
}

fn oci_errors(text: &mut String) {
    {
        use ocipfs_oci::digest::{Algorithm, Error as E};
        instances!(text, ocipfs_oci::digest::Error,
            E::Shape(_) => E::Shape("x".into()),
            E::Algorithm(_) => E::Algorithm("md5".into()),
            E::Length { .. } => E::Length { algorithm: Algorithm::Sha256, digits: 3 },
            E::Hex { .. } => E::Hex { algorithm: Algorithm::Sha512, found: "XY".into() },
        );
    }
    {
        use ocipfs_oci::manifest::Error as E;
        instances!(text, ocipfs_oci::manifest::Error,
            E::Manifest(_) => E::Manifest(super::invalid_json()),
            E::Index(_) => E::Index(super::invalid_json()),
        );
    }
    {
        use ocipfs_oci::reference::Error as E;
        instances!(text, ocipfs_oci::reference::Error,
            E::Tag(_) => E::Tag("a/b".into()),
            E::Digest(_) => E::Digest("md5:0".parse::<ocipfs_oci::Digest>().unwrap_err()),
        );
    }
    use ocipfs_oci::name::Error as E;
    instances!(text, ocipfs_oci::name::Error,
        E::Empty => E::Empty,
        E::TooLong(_) => E::TooLong(300),
        E::EmptyComponent(_) => E::EmptyComponent("a//b".into()),
        E::UpperCase(_) => E::UpperCase("Team".into()),
        E::Character { .. } => E::Character { component: "a b".into(), character: ' ' },
        E::Separator(_) => E::Separator("a--.b".into()),
    );
}

fn range_errors(text: &mut String) {
    {
        use ocipfs_oci::range::Unsatisfiable as E;
        let ranges = ByteRanges::parse("bytes=9-").unwrap().unwrap();
        instances!(text, ocipfs_oci::range::Unsatisfiable, E { .. } => ranges.resolve(5).unwrap_err(),);
    }
    use ocipfs_oci::range::TooManyRanges as E;
    instances!(text, ocipfs_oci::range::TooManyRanges, E => E,);
}

fn unixfs_errors(text: &mut String) {
    {
        use ocipfs_unixfs::Error as E;
        instances!(text, ocipfs_unixfs::Error,
            E::Invalid { .. } => E::Invalid { cid: cid(), why: why() },
            E::Missing(_) => E::Missing(cid()),
        );
    }
    {
        use ocipfs_unixfs::PathError as E;
        instances!(text, ocipfs_unixfs::PathError,
            E::Cid { .. } => E::Cid { text: "app/1".into(), why: why() },
            E::Path(_) => E::Path(format!("{}/../x", cid())),
        );
    }
    use ocipfs_node::car::Error as E;
    instances!(text, ocipfs_node::car::Error,
        E::Truncated => E::Truncated,
        E::Header(_) => E::Header("version is not 1"),
        E::TooLong(_) => E::TooLong(5 << 20),
        E::Cid(_) => E::Cid(why()),
        E::Block(_) => E::Block(cid()),
    );
}

fn swarm_key_errors(text: &mut String) {
    {
        use ocipfs_node::InvalidSwarmKey as E;
        instances!(text, ocipfs_node::InvalidSwarmKey,
            E::Line { .. } => "/key/swarm/psk/1.0.0/\n/base64/\n".parse::<SwarmKey>().unwrap_err(),
            E::File { .. } => E::File { path: "/etc/ocipfs/swarm.key".into(), why: refused().to_string() },
        );
    }
    use ocipfs_node::InvalidName as N;
    instances!(text, ocipfs_node::InvalidName, N { .. } => super::invalid_name(),);
}
