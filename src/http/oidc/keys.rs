//! The public keys of an issuer, fetched when a token of it comes: <https://www.rfc-editor.org/rfc/rfc7517>.

use std::time::{Duration, Instant};

use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, Jwk, JwkSet},
};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::{sync::Mutex, time::timeout};

use super::Error;
use crate::{access::Oidc, http_client};

/// How long keys are used before they are fetched again.
const LIFETIME: Duration = Duration::from_secs(3600);
/// How long keys are used where the issuer does not answer.
const STALE_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Between two fetches, whatever key a token names.
const MIN_INTERVAL: Duration = Duration::from_secs(10);
/// For both documents together.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_BYTES: usize = 1 << 20;

/// The keys of one issuer.
pub struct IssuerKeys {
    issuer: String,
    jwks: Option<String>,
    /// Locked while they are fetched: the tokens that come meanwhile wait for the same answer.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    keys: Option<(JwkSet, Instant)>,
    tried: Option<Instant>,
    failing: String,
}

/// The part of an issuer's configuration that is read.
#[derive(Deserialize)]
struct Configuration {
    issuer: String,
    jwks_uri: String,
}

impl IssuerKeys {
    pub fn new(of: &Oidc) -> Self {
        Self { issuer: of.issuer.clone(), jwks: of.jwks.clone(), state: Mutex::default() }
    }

    /// Returns the key that a token names.
    pub async fn key(&self, id: Option<&str>, algorithm: Algorithm) -> Result<DecodingKey, Error> {
        let mut state = self.state.lock().await;
        let is_fresh = state.keys.as_ref().is_some_and(|(_, since)| since.elapsed() < LIFETIME);
        let has_key = state.keys.as_ref().is_some_and(|(keys, _)| find(keys, id, algorithm).is_some());
        let may_fetch = state.tried.is_none_or(|tried| tried.elapsed() >= MIN_INTERVAL);
        if (!is_fresh || !has_key) && may_fetch {
            state.tried = Some(Instant::now());
            match timeout(FETCH_TIMEOUT, self.fetch()).await.unwrap_or_else(|_| Err("timed out".into())) {
                Ok(keys) => (state.keys, state.failing) = (Some((keys, Instant::now())), String::new()),
                Err(why) => {
                    tracing::warn!(issuer = %self.issuer, "cannot fetch the keys of an issuer: {why}");
                    state.failing = why;
                }
            }
        }
        let keys = state.keys.as_ref().filter(|(_, since)| since.elapsed() < STALE_LIFETIME);
        let failed = |why: &str| Error::Keys { issuer: self.issuer.clone(), why: why.into() };
        let (keys, _) = keys.ok_or_else(|| failed(&state.failing))?;
        let key = find(keys, id, algorithm).ok_or_else(|| failed("the token names another key"))?;
        DecodingKey::from_jwk(key).map_err(|error| failed(&error.to_string()))
    }

    async fn fetch(&self) -> Result<JwkSet, String> {
        let client = http_client::new().map_err(|error| error.to_string())?;
        if let Some(jwks) = &self.jwks {
            return get(&client, jwks).await;
        }
        let url = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let configuration: Configuration = get(&client, &url).await?;
        if configuration.issuer != self.issuer {
            return Err(format!("{url} is of the issuer {:?}", configuration.issuer));
        }
        get(&client, &configuration.jwks_uri).await
    }
}

/// Returns the key with this ID that is of the kind of the algorithm; without an ID, the only such key.
fn find<'a>(keys: &'a JwkSet, id: Option<&str>, algorithm: Algorithm) -> Option<&'a Jwk> {
    let mut fitting = keys.keys.iter().filter(|key| fits(key, algorithm));
    match id {
        Some(id) => fitting.find(|key| key.common.key_id.as_deref() == Some(id)),
        None => fitting.next().filter(|_| fitting.next().is_none()),
    }
}

fn fits(key: &Jwk, algorithm: Algorithm) -> bool {
    let is_ec = matches!(algorithm, Algorithm::ES256 | Algorithm::ES384);
    match &key.algorithm {
        AlgorithmParameters::EllipticCurve(_) => is_ec,
        AlgorithmParameters::OctetKeyPair(_) => algorithm == Algorithm::EdDSA,
        AlgorithmParameters::RSA(_) => !is_ec && algorithm != Algorithm::EdDSA,
        AlgorithmParameters::OctetKey(_) => false,
    }
}

/// Reads a JSON document of some kilobytes, over TLS but from this machine.
async fn get<T: DeserializeOwned>(client: &reqwest::Client, url: &str) -> Result<T, String> {
    let parsed: reqwest::Url = url.parse().map_err(|error| format!("invalid URL {url:?}: {error}"))?;
    let is_local = matches!(parsed.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
    if parsed.scheme() != "https" && !(parsed.scheme() == "http" && is_local) {
        return Err(format!("invalid URL {url:?}: expected https"));
    }
    let answer = client.get(parsed).send().await.and_then(reqwest::Response::error_for_status);
    let mut answer = answer.map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    while let Some(part) = answer.chunk().await.map_err(|error| error.to_string())? {
        bytes.extend_from_slice(&part);
        if bytes.len() > MAX_BYTES {
            return Err(format!("{url} exceeds the limit of {MAX_BYTES} bytes"));
        }
    }
    serde_json::from_slice(&bytes).map_err(|error| format!("{url} is not the expected JSON: {error}"))
}
