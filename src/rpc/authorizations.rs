//! Who may send which commands, as Kubo's `API.Authorizations` says it: a secret of each client, and the paths that it may use.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use ocipfs_oci::Digest;
use serde::Deserialize;

use crate::http::Stamp;

/// Every client that is known may ask for it.
const VERSION: &str = "/api/v0/version";
/// A longer file is not one of authorizations.
const MAX_BYTES: u64 = 1 << 20;
/// Between two looks at the file.
const RELOAD_INTERVAL: Duration = Duration::from_secs(1);

/// Why a file gives no authorizations.
#[derive(Debug, thiserror::Error)]
pub enum AuthorizationsError {
    /// It cannot be read.
    #[error("cannot read the authorizations in {path}: {why}")]
    Read {
        /// The file.
        path: String,
        /// Error of the operating system.
        why: std::io::Error,
    },
    /// It has another form.
    #[error("{path} is not the JSON of API.Authorizations: {why}")]
    Json {
        /// The file.
        path: String,
        /// Message of the parser.
        why: String,
    },
    /// A secret of another kind.
    #[error("{path}: the AuthSecret of {name:?} is neither bearer:TOKEN nor basic:USER:PASSWORD")]
    Secret {
        /// The file.
        path: String,
        /// The client.
        name: String,
    },
    /// It has no clients.
    #[error("{0} has no authorizations")]
    Empty(String),
}

/// What a client may do.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Scope {
    auth_secret: String,
    #[serde(default)]
    allowed_paths: Vec<String>,
}

/// What clients may do, by the digests of the headers that they send: a comparison tells nothing of a secret then.
#[derive(Debug, Default, PartialEq, Eq)]
struct Table(HashMap<Digest, (String, Scope)>);

/// Clients and what they may do. Clones share it.
#[derive(Clone)]
pub struct Authorizations(Arc<File>);

struct File {
    path: PathBuf,
    read: Mutex<Read>,
}

/// The file as it was last read.
struct Read {
    table: Arc<Table>,
    stamp: Option<Stamp>,
    looked: Instant,
    /// Why its newest content is not used.
    failing: Option<String>,
}

impl Authorizations {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, AuthorizationsError> {
        let stamp = Stamp::settled(path);
        let table = Arc::new(Table::read(path)?);
        let read = Read { table, stamp, looked: Instant::now(), failing: None };
        Ok(Self(Arc::new(File { path: path.into(), read: Mutex::new(read) })))
    }

    /// Reads the file again if it was changed; looks at most once a second.
    pub async fn refresh(&self) {
        let is_due = {
            let mut read = self.0.read.lock().unwrap_or_else(PoisonError::into_inner);
            let is_due = read.looked.elapsed() >= RELOAD_INTERVAL;
            read.looked = if is_due { Instant::now() } else { read.looked };
            is_due
        };
        if is_due {
            let authorizations = self.clone();
            let _ = tokio::task::spawn_blocking(move || authorizations.read_changed()).await;
        }
    }

    /// Keeps what it has where the file cannot be read: it may be half written.
    fn read_changed(&self) {
        let path = &self.0.path;
        let mut read = self.0.read.lock().unwrap_or_else(PoisonError::into_inner);
        if read.stamp.is_some() && read.stamp == Stamp::of(path) {
            return;
        }
        let stamp = Stamp::settled(path);
        match Table::read(path) {
            Ok(table) => {
                if *read.table != table {
                    tracing::info!(path = %path.display(), clients = table.0.len(), "reloaded the authorizations of the RPC");
                }
                (read.table, read.stamp, read.failing) = (Arc::new(table), stamp, None);
            }
            Err(error) => {
                let why = error.to_string();
                if read.failing.as_ref() != Some(&why) {
                    tracing::warn!(
                        "cannot reload the authorizations of the RPC, the previous ones stay: {why}"
                    );
                }
                (read.stamp, read.failing) = (None, Some(why));
            }
        }
    }

    /// Returns the name of the client that sends this `Authorization`, if it may use a path.
    pub fn allow(&self, header: &str, path: &str) -> Option<String> {
        let table = self.0.read.lock().unwrap_or_else(PoisonError::into_inner).table.clone();
        table.allows(header, path).map(String::from)
    }
}

impl Table {
    fn read(path: &Path) -> Result<Self, AuthorizationsError> {
        let name = path.display().to_string();
        let failed = |why| AuthorizationsError::Read { path: name.clone(), why };
        if std::fs::metadata(path).map_err(failed)?.len() > MAX_BYTES {
            return Err(AuthorizationsError::Json { path: name, why: "it is larger than 1 MiB".into() });
        }
        let json = std::fs::read(path).map_err(failed)?;
        Self::parse(&name, &json)
    }

