//! Deserializers for the JSON of Go programs, where a missing value may be `null` or `""`.

use std::{fmt::Display, str::FromStr};

use serde::{Deserialize, Deserializer, de::Error};

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

#[cfg(test)]
mod tests {
    use super::*;

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
