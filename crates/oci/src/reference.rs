//! Tags, and references that are either a tag or a digest.

use std::{borrow::Cow, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    digest::{self, Digest},
    excerpt,
};

/// Why a text is not a tag or a reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text is not a tag.
    #[error(
        "invalid tag {0:?}: expected a letter, digit or `_`, then at most 127 letters, digits or any of `.`, `_` and `-`"
    )]
    Tag(String),
    /// The text contains a `:` and is not a digest.
    #[error(transparent)]
    Digest(#[from] digest::Error),
}

/// The name of a manifest within its repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Tag(Cow<'static, str>);

impl Tag {
    /// The maximum number of characters.
    pub const MAX_LENGTH: usize = 128;

    /// Returns the tag that clients use by default.
    pub const fn latest() -> Self {
        Self(Cow::Borrowed("latest"))
    }

    /// Returns whether this is the tag that clients use by default.
    pub fn is_latest(&self) -> bool {
        self.0 == "latest"
    }

    /// Derives a tag from a file name: invalid characters become `_`, and the rest is truncated.
    ///
    /// `None` for an empty file name.
    pub fn from_file_name(file_name: &str) -> Option<Self> {
        let mut tag: String =
            file_name.chars().take(Self::MAX_LENGTH).map(|c| if may_follow(c) { c } else { '_' }).collect();
        if !tag.starts_with(may_lead) && !tag.is_empty() {
            tag.replace_range(..1, "_");
        }
        (!tag.is_empty()).then_some(Self(Cow::Owned(tag)))
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn may_lead(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

fn may_follow(character: char) -> bool {
    may_lead(character) || matches!(character, '.' | '-')
}

impl FromStr for Tag {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        text.to_owned().try_into()
    }
}

impl TryFrom<String> for Tag {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        if text.len() <= Self::MAX_LENGTH && text.starts_with(may_lead) && text.chars().all(may_follow) {
            Ok(Self(Cow::Owned(text)))
        } else {
            Err(Error::Tag(excerpt(&text)))
        }
    }
}

impl AsRef<str> for Tag {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A reference to a manifest: a tag, which may move, or a digest, which cannot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// A tag.
    Tag(Tag),
    /// A digest.
    Digest(Digest),
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        // No tag contains a colon, and every digest does.
        if text.contains(':') { Ok(Self::Digest(text.parse()?)) } else { text.parse().map(Self::Tag) }
    }
}

impl From<Tag> for Reference {
    fn from(tag: Tag) -> Self {
        Self::Tag(tag)
    }
}

impl From<Digest> for Reference {
    fn from(digest: Digest) -> Self {
        Self::Digest(digest)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests;
