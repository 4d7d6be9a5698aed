//! Errors of images, layers and archives.

use std::ffi::OsString;

use ocipfs_oci::MediaType;

use super::{at, cid, digest, path, refused, why};
use crate::{
    content::{self, StoreError},
    images::{self, pack::inspect::Compression},
};

/// All groups of this file.
pub fn all(text: &mut String) {
    image_errors(text);
    layer_errors(text);
    pack_errors(text);
    import_errors(text);
    archive_errors(text);
    bundle_errors(text);
}

fn image_errors(text: &mut String) {
    use images::Error as E;
    instances!(text, images::Error,
        E::NoLayout { .. } => E::NoLayout { at: at(), entries: vec!["a".into()] },
        E::NoEntry { .. } => E::NoEntry { at: at(), entry: "b".into(), entries: vec!["a".into()] },
        E::NoDescriptor { .. } => E::NoDescriptor { at: at(), why: why() },
        E::Link(_) => E::Link(at()),
        E::Schema1(_) => E::Schema1(at()),
        E::NotAManifest { .. } => E::NotAManifest { at: at(), why: why() },
        E::Malformed { .. } => E::Malformed { at: at(), why: why() },
        E::Elsewhere { .. } => E::Elsewhere {
            digest: digest(),
            media_type: MediaType::from_static("application/vnd.oci.image.layer.v1.tar"),
            urls: vec!["https://example.org".into()],
        },
        E::Content(_) => E::Content(content::Error::Full),
    );
}

fn layer_errors(text: &mut String) {
    {
        use images::layer::Error as E;
        instances!(text, images::layer::Error,
            E::Kind(_) => E::Kind(why()),
            E::Malformed(_) => E::Malformed(why()),
        );
    }
    {
        use images::layer::add::Error as E;
        instances!(text, images::layer::add::Error,
            E::File(_) => E::File(images::layer::file::Error::Name(path())),
            E::Name(_) => E::Name("a/b".into()),
            E::NoLayer { .. } => E::NoLayer { what: "layer.tar".into(), why: images::pack::inspect::Error::Empty },
            E::Content(_) => E::Content(content::Error::Full),
            E::BrokenOff => E::BrokenOff,
            E::Cancelled => E::Cancelled,
        );
    }
    file_errors(text);
    use images::layer::join::Error as E;
    instances!(text, images::layer::join::Error,
        E::Part { .. } => E::Part { cid: cid(), why: images::layer::Error::Kind(why()) },
        E::Index(_) => E::Index(images::layer::Error::Malformed(why())),
        E::Add(_) => E::Add(images::layer::add::Error::BrokenOff),
    );
}

fn file_errors(text: &mut String) {
    use images::layer::file::Error as E;
    instances!(text, images::layer::file::Error,
        E::Read { .. } => E::Read { what: "layer.tar".into(), why: why() },
        E::Name(_) => E::Name(path()),
        E::Pack(_) => E::Pack(images::pack::folder::Error::Changed(path())),
    );
}

fn pack_errors(text: &mut String) {
    {
        use images::pack::folder::Error as E;
        instances!(text, images::pack::folder::Error,
            E::Read { .. } => E::Read { path: path(), reason: refused() },
            E::Changed(_) => E::Changed(path()),
            E::Socket(_) => E::Socket(path()),
            E::AttributeName { .. } => E::AttributeName { path: path(), name: OsString::from("a=b") },
            E::Write(_) => E::Write(refused()),
        );
    }
    {
        use images::pack::estargz::Error as E;
        instances!(text, images::pack::estargz::Error,
            E::Io(_) => E::Io(refused()),
            E::Unsupported(_) => E::Unsupported("it has sparse files".into()),
            E::Repeated(_) => E::Repeated("etc/hosts".into()),
        );
    }
    use images::pack::inspect::Error as E;
    instances!(text, images::pack::inspect::Error,
        E::Empty => E::Empty,
        E::Truncated(_) => E::Truncated(Compression::Gzip),
        E::Corrupt { .. } => E::Corrupt { compression: Compression::Zstd, reason: refused() },
        E::TrailingGarbage => E::TrailingGarbage,
        E::NotTar => E::NotTar,
        E::Unsupported(_) => E::Unsupported("xz"),
        E::PartialBlock(_) => E::PartialBlock(100),
        E::Refused => E::Refused,
        E::Thread(_) => E::Thread(refused()),
    );
}

fn import_errors(text: &mut String) {
    use images::import::Error as E;
    instances!(text, images::import::Error,
        E::Archive(_) => E::Archive(images::archive::Error::SkopeoDir),
        E::Names(_) => E::Names(why()),
        E::ImportFormat { .. } => E::ImportFormat { image: "app:1.0".into(), why: why() },
        E::Content(_) => E::Content(content::Error::Full),
        E::BrokenOff => E::BrokenOff,
    );
}

fn archive_errors(text: &mut String) {
    use images::archive::Error as E;
    instances!(text, images::archive::Error,
        E::Read { .. } => E::Read { what: "index.json".into(), why: why() },
        E::Unknown(_) => E::Unknown("it has no index.json"),
        E::Truncated(_) => E::Truncated("layer.tar".into()),
        E::Compressed { .. } => E::Compressed { what: "app.tar.gz".into(), compression: "gzip", why: why() },
        E::SkopeoDir => E::SkopeoDir,
        E::Outside(_) => E::Outside("../x".into()),
        E::OutsideLink(_) => E::OutsideLink("x".into()),
        E::Missing { .. } => E::Missing { what: "layer.tar".into(), by: "manifest.json".into() },
        E::Lie { .. } => E::Lie { what: "blobs/sha256/00".into(), why: why() },
        E::Document { .. } => E::Document { what: "index.json".into(), why: why() },
        E::TooLarge { .. } => E::TooLarge { what: "index.json".into(), limit: 16 << 20 },
        E::Cycle(_) => E::Cycle(digest()),
        E::Name { .. } => E::Name { text: "Team".into(), why: why() },
        E::Layer { .. } => E::Layer { what: "layer.tar".into(), why: images::pack::inspect::Error::NotTar },
        E::Store(_) => E::Store(StoreError::Full),
    );
}

fn bundle_errors(text: &mut String) {
    use images::bundle::Error as E;
    let what = || "monday.car".to_string();
    instances!(text, images::bundle::Error,
        E::Read { .. } => E::Read { what: what(), why: why() },
        E::NotABundle { .. } => E::NotABundle { what: what(), why: "it has no root".into() },
        E::DamagedManifest { .. } => E::DamagedManifest { what: what(), why: why() },
        E::Refused { .. } => E::Refused { what: what(), why: why(), hint: "--force" },
        E::Manifest { .. } => E::Manifest { digest: digest(), why: why() },
        E::Newer { .. } => E::Newer { what: what(), found: "application/vnd.ocipfs.bundle.manifest.v2+json".into() },
        E::TooLarge { .. } => E::TooLarge { size: 40 << 20 },
        E::SmallParts { .. } => E::SmallParts { split: 1 << 20, least: 17 << 20 },
        E::Write(_) => E::Write(refused()),
        E::Content(_) => E::Content(content::Error::Full),
    );
}
