//! One instance of each variant of each public error: the texts that users read, with values in them.

use std::{io, path::PathBuf, time::Duration};

use ocipfs_node::{Cid, IpnsName, Keypair, MutableName};
use ocipfs_oci::{Digest, Name, Reference};

use crate::{
    content::{self, CidPath, StoreError},
    images as image, names,
};

/// Writes an instance of each variant. A variant without a line here does not compile: the match has no other arm.
macro_rules! instances {
    ($text:ident, $error:ty, $($pattern:pat => $instance:expr,)+) => {
        use std::fmt::Write as _;
        let name = |error: &$error| match error {
            $($pattern => stringify!($pattern),)+
        };
        let expected = [$(stringify!($pattern)),+];
        let instances: Vec<$error> = vec![$($instance),+];
        let _ = writeln!($text, "{}", stringify!($error));
        for (error, expected) in instances.iter().zip(expected) {
            assert_eq!(name(error), expected, "it is an instance of another variant");
            let variant = expected.split(['(', '{']).next().unwrap_or_default().trim();
            let _ = writeln!($text, "    {}: {error}", variant.trim_start_matches("E::"));
        }
    };
}

mod formats;
mod http;
mod images;
mod node;

fn cid() -> Cid {
    "bafkreibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq".parse().unwrap()
}

fn at() -> CidPath {
    format!("{}/app", cid()).parse().unwrap()
}

fn digest() -> Digest {
    Digest::sha256_of(b"hello")
}

fn name() -> Name {
    "team/app".parse().unwrap()
}

fn tag() -> Reference {
    "1.0".parse().unwrap()
}

fn ipns_name() -> IpnsName {
    let key = Keypair::ed25519_from_bytes([1; 32]).unwrap();
    IpnsName::from(key.public().to_peer_id())
}

fn refused() -> io::Error {
    io::Error::other("permission denied")
}

fn path() -> PathBuf {
    "data/file".into()
}

fn why() -> String {
    "unexpected end".into()
}

fn invalid_name() -> ocipfs_node::InvalidName {
    "a b".parse::<MutableName>().unwrap_err()
}

fn invalid_json() -> serde_json::Error {
    serde_json::from_str::<u8>("x").unwrap_err()
}

const SECONDS: Duration = Duration::from_secs(10);

fn content_errors(text: &mut String) {
    use content::Error as E;
    instances!(text, content::Error,
        E::Node(_) => E::Node(ocipfs_node::FetchError::Offline(cid())),
        E::Damaged { .. } => E::Damaged { digest: digest(), why: ocipfs_node::FetchError::Offline(cid()) },
        E::NotAFile { .. } => E::NotAFile { at: at(), kind: "a directory" },
        E::NotADirectory { .. } => E::NotADirectory { at: at(), kind: "a file" },
        E::NoEntry { .. } => E::NoEntry { at: at(), entry: "oci-layout".into() },
        E::InUse { .. } => E::InUse { cid: cid(), why: "pinned, or part of what is kept" },
        E::Corrupt { .. } => E::Corrupt { cid: cid(), why: why() },
        E::Mismatch { .. } => E::Mismatch { at: at(), why: why() },
        E::TooLarge { .. } => E::TooLarge { at: at(), size: 5 << 20, limit: 4 << 20 },
        E::Stalled { .. } => E::Stalled { at: at(), after: SECONDS },
        E::Full => E::Full,
        E::Quota { .. } => E::Quota { limit: 1 << 30 },
        E::NoRoom { .. } => E::NoRoom { size: 1 << 30 },
        E::Store(_) => E::Store(why()),
    );
}

fn store_errors(text: &mut String) {
    use StoreError as E;
    instances!(text, content::StoreError,
        E::Full => E::Full,
        E::Quota { .. } => E::Quota { limit: 1 << 30 },
        E::NoRoom { .. } => E::NoRoom { size: 1 << 30 },
        E::File { .. } => E::File { path: path(), why: refused() },
        E::Read { .. } => E::Read { cid: cid(), why: refused() },
        E::Closed { .. } => E::Closed { path: path(), why: redb::DatabaseError::DatabaseAlreadyOpen },
        E::Index(_) => E::Index(redb::Error::ValueTooLarge(5)),
        E::Damaged(_) => E::Damaged(why()),
        E::Earlier(_) => E::Earlier(path()),
        E::Newer { .. } => E::Newer { dir: path(), format: 9 },
        E::Stored(_) => E::Stored(cid()),
        E::Ended(_) => E::Ended(cid()),
        E::Outside { .. } => E::Outside { root: cid(), size: 5, offset: 4, length: 2 },
        E::Incomplete { .. } => E::Incomplete { root: cid(), written: 4, size: 5 },
        E::NotSha256(_) => E::NotSha256(digest()),
        E::NoLayout => E::NoLayout,
        E::Stopped => E::Stopped,
        E::Thread(_) => E::Thread(refused()),
        E::BrokenOff => E::BrokenOff,
        E::Gone(_) => E::Gone(digest()),
        E::Refused(_) => E::Refused("v1".into()),
    );
}

fn upload_errors(text: &mut String) {
    use content::UploadError as E;
    instances!(text, content::UploadError,
        E::TooMany => E::TooMany,
        E::Busy => E::Busy,
        E::BrokenOff(_) => E::BrokenOff(why()),
        E::Mismatch { .. } => E::Mismatch { expected: digest(), found: Digest::sha256_of(b"other") },
        E::Offset { .. } => E::Offset { expected: 5, found: 4 },
        E::Store(_) => E::Store(StoreError::Full),
    );
}

