//! Envelopes of notation as COSE_Sign1 (RFC 9052, section 4.2).

use ciborium::Value;

use super::notation::{Algorithm, Envelope, KNOWN_CRITICAL, MAX_CERTIFICATES, PAYLOAD_TYPE, SCHEME};

/// The tag of a COSE_Sign1.
const SIGN1: u64 = 18;
/// The tag of a time in seconds since 1970.
const TIME: u64 = 1;
/// Keys of headers.
const ALGORITHM: i128 = 1;
const CRITICAL: i128 = 2;
const CONTENT_TYPE: i128 = 3;
const X5CHAIN: i128 = 33;
/// Values within each other.
const MAX_DEPTH: usize = 8;

/// Reads an envelope.
pub fn parse(bytes: &[u8]) -> Option<Envelope> {
    let Value::Tag(SIGN1, parts) = read(bytes)? else { return None };
    let [protected, unprotected, payload, signature] =
        <[Value; 4]>::try_from(parts.into_array().ok()?).ok()?;
    let protected_bytes = protected.into_bytes().ok()?;
    let headers = Headers(read(&protected_bytes)?.into_map().ok()?);
    let unprotected = Headers(unprotected.into_map().ok()?);
    let (payload, signature) = (payload.into_bytes().ok()?, signature.into_bytes().ok()?);
    let is_understood = headers.knows_critical()
        && headers.text_of(CONTENT_TYPE) == Some(PAYLOAD_TYPE)
        && headers.named("io.cncf.notary.signingScheme").and_then(Value::as_text) == Some(SCHEME);
    let expires = match headers.named("io.cncf.notary.expiry") {
        Some(Value::Tag(TIME, seconds)) => Some(u64::try_from(seconds.as_integer()?).ok()?),
        Some(_) => return None,
        None => None,
    };
    Some(Envelope {
        algorithm: headers.algorithm(),
        is_understood,
        expires,
        certificates: unprotected.certificates()?,
        signed_bytes: signed_bytes(&protected_bytes, &payload)?,
        payload,
        signature,
    })
}

/// Reads one value that is all of the bytes.
fn read(mut bytes: &[u8]) -> Option<Value> {
    let value = ciborium::de::from_reader_with_recursion_limit(&mut bytes, MAX_DEPTH).ok()?;
    bytes.is_empty().then_some(value)
}

/// The Sig_structure.
fn signed_bytes(protected: &[u8], payload: &[u8]) -> Option<Vec<u8>> {
    let bytes = |bytes: &[u8]| Value::Bytes(bytes.to_vec());
    let parts = vec![Value::Text("Signature1".into()), bytes(protected), bytes(&[]), bytes(payload)];
    let mut written = Vec::new();
    ciborium::into_writer(&Value::Array(parts), &mut written).ok()?;
    Some(written)
}

struct Headers(Vec<(Value, Value)>);

impl Headers {
    fn get(&self, key: &Value) -> Option<&Value> {
        self.0.iter().find(|(own, _)| own == key).map(|(_, value)| value)
    }

    fn at(&self, key: i128) -> Option<&Value> {
        let key = ciborium::value::Integer::try_from(key).ok()?;
        self.get(&Value::Integer(key))
    }

    fn named(&self, key: &str) -> Option<&Value> {
        self.get(&Value::Text(key.into()))
    }

    fn text_of(&self, key: i128) -> Option<&str> {
        self.at(key)?.as_text()
    }

    fn algorithm(&self) -> Option<Algorithm> {
        let number = i128::from(self.at(ALGORITHM)?.as_integer()?);
        Some(match number {
            -37 => Algorithm::Ps256,
            -38 => Algorithm::Ps384,
            -39 => Algorithm::Ps512,
            -7 => Algorithm::Es256,
            -35 => Algorithm::Es384,
            _ => return None,
        })
    }

    fn knows_critical(&self) -> bool {
        let is_known = |name: &Value| name.as_text().is_some_and(|name| KNOWN_CRITICAL.contains(&name));
        let is_content_type = |name: &Value| name.as_integer().map(i128::from) == Some(CONTENT_TYPE);
        match self.at(CRITICAL) {
            Some(Value::Array(names)) => names.iter().all(|name| is_known(name) || is_content_type(name)),
            Some(_) => false,
            None => true,
        }
    }

    /// The chain, or one certificate alone; none if there are too many.
    fn certificates(&self) -> Option<Vec<Vec<u8>>> {
        match self.at(X5CHAIN)? {
            Value::Bytes(one) => Some(vec![one.clone()]),
            Value::Array(all) if all.len() <= MAX_CERTIFICATES => {
                all.iter().map(|one| one.as_bytes().cloned()).collect()
            }
            _ => None,
        }
    }
}
