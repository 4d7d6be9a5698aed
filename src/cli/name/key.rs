use std::{
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use clap::Subcommand;

use crate::{
    cli::{Exit, Global, ask, output, secrets, unexpected},
    control::{Failure, NameRequest, Reply, Request},
};

/// A key is a few hundred bytes.
const MAX_KEY_FILE: u64 = 64 << 10;

/// Make, export and import the keys of IPNS names; each key can publish under its name
#[derive(Debug, Subcommand)]
pub enum Key {
    /// Make a key, and print its IPNS name
    #[command(after_help = "\
Examples:
  ocipfs name key new releases")]
    New {
        /// Name of the key on this node
        key: String,
    },
    /// Export a key to a file that `ocipfs name key import` and `ipfs key import` read (libp2p-protobuf-cleartext)
    #[command(after_help = "\
Examples:
  ocipfs name key export releases releases.key")]
    Export {
        /// Name of the key on this node; `self` is the node's own
        key: String,
        /// New file; only this user can read it
        file: PathBuf,
    },
    /// Import a key that was exported by ocipfs or Kubo, and print its IPNS name
    #[command(after_help = "\
Examples:
  ocipfs name key import releases releases.key")]
    Import {
        /// Name of the key on this node
        key: String,
        /// File with the key
        file: PathBuf,
    },
}

pub async fn run(global: &Global, key: Key) -> Result<(), Exit> {
    let (request, to) = match key {
        Key::New { key } => (NameRequest::KeyNew { key }, None),
        Key::Export { key, file } => (NameRequest::KeyExport { key }, Some(file)),
        Key::Import { key, file } => {
            let base64 = BASE64_STANDARD.encode(read(&file)?);
            (NameRequest::KeyImport { key, base64 }, None)
        }
    };
    match (ask(global, Request::Name(request)).await?, to) {
        (Reply::Key { key, name }, None) => {
            let result = serde_json::json!({ "key": key, "name": name });
            output::print(global, &result, &name, || {})
        }
        (Reply::SecretKey { base64 }, Some(file)) => {
            let bytes = BASE64_STANDARD.decode(base64).map_err(Failure::new)?;
            secrets::write_new(&file, &bytes)?;
            let path = file.display().to_string();
            output::print(global, &serde_json::json!({ "file": path }), &path, || {})
        }
        _ => Err(unexpected()),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |why: String| Failure::new(format!("cannot read a key from {}: {why}", path.display()));
    let length = fs::metadata(path).map_err(|e| failed(e.to_string()))?.len();
    if length > MAX_KEY_FILE {
        return Err(failed(format!("{length} bytes exceed the maximum of {MAX_KEY_FILE}")));
    }
    fs::read(path).map_err(|e| failed(e.to_string()))
}
