//! The annotations of a whole index, of which one counts.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// With this annotation an index says that it names all tags: an image that stands alone in it has none, and the indexes
/// in it name no further ones.
const TAGS: &str = "io.ocipfs.tags";

/// What an index says of its tags. Annotations of any other form say nothing, and are no reason to refuse the index.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct IndexAnnotations {
    pub names_all_tags: bool,
}

impl<'de> Deserialize<'de> for IndexAnnotations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Keys)
    }
}

struct Keys;

/// A value that is not an object.
type Nothing<E> = Result<IndexAnnotations, E>;

impl<'de> Visitor<'de> for Keys {
    type Value = IndexAnnotations;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("annotations")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<IndexAnnotations, A::Error> {
        let mut names_all_tags = false;
        while let Some(key) = all.next_key::<String>()? {
            all.next_value::<IgnoredAny>()?;
            names_all_tags |= key == TAGS;
        }
        Ok(IndexAnnotations { names_all_tags })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<IndexAnnotations, A::Error> {
        while all.next_element::<IgnoredAny>()?.is_some() {}
        Ok(IndexAnnotations::default())
    }

    fn visit_unit<E>(self) -> Nothing<E> {
        Ok(IndexAnnotations::default())
    }

    fn visit_bool<E>(self, _: bool) -> Nothing<E> {
        Ok(IndexAnnotations::default())
    }

    fn visit_i64<E>(self, _: i64) -> Nothing<E> {
        Ok(IndexAnnotations::default())
    }

    fn visit_u64<E>(self, _: u64) -> Nothing<E> {
        Ok(IndexAnnotations::default())
    }

    fn visit_f64<E>(self, _: f64) -> Nothing<E> {
        Ok(IndexAnnotations::default())
    }

    fn visit_str<E>(self, _: &str) -> Nothing<E> {
        Ok(IndexAnnotations::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_object_with_the_annotation_says_that_all_tags_are_named() {
        for (json, expected) in [
            (r#"{"a":"b","io.ocipfs.tags":"complete"}"#, true),
            (r#"{"io.ocipfs.tags":null}"#, true),
            (r#"{"a":{"io.ocipfs.tags":"complete"}}"#, false),
            ("{}", false),
            ("null", false),
            ("[[1],{}]", false),
            (r#""io.ocipfs.tags""#, false),
            ("-1", false),
            ("1.5", false),
            ("true", false),
            ("7", false),
        ] {
            let read: IndexAnnotations = serde_json::from_str(json).unwrap();
            assert_eq!(read.names_all_tags, expected, "{json}");
        }
    }
}