fn name_errors(text: &mut String) {
    use names::Error as E;
    instances!(text, names::Error,
        E::Syntax(_) => E::Syntax("Team".parse::<Name>().unwrap_err()),
        E::CidV0 { .. } => E::CidV0 { given: "Qm...".into(), instead: cid() },
        E::UpperCase { .. } => E::UpperCase { given: "BAFY".into(), instead: "bafy".into() },
        E::Path { .. } => E::Path { name: name(), why: "a//b".parse::<CidPath>().unwrap_err() },
        E::Unfinished { .. } => E::Unfinished { name: name(), instead: "layer/<cid>" },
        E::NoCid { .. } => E::NoCid { name: "layer/x".into(), found: "x".into(), why: why() },
        E::Misplaced { .. } => E::Misplaced { name: name(), instead: "ipfs/bafy".into() },
        E::UnknownName(_) => E::UnknownName(name()),
        E::Reserved { .. } => E::Reserved { name: name(), component: "blobs".into() },
        E::UnknownReference { .. } =>
            E::UnknownReference { name: name(), reference: tag(), instead: "1.1".into() },
        E::UnknownBlob { .. } => E::UnknownBlob { name: name(), digest: digest() },
        E::Layer { .. } => E::Layer { name: name(), why: image::layer::Error::Kind(why()) },
        E::Image { .. } => E::Image { name: name(), why: image::Error::Link(at()) },
        E::NoIpnsName { .. } => E::NoIpnsName { name: name(), why: invalid_name() },
        E::Ipns { .. } => E::Ipns { name: name(), why: names::ipns::Error::NoPath("/x".into()) },
        E::Content(_) => E::Content(content::Error::Full),
    );
}

fn ipns_errors(text: &mut String) {
    use names::ipns::Error as E;
    instances!(text, names::ipns::Error,
        E::NoPath(_) => E::NoPath("/x".into()),
        E::NoName(_) => E::NoName(invalid_name()),
        E::TooDeep(_) => E::TooDeep(ipns_name().into()),
        E::Target { .. } => E::Target { name: ipns_name().into(), value: "/x".into(), why: why() },
        E::Node(_) => E::Node(node::no_record()),
    );
}

fn push_errors(text: &mut String) {
    use names::push::Error as E;
    instances!(text, names::push::Error,
        E::ReadOnly(_) => E::ReadOnly("layer/x".into()),
        E::Reserved(_) => E::Reserved(names::Error::Reserved { name: name(), component: "blobs".into() }),
        E::UnknownUpload(_) => E::UnknownUpload("1".into()),
        E::InvalidManifest(_) => E::InvalidManifest(why()),
        E::MissingBlobs { .. } => E::MissingBlobs { name: name(), digests: vec![digest(), digest()] },
        E::Immutable { .. } => E::Immutable { name: name(), tag: "v1".into() },
        E::Moved { .. } => E::Moved { name: name(), tag: "v1".into() },
        E::NotAttached => E::NotAttached,
        E::RemovesSignatures { .. } => E::RemovesSignatures { name: name(), tag: "v1".into() },
        E::UnknownManifest { .. } => E::UnknownManifest { name: name(), reference: tag() },
        E::UnknownBlob { .. } => E::UnknownBlob { name: name(), digest: digest() },
        E::Followed { .. } => E::Followed { name: name(), reference: tag(), origin: ipns_name() },
        E::Upload(_) => E::Upload(content::UploadError::Busy),
        E::Names(_) => E::Names(names::Error::UnknownName(name())),
        E::Content(_) => E::Content(content::Error::Full),
    );
}

fn tree_errors(text: &mut String) {
    {
        use names::TreeError as E;
        instances!(text, names::TreeError,
            E::Names(_) => E::Names(names::Error::UnknownName(name())),
            E::Referrers(_) => E::Referrers(names::Error::Content(content::Error::Full)),
            E::Document(_) => E::Document(image::archive::Error::Cycle(digest())),
            E::NoPlatform { .. } => E::NoPlatform {
                digest: digest(),
                wanted: vec!["linux/arm64".into()],
                found: vec!["linux/amd64".into()],
            },
            E::TooLarge => E::TooLarge,
        );
    }
    use content::AddError as E;
    instances!(text, content::AddError,
        E::Body(_) => E::Body(why()),
        E::TooManyChunks => E::TooManyChunks,
        E::TooMuchMemory => E::TooMuchMemory,
        E::Busy => E::Busy,
        E::Content(_) => E::Content(content::Error::Full),
    );
}

fn publish_errors(text: &mut String) {
    use names::publish::Error as E;
    instances!(text, names::publish::Error,
        E::Content(_) => E::Content(content::Error::Full),
        E::Record(_) => E::Record(ocipfs_node::RecordError::LastSequence(ipns_name())),
    );
}

/// Returns one instance of each variant, with the name of the variant.
pub fn texts() -> String {
    let mut text = String::new();
    content_errors(&mut text);
    store_errors(&mut text);
    upload_errors(&mut text);
    name_errors(&mut text);
    ipns_errors(&mut text);
    push_errors(&mut text);
    publish_errors(&mut text);
    tree_errors(&mut text);
    formats::all(&mut text);
    images::all(&mut text);
    node::all(&mut text);
    http::all(&mut text);
    text
}
