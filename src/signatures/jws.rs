//! Envelopes of notation as JWS in its JSON form (RFC 7515, section 7.2.2).

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde::Deserialize;

use super::notation::{Algorithm, Envelope, KNOWN_CRITICAL, MAX_CERTIFICATES, PAYLOAD_TYPE, SCHEME};

#[derive(Deserialize)]
struct Jws {
    payload: String,
    protected: String,
    header: Unprotected,
    signature: String,
}

#[derive(Deserialize)]
struct Unprotected {
    x5c: Vec<String>,
}

#[derive(Deserialize)]
struct Protected {
    alg: String,
    #[serde(default)]
    crit: Vec<String>,
    cty: String,
    #[serde(rename = "io.cncf.notary.signingScheme")]
    scheme: String,
    #[serde(rename = "io.cncf.notary.expiry")]
    expiry: Option<String>,
}

/// Reads an envelope.
pub fn parse(json: &[u8]) -> Option<Envelope> {
    let Jws { payload, protected, header, signature } = serde_json::from_slice(json).ok()?;
    if header.x5c.len() > MAX_CERTIFICATES {
        return None;
    }
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
    let signed_bytes = format!("{protected}.{payload}").into_bytes();
    let protected: Protected = serde_json::from_slice(&decode(&protected)?).ok()?;
    let expires = match &protected.expiry {
        Some(text) => Some(seconds(text)?),
        None => None,
    };
    let is_known = protected.crit.iter().all(|name| KNOWN_CRITICAL.contains(&name.as_str()));
    let certificates: Option<_> = header.x5c.iter().map(|text| STANDARD.decode(text).ok()).collect();
    Some(Envelope {
        algorithm: algorithm(&protected.alg),
        is_understood: is_known && protected.cty == PAYLOAD_TYPE && protected.scheme == SCHEME,
        expires,
        certificates: certificates?,
        payload: decode(&payload)?,
        signed_bytes,
        signature: decode(&signature)?,
    })
}

fn algorithm(name: &str) -> Option<Algorithm> {
    Some(match name {
        "PS256" => Algorithm::Ps256,
        "PS384" => Algorithm::Ps384,
        "PS512" => Algorithm::Ps512,
        "ES256" => Algorithm::Es256,
        "ES384" => Algorithm::Es384,
        _ => return None,
    })
}

/// Seconds since 1970 of a time of RFC 3339.
fn seconds(text: &str) -> Option<u64> {
    let time = humantime::parse_rfc3339(text).ok()?;
    Some(time.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs())
}
