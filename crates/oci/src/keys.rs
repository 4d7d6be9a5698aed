//! Keys of manifests that are spelled in another case. Clients in Go read `Layers` as `layers`, so a digest with such a key would
//! mean two things to two clients (CVE-2021-41190).

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::excerpt;

/// Keys of manifests, indexes and descriptors.
const KNOWN: [&str; 14] = [
    "schemaVersion",
    "mediaType",
    "artifactType",
    "config",
    "layers",
    "manifests",
    "subject",
    "annotations",
    "digest",
    "size",
    "urls",
    "data",
    "platform",
    "blobs",
];
/// Keys whose values are descriptors, or lists of them.
const DESCRIPTORS: [&str; 4] = ["config", "layers", "manifests", "subject"];

/// Refuses a manifest or an index, and descriptors in it, with a key that is a known one but for the case of its letters.
pub fn check_keys(json: &[u8]) -> Result<(), serde_json::Error> {
    Keys.deserialize(&mut serde_json::Deserializer::from_slice(json))
}

/// Reads a document or a descriptor for its keys alone.
#[derive(Clone, Copy)]
struct Keys;

impl<'de> DeserializeSeed<'de> for Keys {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Keys {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if let Some(known) = KNOWN.into_iter().find(|known| *known != key && is_read_as(known, &key)) {
                let key = excerpt(&key);
                return Err(A::Error::custom(format_args!("some clients read the key {key:?} as {known}")));
            }
            if DESCRIPTORS.contains(&key.as_str()) {
                map.next_value_seed(self)?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(self)?.is_some() {}
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

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
}

/// Compares as Go does: two letters beyond ASCII are the same as one of it.
fn is_read_as(known: &str, key: &str) -> bool {
    let fold = |letter: char| match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        letter => letter.to_ascii_lowercase(),
    };
    key.chars().map(fold).eq(known.chars().map(fold))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_another_case_are_refused_where_clients_read_them() {
        for json in [
            r#"{"layers":[],"Layers":[]}"#,
            r#"{"CONFIG":null}"#,
            r#"{"layer\u017f":[]}"#,
            r#"{"mediatype":"a"}"#,
            r#"{"config":{"Digest":"x"}}"#,
            r#"{"layers":[{"size":1},{"size":1,"SIZE":2}]}"#,
            r#"{"manifests":[{"URLs":[]}]}"#,
            r#"{"Subject":{}}"#,
        ] {
            let error = check_keys(json.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("some clients read the key"), "{json}: {error}");
        }
        for json in [
            r#"{"schemaVersion":2,"config":{"size":2},"layers":[{"size":1,"annotations":{"Size":"1"}}]}"#,
            r#"{"annotations":{"Layers":"a"},"Other":{"Layers":[]},"layers":null,"config":"x"}"#,
            r#"{"manifests":[{"platform":{"OS":"linux","Size":1}}],"subject":[1,-1,1.5,true,null,"x"]}"#,
            "[]",
        ] {
            assert!(check_keys(json.as_bytes()).is_ok(), "{json}");
        }
    }
}
