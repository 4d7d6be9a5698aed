//! Errors of the node: to start, connect, fetch and resolve, and of keys and records.

use ocipfs_node::{Keypair, Stopped};

use super::{SECONDS, cid, ipns_name, path, refused, why};

/// All groups of this file.
pub fn all(text: &mut String) {
    fetch_errors(text);
    start_errors(text);
    admin_errors(text);
    resolve_errors(text);
    key_errors(text);
    record_errors(text);
}

pub fn no_record() -> ocipfs_node::ResolveError {
    ocipfs_node::ResolveError::NoRecord { name: ipns_name(), asked: 3, waited: SECONDS }
}

fn fetch_errors(text: &mut String) {
    use ocipfs_node::FetchError as E;
    instances!(text, ocipfs_node::FetchError,
        E::NotFound { .. } => E::NotFound { cid: cid(), asked: 3, waited: SECONDS },
        E::Unanswered { .. } => E::Unanswered { cid: cid(), providers: 2, waited: SECONDS },
        E::OnlyRelayed { .. } => E::OnlyRelayed { cid: cid(), providers: 1, waited: SECONDS },
        E::Offline(_) => E::Offline(cid()),
        E::Stopped => E::Stopped,
    );
}

fn start_errors(text: &mut String) {
    let address = || "/ip4/127.0.0.1/tcp/4001".parse::<ocipfs_node::Multiaddr>().unwrap();
    {
        use ocipfs_node::StartError as E;
        instances!(text, ocipfs_node::StartError,
            E::KeyFile(_) => E::KeyFile(ocipfs_node::KeyFileError { path: path(), why: refused().into() }),
            E::HalfPrivate { .. } => E::HalfPrivate { what: "--bootstrap".into(), why: "it is public" },
            E::Listen { .. } => E::Listen { address: address(), why: refused().into() },
            E::NoPeerId(_) => E::NoPeerId(ocipfs_node::NoPeerId(address())),
            E::Members(_) => E::Members(ocipfs_node::AdminError::NotPrivate),
            E::Records(_) => E::Records(ocipfs_node::RecordError::LastSequence(ipns_name())),
            E::Swarm(_) => E::Swarm(refused().into()),
        );
    }
    use ocipfs_node::ConnectError as E;
    instances!(text, ocipfs_node::ConnectError,
        E::NoPeerId(_) => E::NoPeerId(ocipfs_node::NoPeerId(address())),
        E::Unreachable { .. } => E::Unreachable { address: address(), why: why() },
        E::Own(_) => E::Own(address()),
        E::Stopped(_) => E::Stopped(Stopped),
    );
}

fn admin_errors(text: &mut String) {
    use ocipfs_node::AdminError as E;
    let peer = |byte| Keypair::ed25519_from_bytes([byte; 32]).unwrap().public().to_peer_id();
    instances!(text, ocipfs_node::AdminError,
        E::NotPrivate => E::NotPrivate,
        E::NoKey => E::NoKey,
        E::Exists(_) => E::Exists(peer(1)),
        E::OtherAdmin { .. } => E::OtherAdmin { own: peer(1), named: peer(2) },
        E::NoEd25519(_) => E::NoEd25519(peer(1)),
        E::Oneself => E::Oneself,
        E::Full(_) => E::Full(4096),
        E::UnderWay(_) => E::UnderWay(60),
        E::Overlap { .. } => E::Overlap { min: SECONDS, max: SECONDS * 86_400 },
        E::KeyFile(_) => E::KeyFile(ocipfs_node::KeyFileError { path: path(), why: refused().into() }),
        E::Load(_) => E::Load(refused()),
        E::Save(_) => E::Save(refused()),
        E::Sign(_) => E::Sign(why()),
        E::Stopped(_) => E::Stopped(Stopped),
    );
}

fn resolve_errors(text: &mut String) {
    let domain = || "example.org".parse::<ocipfs_node::Domain>().unwrap();
    {
        use ocipfs_node::ResolveError as E;
        instances!(text, ocipfs_node::ResolveError,
            E::NoRecord { .. } => no_record(),
            E::NoDnsLink(_) => E::NoDnsLink(domain()),
            E::Dns { .. } => E::Dns { domain: domain(), why: ocipfs_node::DnsFailure::TimedOut(SECONDS) },
            E::PrivateDns(_) => E::PrivateDns(domain()),
            E::Records(_) => E::Records(ocipfs_node::RecordError::LastSequence(ipns_name())),
        );
    }
    use ocipfs_node::DnsFailure as E;
    instances!(text, ocipfs_node::DnsFailure,
        E::TimedOut(_) => E::TimedOut(SECONDS),
        E::Offline => E::Offline,
        E::NoServers(_) => E::NoServers("no name server".into()),
        E::Lookup(_) => E::Lookup("no response".into()),
    );
}

fn key_errors(text: &mut String) {
    let not_a_key = || Keypair::from_protobuf_encoding(b"x").unwrap_err();
    {
        use ocipfs_node::KeyFileCause as E;
        instances!(text, ocipfs_node::KeyFileCause,
            E::Io(_) => E::Io(refused()),
            E::Invalid(_) => E::Invalid(not_a_key()),
            E::Encode(_) => E::Encode(not_a_key()),
        );
    }
    use ocipfs_node::KeyError as E;
    instances!(text, ocipfs_node::KeyError,
        E::File(_) => E::File(ocipfs_node::KeyFileError { path: path(), why: refused().into() }),
        E::KeyName(_) => E::KeyName("a b".into()),
        E::NoKey(_) => E::NoKey("work".into()),
        E::KeyExists(_) => E::KeyExists("work".into()),
        E::NotAKey(_) => E::NotAKey(not_a_key()),
        E::Encode(_) => E::Encode(not_a_key()),
        E::Stopped(_) => E::Stopped(Stopped),
    );
}

fn record_errors(text: &mut String) {
    use ocipfs_node::RecordError as E;
    instances!(text, ocipfs_node::RecordError,
        E::Key(_) => E::Key(ocipfs_node::KeyError::NoKey("work".into())),
        E::LastSequence(_) => E::LastSequence(ipns_name()),
        E::Database(_) => E::Database(redb::Error::ValueTooLarge(5)),
        E::Sign(_) => E::Sign(ocipfs_node::InvalidRecord::Expired),
        E::Blocks(_) => E::Blocks(refused()),
        E::Remove { .. } => E::Remove { path: path(), why: refused() },
        E::Stopped(_) => E::Stopped(Stopped),
    );
}
