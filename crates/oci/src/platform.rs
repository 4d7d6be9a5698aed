//! The platform of an image, as OCI's JSON and as `os/arch[/variant]`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{excerpt, lenient};

/// A text is not a platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid platform {0:?}: expected `os/architecture` or `os/architecture/variant`, such as `linux/arm64/v8`"
)]
pub struct Error(String);

/// The platform of an image (OCI image index, `platform`); the default is linux/amd64.
///
/// The fields are in the order of the JSON, which must not change.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// The architecture, in Go's spelling: `amd64`, `arm64`. Empty where an index does not say it.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub architecture: String,
    /// The operating system, in Go's spelling: `linux`. Empty where an index does not say it.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub os: String,
    /// The version of the operating system, which matters on Windows.
    #[serde(
        rename = "os.version",
        default,
        deserialize_with = "lenient::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub os_version: Option<String>,
    /// Required features of the operating system, such as `win32k`.
    #[serde(
        rename = "os.features",
        default,
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub os_features: Vec<String>,
    /// The variant of the architecture, such as `v8`.
    #[serde(default, deserialize_with = "lenient::non_empty", skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Required features of the processor: reserved in OCI, used in Docker's manifest lists.
    #[serde(default, deserialize_with = "lenient::or_default", skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
}

impl Platform {
    /// Creates a platform from an operating system and an architecture.
    pub fn new(os: impl Into<String>, architecture: impl Into<String>) -> Self {
        Self {
            architecture: architecture.into(),
            os: os.into(),
            os_version: None,
            os_features: Vec::new(),
            variant: None,
            features: Vec::new(),
        }
    }

    /// Returns whether both the operating system and the architecture are known.
    pub fn is_complete(&self) -> bool {
        !self.os.is_empty() && !self.architecture.is_empty()
    }
}

impl Default for Platform {
    fn default() -> Self {
        Self::new("linux", "amd64")
    }
}

impl FromStr for Platform {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parts: Vec<&str> = text.split('/').collect();
        let (os, architecture, variant) = match parts[..] {
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => return Err(Error(excerpt(text))),
        };
        if !parts.into_iter().all(is_word) {
            return Err(Error(excerpt(text)));
        }
        Ok(Self { variant: variant.map(str::to_owned), ..Self::new(os, architecture) })
    }
}

fn is_word(part: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !part.is_empty() && part.bytes().all(allowed)
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_platform_is_parsed_from_text() {
        let arm = Platform { variant: Some("v8".to_owned()), ..Platform::new("linux", "arm64") };
        assert_eq!("linux/arm64/v8".parse(), Ok(arm));
        assert_eq!("linux/amd64".parse(), Ok(Platform::default()));
        assert_eq!(Platform::default().to_string(), "linux/amd64");
    }

    #[test]
    fn an_invalid_platform_is_rejected() {
        for text in
            ["", "linux", "/", "linux/", "/amd64", "linux/arm64/", "a/b/c/d", "li nux/amd64", "linux/é"]
        {
            let message = text.parse::<Platform>().unwrap_err().to_string();
            assert!(message.contains("invalid platform"), "{message}");
        }
    }

    #[test]
    fn platform_json_has_a_stable_order_without_absent_fields() {
        let full = r#"{"architecture":"arm64","os":"windows","os.version":"10.0","os.features":["win32k"],"variant":"v8","features":["sse4"]}"#;
        for json in [full, r#"{"architecture":"amd64","os":"linux"}"#] {
            let platform: Platform = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&platform).unwrap(), json);
        }
    }

    #[test]
    fn null_empty_and_unknown_fields_are_ignored() {
        let json = r#"{"os":"linux","architecture":"amd64","variant":"","os.version":null,"os.features":null,"x":1}"#;
        assert_eq!(serde_json::from_str::<Platform>(json).unwrap(), Platform::default());
    }

    #[test]
    fn a_partial_platform_is_read_and_is_not_complete() {
        for (json, expected, is_complete) in [
            (r#"{"os":"linux"}"#, Platform::new("linux", ""), false),
            (r#"{"architecture":"amd64","os":null}"#, Platform::new("", "amd64"), false),
            (r#"{}"#, Platform::new("", ""), false),
            (r#"{"architecture":"amd64","os":"linux"}"#, Platform::default(), true),
        ] {
            let platform: Platform = serde_json::from_str(json).unwrap();
            assert_eq!((platform.is_complete(), platform), (is_complete, expected), "{json}");
        }
        assert!(serde_json::from_str::<Platform>(r#"{"os":1}"#).is_err());
    }

    proptest! {
        #[test]
        fn platforms_round_trip_through_text(text in "[a-z0-9]{1,8}/[a-zA-Z0-9_.-]{1,8}(/[a-z0-9.]{1,4})?") {
            prop_assert_eq!(text.parse::<Platform>().unwrap().to_string(), text);
        }

        #[test]
        fn arbitrary_text_does_not_panic(text in "\\PC*") {
            let _ = text.parse::<Platform>();
        }
    }
}
