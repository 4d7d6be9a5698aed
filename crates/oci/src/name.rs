//! Repository names, by the grammar of the OCI distribution spec ("Pulling manifests").

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Why a text is not a repository name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text is empty.
    #[error("empty repository name: expected a name such as `library/alpine`")]
    Empty,
    /// The text is longer than [`Name::MAX_LENGTH`].
    #[error("repository name too long: {0} bytes, limit {max}", max = Name::MAX_LENGTH)]
    TooLong(usize),
    /// The name has a leading, trailing or double slash.
    #[error("invalid repository name {0:?}: expected single slashes between components")]
    EmptyComponent(String),
    /// A component contains an upper-case letter, as a CIDv0 or another base58 text does.
    #[error(
        "invalid repository name component {0:?} with upper-case letters: expected a-z, 0-9 and the separators `.`, \
         `_`, `__` and `-`; write an identifier in a lower-case base"
    )]
    UpperCase(String),
    /// A component contains an invalid character.
    #[error(
        "invalid character {character:?} in repository name component {component:?}: expected a-z, 0-9 and the \
         separators `.`, `_`, `__` and `-`"
    )]
    Character {
        /// The component.
        component: String,
        /// The first invalid character.
        character: char,
    },
    /// A component starts or ends with a separator, or contains an invalid sequence of separators.
    #[error(
        "misplaced separator in repository name component {0:?}: expected one `.`, one or two `_`, or any number of \
         `-`, between letters or digits"
    )]
    Separator(String),
}

/// A repository name, such as `library/alpine`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Name(String);

impl Name {
    /// The maximum length in bytes of clients and registries.
    pub const MAX_LENGTH: usize = 255;

    /// Returns the whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the components between the slashes, at least one.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }
}

fn check(name: &str) -> Result<(), Error> {
    if name.is_empty() {
        return Err(Error::Empty);
    }
    if name.len() > Name::MAX_LENGTH {
        return Err(Error::TooLong(name.len()));
    }
    if name.split('/').any(str::is_empty) {
        return Err(Error::EmptyComponent(name.to_owned()));
    }
    name.split('/').try_for_each(check_component)
}

fn check_component(component: &str) -> Result<(), Error> {
    // Checked first, since it is a common mistake with a simple fix.
    if component.contains(|character: char| character.is_ascii_uppercase()) {
        return Err(Error::UpperCase(component.to_owned()));
    }
    if let Some(character) =
        component.chars().find(|&character| !is_alphanumeric(character) && !is_separator(character))
    {
        return Err(Error::Character { component: component.to_owned(), character });
    }
    let at_an_end = component.starts_with(is_separator) || component.ends_with(is_separator);
    if at_an_end || !component.split(is_alphanumeric).all(is_joint) {
        return Err(Error::Separator(component.to_owned()));
    }
    Ok(())
}

fn is_alphanumeric(character: char) -> bool {
    matches!(character, 'a'..='z' | '0'..='9')
}

fn is_separator(character: char) -> bool {
    matches!(character, '.' | '_' | '-')
}

/// Returns whether `between`, the text between two alphanumeric characters, is a valid separator or empty.
fn is_joint(between: &str) -> bool {
    matches!(between, "." | "_" | "__") || between.bytes().all(|byte| byte == b'-')
}

impl FromStr for Name {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        check(text).map(|()| Self(text.to_owned()))
    }
}

impl TryFrom<String> for Name {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        check(&text).map(|()| Self(text))
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests;
