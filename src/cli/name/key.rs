use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use clap::Subcommand;

use crate::{
    cli::{Exit, Global, ask, output, unexpected},
    control::{Failure, NameRequest, Reply, Request},
};

/// A key is a few hundred bytes.
const LONGEST: u64 = 64 << 10;

/// The keys of names: whoever has one can say what its name means
#[derive(Debug, Subcommand)]
pub enum Key {
    /// Make a key; its name is printed last
    New {
        /// What it is called here
        key: String,
    },
    /// Write a key into a file that `ocipfs name key import` and `ipfs key import` read (libp2p-protobuf-cleartext)
    Export {
        /// What it is called here; `self` is the node's own
        key: String,
        /// A new file, which others should not see
        file: PathBuf,
    },
    /// Take a key that was exported here or by Kubo; its name is printed last
    Import {
        /// What it is to be called here
        key: String,
        /// The file
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
            write(&file, &bytes)?;
            let path = file.display().to_string();
            output::print(global, &serde_json::json!({ "file": path }), &path, || {})
        }
        _ => Err(unexpected()),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |why: String| Failure::new(format!("cannot read a key from {}: {why}", path.display()));
    let length = fs::metadata(path).map_err(|e| failed(e.to_string()))?.len();
    if length > LONGEST {
        return Err(failed(format!("it has {length} bytes, and no key has more than {LONGEST}")));
    }
    fs::read(path).map_err(|e| failed(e.to_string()))
}

/// Writes a file that nobody else may read, and none that is there.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let failed = |e: io::Error| {
        Failure::new(format!("cannot write the key to {}: {e}", path.display())).hint("name a new file")
    };
    let mut file =
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)
}
