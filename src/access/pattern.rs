use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A pattern of repository names or of tags: `*` stands for any text, with slashes too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern {
    text: String,
    form: Form,
}

/// What is compared: most patterns are a name, or a name that ends in a star.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Everything,
    Exact,
    /// The text before a star at the end.
    Prefix,
    Stars,
}

impl Pattern {
    /// Whether a text is as the pattern says.
    pub fn matches(&self, text: &str) -> bool {
        match self.form {
            Form::Everything => true,
            Form::Exact => self.text == text,
            Form::Prefix => text.starts_with(&self.text[..self.text.len() - 1]),
            Form::Stars => matches(self.text.as_bytes(), text.as_bytes()),
        }
    }

    /// Whether every text is as the pattern says.
    pub fn is_everything(&self) -> bool {
        self.form == Form::Everything
    }

    /// Returns the text of the pattern.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// Compares without going back further than the last star: a pattern with many of them takes no exponential time.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut read) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while read < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, read));
                at += 1;
            }
            Some(byte) if *byte == text[read] => {
                at += 1;
                read += 1;
            }
            _ => {
                let Some((of_star, taken)) = star else { return false };
                star = Some((of_star, taken + 1));
                (at, read) = (of_star + 1, taken + 1);
            }
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_printable = text.bytes().all(|byte| byte.is_ascii_graphic());
        if text.is_empty() || !is_printable || text.len() > 512 {
            return Err(format!("invalid pattern {text:?}: expected a name, with * for any part"));
        }
        let form = match text.find('*') {
            None => Form::Exact,
            Some(_) if text.bytes().all(|byte| byte == b'*') => Form::Everything,
            Some(first) if first + 1 == text.len() => Form::Prefix,
            Some(_) => Form::Stars,
        };
        Ok(Self { text: text.into(), form })
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.text
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
