//! The file of policies, as TOML, with the files of keys that it names.

use std::collections::BTreeMap;

use ocipfs_oci::{Algorithm, Hasher};
use serde::Deserialize;

use super::{
    certificates::TrustStore,
    key::PublicKey,
    policy::{Policies, SignaturePolicy},
    signer::Key,
    spelling::canonical,
    verdict::Require,
};
use crate::access::Pattern;

/// A file of policies, or of a key, is smaller.
pub const MAX_POLICY_BYTES: u64 = 1 << 20;
/// Keys and trust stores of one file.
const MAX_KEYS: usize = 64;

/// Why a text gives no policies.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is not TOML of the known form.
    #[error("line {line}: {why}")]
    Toml {
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        why: String,
    },
    /// A key has neither form, or both.
    #[error("key {0:?} needs either `cosign` (a public key) or `notation` (files of certificates)")]
    Kind(String),
    /// A key cannot be read.
    #[error("key {name:?}: {why}")]
    Key {
        /// Its name in the file.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// A policy names a key that the file does not have.
    #[error("policy {policy} names an unknown key {key:?}: expected one of the table [keys]")]
    UnknownKey {
        /// The number of the policy, from 1.
        policy: usize,
        /// The name of the key.
        key: String,
    },
    /// A policy without repositories or without keys says nothing.
    #[error("policy {0} needs at least one entry in `repositories` and one in `keys`")]
    Empty(usize),
    /// More keys than a file may have.
    #[error("{0} keys exceed the limit of {MAX_KEYS}")]
    TooMany(usize),
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct File {
    #[serde(default)]
    keys: BTreeMap<String, KeyRow>,
    #[serde(default, rename = "policy")]
    policies: Vec<PolicyRow>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct KeyRow {
    cosign: Option<String>,
    notation: Option<Vec<String>>,
    #[serde(default)]
    identities: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct PolicyRow {
    repositories: Vec<Pattern>,
    keys: Vec<String>,
    #[serde(default)]
    require: Require,
}

impl Policies {
    /// Reads a text; `load` reads the files of keys.
    pub fn parse(text: &str, load: impl Fn(&str) -> Result<Vec<u8>, String>) -> Result<Self, Error> {
        let File { keys: rows, policies } = toml::from_str(text).map_err(|error| invalid(text, &error))?;
        if rows.len() > MAX_KEYS {
            return Err(Error::TooMany(rows.len()));
        }
        let mut source = Hasher::new(Algorithm::Sha256);
        source.update(text.as_bytes());
        let mut keys = Vec::new();
        for (name, row) in rows {
            let load = |file: &str| load(file).map_err(|why| Error::Key { name: name.clone(), why });
            let key = key(&name, row, load, &mut source)?;
            keys.push((name, key));
        }
        let numbered = policies.into_iter().enumerate();
        let policies = numbered.map(|(at, row)| policy(at + 1, row, &keys)).collect::<Result<_, _>>()?;
        Ok(Self::new(source.finish(), keys, policies))
    }
}

fn key(
    name: &str,
    KeyRow { cosign, notation, identities }: KeyRow,
    load: impl Fn(&str) -> Result<Vec<u8>, Error>,
    source: &mut Hasher,
) -> Result<Key, Error> {
    let wrong = |why: String| Error::Key { name: name.into(), why };
    match (cosign, notation) {
        (Some(file), None) if identities.is_empty() => {
            // The key itself may stand in the file.
            let pem = if file.contains("-----BEGIN") { file.into_bytes() } else { load(&file)? };
            source.update(&pem);
            Ok(Key::Cosign(PublicKey::from_pem(&pem).map_err(|error| wrong(error.to_string()))?))
        }
        (None, Some(files)) => {
            let pems = files.iter().map(|file| load(file)).collect::<Result<Vec<_>, _>>()?;
            pems.iter().for_each(|pem| source.update(pem));
            let store = TrustStore::new(pems.iter().map(Vec::as_slice), &identities);
            Ok(Key::Notation(store.map_err(wrong)?))
        }
        _ => Err(Error::Kind(name.into())),
    }
}

fn policy(number: usize, row: PolicyRow, keys: &[(String, Key)]) -> Result<SignaturePolicy, Error> {
    let PolicyRow { repositories, keys: names, require } = row;
    if repositories.is_empty() || names.is_empty() {
        return Err(Error::Empty(number));
    }
    let number_of = |key: String| {
        let found = keys.iter().position(|(name, _)| *name == key);
        found.ok_or(Error::UnknownKey { policy: number, key })
    };
    let keys = names.into_iter().map(number_of).collect::<Result<_, _>>()?;
    // What is asked for is compared in one spelling, too; one of a CID or a key is a valid pattern.
    let spelled =
        repositories.iter().filter_map(|pattern| canonical(pattern.as_str()).parse::<Pattern>().ok());
    let others: Vec<_> = spelled.filter(|spelled| !repositories.contains(spelled)).collect();
    let repositories = [repositories, others].concat();
    Ok(SignaturePolicy::new(repositories, require, keys))
}

fn invalid(text: &str, error: &toml::de::Error) -> Error {
    let start = error.span().map_or(0, |span| span.start.min(text.len()));
    let line = text.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count() + 1;
    Error::Toml { line, why: error.message().lines().collect::<Vec<_>>().join(" ") }
}
