//! Deserializers for the JSON of Go programs, where a missing value may be `null` or `""`.

use std::{
    collections::BTreeMap,
    fmt::{self, Display},
    str::FromStr,
};

use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use crate::MediaType;

/// Reads a value; `null` becomes the default.
pub(crate) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Reads a string as a `T`; `null` and `""` become `None`.
pub(crate) fn non_empty<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
    T::Err: Display,
{
    match Option::<String>::deserialize(deserializer)? {
        Some(text) if !text.is_empty() => text.parse().map(Some).map_err(D::Error::custom),
        _ => Ok(None),
    }
}

/// Reads the media type that a document states, whatever text it is; `null` and `""` become `None`.
pub(crate) fn stated<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<MediaType>, D::Error> {
    let stated = Option::<MediaType>::deserialize(deserializer)?;
    Ok(stated.filter(|stated| !stated.as_str().is_empty()))
}

/// Reads annotations as Go does: `null` is an empty text. A value of another type is left out.
pub(crate) fn annotations<'de, D>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error>
where
    D: Deserializer<'de>,
{
    let all: BTreeMap<String, Text> = or_default(deserializer)?;
    Ok(all.into_iter().filter_map(|(key, Text(text))| Some((key, text?))).collect())
}

/// A text, which `null` leaves empty; none where the JSON has something else.
struct Text(Option<String>);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Text, E> {
        Ok(Text(Some(text.to_owned())))
    }

    fn visit_string<E>(self, text: String) -> Result<Text, E> {
        Ok(Text(Some(text)))
    }

    fn visit_unit<E>(self) -> Result<Text, E> {
        Ok(Text(Some(String::new())))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Text, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Text(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Text, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Text(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Annotated {
        #[serde(default, deserialize_with = "annotations")]
        annotations: BTreeMap<String, String>,
    }

    #[test]
    fn null_annotations_are_empty_and_values_that_are_not_text_are_left_out() {
        for (json, expected) in [
            (r#"{}"#, &[][..]),
            (r#"{"annotations":null}"#, &[]),
            (r#"{"annotations":{"a":null,"b":"\u0031"}}"#, &[("a", ""), ("b", "1")]),
            (
                r#"{"annotations":{"a":1,"b":-1,"c":1.5,"d":true,"e":[{}],"f":{"g":[]},"h":"i"}}"#,
                &[("h", "i")],
            ),
        ] {
            let read: Annotated = serde_json::from_str(json).unwrap();
            let found: Vec<(&str, &str)> = read.annotations.iter().map(|(k, v)| (&**k, &**v)).collect();
            assert_eq!(found, expected, "{json}");
        }
        // What is passed over is not kept, nor read by recursion.
        let deep = format!(r#"{{"annotations":{{"a":{}{}}}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert!(serde_json::from_str::<Annotated>(&deep).unwrap().annotations.is_empty());
    }

    #[derive(Deserialize)]
    struct Sample {
        #[serde(default, deserialize_with = "or_default")]
        list: Vec<u8>,
        #[serde(default, deserialize_with = "non_empty")]
        number: Option<u8>,
    }

    #[test]
    fn null_empty_and_missing_values_are_equal() {
        for json in [r#"{}"#, r#"{"list":null,"number":null}"#, r#"{"list":[],"number":""}"#] {
            let sample: Sample = serde_json::from_str(json).unwrap();
            assert_eq!((sample.list, sample.number), (vec![], None), "{json}");
        }
    }

    #[test]
    fn present_values_are_parsed_and_validated() {
        let sample: Sample = serde_json::from_str(r#"{"list":[1],"number":"7"}"#).unwrap();
        assert_eq!((sample.list, sample.number), (vec![1], Some(7)));
        assert!(serde_json::from_str::<Sample>(r#"{"number":"x"}"#).is_err());
    }
}
