//! Who may send which commands, as Kubo's `API.Authorizations` says it: a secret of each client, and the paths that it may use.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use ocipfs_oci::Digest;
use serde::Deserialize;

use crate::http::reloaded::{Reload, Reloaded};

/// Every client that is known may ask for it.
const VERSION: &str = "/api/v0/version";
/// A longer file is not one of authorizations.
const MAX_BYTES: u64 = 1 << 20;

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
struct RpcScope {
    auth_secret: String,
    #[serde(default)]
    allowed_paths: Vec<String>,
}

/// What clients may do, by the digests of the headers that they send: a comparison tells nothing of a secret then.
#[derive(Debug, Default, PartialEq, Eq)]
struct Table(HashMap<Digest, (String, RpcScope)>);

/// Clients and what they may do. Clones share it.
#[derive(Clone)]
pub struct Authorizations(Reloaded<Table>);

impl Authorizations {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, AuthorizationsError> {
        Reloaded::read("the authorizations of the RPC", path, Table::read).map(Self)
    }

    /// Reads the file again if it was changed; looks at most once a second.
    pub async fn refresh(&self) {
        self.0.refresh().await;
    }

    /// Returns the file, to be read again on SIGHUP.
    pub(crate) fn file(&self) -> Box<dyn Reload> {
        Box::new(self.0.clone())
    }

    /// Returns the name of the client that sends this `Authorization`, if it may use a path.
    pub fn allow(&self, header: &str, path: &str) -> Option<String> {
        self.0.get().allows(header, path).map(String::from)
    }

    /// Whether this `Authorization` is of a client, whatever it may do.
    pub fn knows(&self, header: &str) -> bool {
        // Every client may ask for the version.
        self.0.get().allows(header, VERSION).is_some()
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
        let scopes: BTreeMap<String, RpcScope> = serde_json::from_slice(json)
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