    fn parse(path: &str, json: &[u8]) -> Result<Self, AuthorizationsError> {
        let path = || path.to_owned();
        let scopes: BTreeMap<String, Scope> = serde_json::from_slice(json)
            .map_err(|why| AuthorizationsError::Json { path: path(), why: why.to_string() })?;
        if scopes.is_empty() {
            return Err(AuthorizationsError::Empty(path()));
        }
        let mut table = HashMap::new();
        for (name, scope) in scopes {
            let header = header(&scope.auth_secret);
            let header =
                header.ok_or_else(|| AuthorizationsError::Secret { path: path(), name: name.clone() })?;
            table.insert(Digest::sha256_of(header.as_bytes()), (name, scope));
        }
        Ok(Self(table))
    }

    fn allows(&self, header: &str, path: &str) -> Option<&str> {
        let (name, scope) = self.0.get(&Digest::sha256_of(header.as_bytes()))?;
        let is_allowed = path == VERSION || scope.allowed_paths.iter().any(|allowed| is_below(path, allowed));
        is_allowed.then_some(name)
    }
}

/// The `Authorization` of a secret; none of an empty or unknown one.
fn header(secret: &str) -> Option<String> {
    match secret.split_once(':') {
        None => (!secret.is_empty()).then(|| format!("Bearer {secret}")),
        Some((_, "")) => None,
        Some(("bearer", token)) => Some(format!("Bearer {token}")),
        Some(("basic", pair)) if pair.contains(':') => {
            Some(format!("Basic {}", BASE64_STANDARD.encode(pair)))
        }
        Some(("basic", encoded)) => Some(format!("Basic {encoded}")),
        Some(_) => None,
    }
}

/// Whether a path is another one, or below it.
fn is_below(path: &str, above: &str) -> bool {
    let above = above.trim_end_matches('/');
    path.strip_prefix(above)
        .is_some_and(|rest| !above.is_empty() && (rest.is_empty() || rest.starts_with('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Table, AuthorizationsError> {
        Table::parse("file", json.as_bytes())
    }

    #[test]
    fn authorizations_allow_the_paths_of_their_secret() {
        let table = parse(
            r#"{
                "all": { "AuthSecret": "bearer:one", "AllowedPaths": ["/api/v0"] },
                "some": { "AuthSecret": "basic:me:secret", "AllowedPaths": ["/api/v0/pin", "/api/v0/id"] },
                "encoded": { "AuthSecret": "basic:bWU6b3RoZXI=", "AllowedPaths": ["/api/v0/cat/"] },
                "plain": { "AuthSecret": "two" }
            }"#,
        )
        .unwrap();
        for (header, path, allowed) in [
            ("Bearer one", "/api/v0/add", true),
            ("Bearer one", "/api/v0", true),
            ("Bearer one", "/api/v1/add", false),
            ("bearer one", "/api/v0/add", false),
            ("Bearer two", "/api/v0/add", false),
            ("Bearer two", "/api/v0/version", true),
            ("Bearer three", "/api/v0/version", false),
            ("Basic bWU6c2VjcmV0", "/api/v0/pin/ls", true),
            ("Basic bWU6c2VjcmV0", "/api/v0/id", true),
            ("Basic bWU6c2VjcmV0", "/api/v0/identity", false),
            ("Basic bWU6b3RoZXI=", "/api/v0/cat", true),
            ("", "/api/v0/version", false),
        ] {
            assert_eq!(table.allows(header, path).is_some(), allowed, "{header} {path}");
        }
    }

    #[test]
    fn a_file_that_gives_no_authorizations_is_refused() {
        for (json, told) in [
            ("{}", "no authorizations"),
            ("[]", "not the JSON"),
            (r#"{"a":{"AuthSecret":""}}"#, "AuthSecret of \"a\""),
            (r#"{"a":{"AuthSecret":"bearer:"}}"#, "AuthSecret of \"a\""),
            (r#"{"a":{"AuthSecret":"digest:x"}}"#, "AuthSecret of \"a\""),
            (r#"{"a":{"AuthSecret":"x","AllowedPath":[]}}"#, "unknown field"),
            (r#"{"a":{"AllowedPaths":[]}}"#, "missing field"),
        ] {
            let error = parse(json).unwrap_err().to_string();
            assert!(error.contains(told), "{json}: {error}");
        }
    }
}
