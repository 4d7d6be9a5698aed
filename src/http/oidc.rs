//! Tokens of other issuers, in place of passwords: <https://openid.net/specs/openid-connect-core-1_0.html>, section 3.1.3.7.
//!
//! A token is verified once: what it says is remembered under its hash until it expires. Which user that is, the access rules
//! say each time.

mod keys;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use ocipfs_oci::Digest;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::access::{Oidc, User};
use keys::IssuerKeys;

/// Verified tokens that are remembered.
const CACHE_ENTRIES: usize = 1_000;
/// Bytes of a token: those of CI systems have some 2,000.
const MAX_TOKEN_BYTES: usize = 16 << 10;
/// By which clocks may differ, in seconds.
const LEEWAY: u64 = 30;
/// Signatures whose keys an issuer can publish.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// Why a token stands for no user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is not signed as it says, or expired, or for another service.
    #[error("invalid token of another issuer: {0}")]
    Invalid(String),
    /// The rules name no such issuer.
    #[error("the access rules name no issuer {0:?}")]
    UnknownIssuer(String),
    /// The keys of the issuer could not be fetched.
    #[error("cannot fetch the keys of {issuer}: {why}")]
    Keys {
        /// The issuer.
        issuer: String,
        /// What failed.
        why: String,
    },
}

/// A user, as the token of another issuer says, and until when, in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OidcLogin {
    /// The user.
    pub user: User,
    /// When the token expires.
    pub expires: u64,
}

/// Verifies tokens. Clones share what is remembered.
#[derive(Clone, Default)]
pub struct OidcVerifier(Arc<Inner>);

#[derive(Default)]
struct Inner {
    keys: Mutex<HashMap<String, Arc<IssuerKeys>>>,
    verified: Mutex<HashMap<Digest, Verified>>,
}

/// What a valid token says, and against which issuer and audience it was verified.
#[derive(Clone)]
struct Verified {
    issuer: String,
    audience: String,
    claims: Arc<Map<String, Value>>,
    expires: u64,
}

/// The claims that say whose token it is.
#[derive(Deserialize)]
struct Issued {
    iss: String,
}

#[derive(Deserialize)]
struct Claims {
    exp: u64,
    #[serde(flatten)]
    all: Map<String, Value>,
}

/// Whether a text has the form of such a token.
pub fn is_token(text: &str) -> bool {
    text.starts_with("eyJ") && text.bytes().filter(|byte| *byte == b'.').count() == 2
}

impl OidcVerifier {
    /// Returns the user that a token stands for at a time, in seconds since 1970.
    pub async fn login(&self, issuers: &[Oidc], token: &str, now: u64) -> Result<OidcLogin, Error> {
        let hash = Digest::sha256_of(token.as_bytes());
        let known = locked(&self.0.verified).get(&hash).filter(|known| now < known.expires).cloned();
        let current = |known: &Verified| {
            issuers.iter().any(|of| of.issuer == known.issuer && of.audience == known.audience)
        };
        let verified = match known.filter(current) {
            Some(known) => known,
            None => {
                let verified = self.verify(issuers, token).await?;
                self.remember(hash, verified.clone(), now);
                verified
            }
        };
        let mut refused = String::new();
        for of in issuers.iter().filter(|of| of.issuer == verified.issuer && of.audience == verified.audience)
        {
            match of.user_of(&verified.claims) {
                Ok(user) => return Ok(OidcLogin { user, expires: verified.expires }),
                Err(why) => refused = why,
            }
        }
        Err(Error::Invalid(refused))
    }

    /// Verifies a token by the keys of its issuer.
    async fn verify(&self, issuers: &[Oidc], token: &str) -> Result<Verified, Error> {
        let invalid = |why: &dyn std::fmt::Display| Error::Invalid(why.to_string());
        if token.len() > MAX_TOKEN_BYTES {
            return Err(invalid(&format!("{} bytes exceed the limit of {MAX_TOKEN_BYTES}", token.len())));
        }
        let header = decode_header(token).map_err(|error| invalid(&error))?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(invalid(&format!("the algorithm {:?} is not supported", header.alg)));
        }
        let named = issuer_of(token).ok_or_else(|| invalid(&"it names no issuer"))?;
        let mut refused = Error::UnknownIssuer(named.clone());
        for of in issuers.iter().filter(|of| of.issuer == named) {
            let key = self.keys(of).key(header.kid.as_deref(), header.alg).await?;
            match check(token, of, &key, header.alg) {
                Ok(verified) => return Ok(verified),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    fn keys(&self, of: &Oidc) -> Arc<IssuerKeys> {
        let mut all = locked(&self.0.keys);
        // As many as the rules name; those of issuers that they name no longer are few.
        let name = format!("{} {}", of.issuer, of.jwks.as_deref().unwrap_or_default());
        all.entry(name).or_insert_with(|| Arc::new(IssuerKeys::new(of))).clone()
    }

    fn remember(&self, hash: Digest, verified: Verified, now: u64) {
        let mut all = locked(&self.0.verified);
        if all.len() >= CACHE_ENTRIES {
            all.retain(|_, known| now < known.expires);
        }
        if all.len() >= CACHE_ENTRIES {
            all.clear();
        }
        all.insert(hash, verified);
    }
}

/// Checks the signature, the times, the issuer and the audience of a token.
fn check(token: &str, of: &Oidc, key: &DecodingKey, algorithm: Algorithm) -> Result<Verified, Error> {
    let mut validation = Validation::new(algorithm);
    validation.set_issuer(&[&of.issuer]);
    validation.set_audience(&[&of.audience]);
    validation.set_required_spec_claims(&["exp", "iss", "aud"]);
    validation.validate_nbf = true;
    validation.leeway = LEEWAY;
    let decoded = decode::<Claims>(token, key, &validation);
    let Claims { exp, all } = decoded.map_err(|error| Error::Invalid(error.to_string()))?.claims;
    Ok(Verified {
        issuer: of.issuer.clone(),
        audience: of.audience.clone(),
        claims: Arc::new(all),
        expires: exp.saturating_add(LEEWAY),
    })
}

/// Returns the issuer that a token names, whether or not it is from there.
fn issuer_of(token: &str) -> Option<String> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    Some(serde_json::from_slice::<Issued>(&payload).ok()?.iss)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_an_oidc_token_is_told_from_passwords() {
        for (text, expected) in [
            ("eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJ4In0.c2ln", true),
            ("eyJ.x", false),
            ("a.b.c", false),
            ("", false),
        ] {
            assert_eq!(is_token(text), expected, "{text}");
        }
        assert_eq!(issuer_of("eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJ4In0.c2ln").as_deref(), Some("x"));
    }

    #[tokio::test]
    async fn oidc_tokens_with_symmetric_algorithms_or_unknown_issuers_are_rejected() {
        let of: Oidc = toml::from_str("issuer = 'https://i.example'\naudience = 'a'").unwrap();
        let key = jsonwebtoken::EncodingKey::from_secret(b"x");
        let header = jsonwebtoken::Header::new(Algorithm::HS256);
        let claims = serde_json::json!({ "iss": "https://i.example", "aud": "a", "exp": 9_999_999_999_u64 });
        let token = jsonwebtoken::encode(&header, &claims, &key).unwrap();
        let verifier = OidcVerifier::default();
        let error = verifier.login(&[of], &token, 0).await.unwrap_err();
        assert!(error.to_string().contains("HS256"), "{error}");
        let other = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJ4In0.c2ln";
        assert_eq!(verifier.login(&[], other, 0).await.unwrap_err(), Error::UnknownIssuer("x".into()));
    }
}
