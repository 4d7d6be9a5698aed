//! The digests in a document of a kind that is not known.

use std::fmt;

use ocipfs_oci::Digest;
use serde::{
    Deserializer,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
};

/// Returns the digests of all descriptors in a JSON document, wherever they are; none where it is not JSON.
pub fn digests_in(json: &[u8]) -> Vec<Digest> {
    let mut found = Vec::new();
    let mut json = serde_json::Deserializer::from_slice(json);
    let value = Value { found: &mut found, is_digest: false };
    match value.deserialize(&mut json).and_then(|()| json.end()) {
        Ok(()) => found,
        Err(_) => Vec::new(),
    }
}

/// Any value, of which only digests are kept.
struct Value<'a> {
    found: &'a mut Vec<Digest>,
    /// Whether it is the `digest` of an object.
    is_digest: bool,
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        while let Some(key) = fields.next_key::<String>()? {
            fields.next_value_seed(Value { found: self.found, is_digest: key == "digest" })?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Value { found: self.found, is_digest: false })?.is_some() {}
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.found.extend(Some(text).filter(|_| self.is_digest).and_then(|text| text.parse().ok()));
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn digests_in_json_are_found_at_any_depth_under_the_digest_key() {
        let digest = |n: u8| Digest::sha256_of(&[n]);
        let text = |n| digest(n).to_string();
        let json =
            json!({"digest": text(1), "list": [null, 1, -1, 1.5, true, {"in": {"digest": text(2)}}, text(3)],
            "other": {"digest": [{"digest": text(4)}, text(5)], "x": {"digest": "md5:00"}}})
            .to_string();
        let mut found = digests_in(json.as_bytes());
        found.sort();
        let mut wanted = [1, 2, 4].map(digest);
        wanted.sort();
        assert_eq!(found, wanted);
        for none in ["", "nonsense", r#"{"digest":"#, &format!("{json}x"), &"[".repeat(10_000)] {
            assert_eq!(digests_in(none.as_bytes()), []);
        }
    }
}
