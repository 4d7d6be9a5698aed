//! The names that certificates are for.

use std::{fmt, str::FromStr};

use serde::Deserialize;

/// RFC 1035, section 2.3.4.
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// A DNS name, in lower case and without a wildcard: the challenge proves hosts only.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Domain(String);

impl Domain {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Domain {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_label = |label: &str| {
            let is_plain = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
            (1..=MAX_LABEL).contains(&label.len())
                && is_plain
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let is_address = text.parse::<std::net::IpAddr>().is_ok();
        match text.len() <= MAX_NAME && !is_address && text.split('.').all(is_label) {
            true => Ok(Self(text.to_ascii_lowercase())),
            false => Err(format!(
                "invalid domain {text:?}: expected the name of one host, such as registry.example"
            )),
        }
    }
}

impl TryFrom<String> for Domain {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_the_name_of_one_host() {
        for (text, domain) in [("R.example", "r.example"), ("localhost", "localhost"), ("a-b.c", "a-b.c")] {
            assert_eq!(text.parse::<Domain>().unwrap().as_str(), domain);
        }
        let long = format!("{}.example", "x".repeat(64));
        for wrong in
            ["", "*.example", "r.example:443", "https://r.example", "192.0.2.1", "a..b", "-a.b", "a/b", &long]
        {
            assert!(wrong.parse::<Domain>().unwrap_err().contains("one host"), "{wrong}");
        }
    }
}
