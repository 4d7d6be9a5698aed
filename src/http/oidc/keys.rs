//! The public keys of an issuer, fetched when a token of it comes: <https://www.rfc-editor.org/rfc/rfc7517>.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, Jwk, JwkSet},
};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::{sync::Mutex as AsyncMutex, time::timeout};

use super::Error;
use crate::{
    access::Oidc,
    http_client::{self, Transport},
};

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
    state: Mutex<State>,
    /// Locked while they are fetched: tokens whose key is not known wait for the same answer, and others do not.
    fetching: AsyncMutex<()>,
}

#[derive(Default)]
struct State {
    keys: Option<(JwkSet, Instant)>,
    tried: Option<Instant>,
    failing: String,
}

impl State {
    /// Returns a key that needs no fetch before it is used.
    fn fresh(&self, id: Option<&str>, algorithm: Algorithm) -> Option<&Jwk> {
        let (keys, since) = self.keys.as_ref()?;
        find(keys, id, algorithm).filter(|_| since.elapsed() < LIFETIME)
    }

    fn may_fetch(&self) -> bool {
        self.tried.is_none_or(|tried| tried.elapsed() >= MIN_INTERVAL)
    }
}

/// The part of an issuer's configuration that is read.
#[derive(Deserialize)]
struct Configuration {
    issuer: String,
    jwks_uri: String,
}

impl IssuerKeys {
    pub fn new(of: &Oidc) -> Self {
        let (issuer, jwks) = (of.issuer.clone(), of.jwks.clone());
        Self { issuer, jwks, state: Mutex::default(), fetching: AsyncMutex::default() }
    }

    /// Returns the key that a token names. Only where it is not known, or not for long enough, the keys are fetched.
    pub async fn key(&self, id: Option<&str>, algorithm: Algorithm) -> Result<DecodingKey, Error> {
        let must_fetch = {
            let state = self.state();
            state.fresh(id, algorithm).is_none() && (state.may_fetch() || self.fetching.try_lock().is_err())
        };
        if must_fetch {
            self.refresh(id, algorithm).await;
        }
        let state = self.state();
        let keys = state.keys.as_ref().filter(|(_, since)| since.elapsed() < STALE_LIFETIME);
        let failed = |why: &str| Error::Keys { issuer: self.issuer.clone(), why: why.into() };
        let (keys, _) = keys.ok_or_else(|| failed(&state.failing))?;
        let key = find(keys, id, algorithm).ok_or_else(|| failed("the token names another key"))?;
        DecodingKey::from_jwk(key).map_err(|error| failed(&error.to_string()))
    }

    /// Fetches the keys, or waits until another token has had them fetched.
    async fn refresh(&self, id: Option<&str>, algorithm: Algorithm) {
        let _fetching = self.fetching.lock().await;
        {
            let mut state = self.state();
            if state.fresh(id, algorithm).is_some() || !state.may_fetch() {
                return;
            }
            state.tried = Some(Instant::now());
        }
        let fetched = timeout(FETCH_TIMEOUT, self.fetch()).await.unwrap_or_else(|_| Err("timed out".into()));
        let mut state = self.state();
        // Those that have waited do not fetch again after a time-out.
        state.tried = Some(Instant::now());
        match fetched {
            Ok(keys) => (state.keys, state.failing) = (Some((keys, Instant::now())), String::new()),
            Err(why) => {
                tracing::warn!(issuer = %self.issuer, "cannot fetch the keys of an issuer: {why}");
                state.failing = why;
            }
        }
    }

    async fn fetch(&self) -> Result<JwkSet, String> {
        // As the URL that the access rules name, whatever URLs follow from what it answers.
        let transport = transport(self.jwks.as_deref().unwrap_or(&self.issuer));
        let client = http_client::for_transport(transport).map_err(|error| error.to_string())?;
        if let Some(jwks) = &self.jwks {
            return get(&client, jwks, transport).await;
        }
        let url = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let configuration: Configuration = get(&client, &url, transport).await?;
        if configuration.issuer != self.issuer {
            return Err(format!("{url} is of the issuer {:?}", configuration.issuer));
        }
        get(&client, &configuration.jwks_uri, transport).await
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How the documents of an issuer come: only one on this machine may do without TLS.
fn transport(configured: &str) -> Transport {
    let is_local = configured.parse::<reqwest::Url>().is_ok_and(|url| is_on_loopback(&url));
    if is_local { Transport::Any } else { Transport::Tls }
}

fn is_on_loopback(url: &reqwest::Url) -> bool {
    matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"))
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

/// Whether a document may be read from a URL: over TLS, or from this machine where the issuer is there, too.
fn may_be_read(url: &reqwest::Url, transport: Transport) -> bool {
    match url.scheme() {
        "https" => true,
        "http" => transport == Transport::Any && is_on_loopback(url),
        _ => false,
    }
}

/// Reads a JSON document of some kilobytes.
async fn get<T: DeserializeOwned>(
    client: &reqwest::Client,
    url: &str,
    transport: Transport,
) -> Result<T, String> {
    let parsed: reqwest::Url = url.parse().map_err(|error| format!("invalid URL {url:?}: {error}"))?;
    if !may_be_read(&parsed, transport) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn ed25519(id: &str) -> JwkSet {
        let key = serde_json::json!({ "kty": "OKP", "crv": "Ed25519", "kid": id,
            "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" });
        serde_json::from_value(serde_json::json!({ "keys": [key] })).unwrap()
    }

    fn keys_of(issuer: &str) -> IssuerKeys {
        let of: Oidc = toml::from_str(&format!("issuer = '{issuer}'\naudience = 'a'")).unwrap();
        IssuerKeys::new(&of)
    }

    #[test]
    fn only_an_issuer_on_this_machine_has_documents_without_tls() {
        for (issuer, url, expected) in [
            ("https://i.example", "https://keys.example/a", true),
            ("https://i.example", "http://keys.example/a", false),
            ("https://i.example", "http://127.0.0.1/a", false),
            ("https://i.example", "http://localhost:9/a", false),
            ("http://i.example", "http://i.example/a", false),
            ("http://127.0.0.1.example", "http://127.0.0.1/a", false),
            ("http://127.0.0.1:9", "http://127.0.0.1:9/a", true),
            ("http://[::1]:9", "http://localhost/a", true),
            ("http://localhost", "http://i.example/a", false),
            ("http://localhost", "ftp://localhost/a", false),
            ("no URL", "http://localhost/a", false),
        ] {
            let found = may_be_read(&url.parse().unwrap(), transport(issuer));
            assert_eq!(found, expected, "{issuer} {url}");
        }
    }

    #[tokio::test]
    async fn a_known_key_is_found_while_keys_are_fetched_for_another() {
        let keys = keys_of("https://i.example");
        keys.state().keys = Some((ed25519("one"), Instant::now()));
        let fetching = keys.fetching.lock().await;
        assert!(keys.key(Some("one"), Algorithm::EdDSA).await.is_ok());
        // An unknown one waits for that fetch, and has none of its own soon after it.
        keys.state().tried = Some(Instant::now());
        let other = keys.key(Some("two"), Algorithm::EdDSA);
        let fetched = async {
            tokio::task::yield_now().await;
            keys.state().keys = Some((ed25519("two"), Instant::now()));
            drop(fetching);
        };
        assert!(tokio::join!(other, fetched).0.is_ok());
        let error = keys.key(Some("three"), Algorithm::EdDSA).await.err().unwrap();
        assert!(error.to_string().contains("another key"), "{error}");
    }
}
