//! Repository names, by the grammar of the OCI distribution spec ("Pulling manifests").

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Tells why a text is no repository name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no text.
    #[error("a repository name cannot be empty: `library/alpine` would be one")]
    Empty,
    /// The text is longer than [`Name::MAX_LENGTH`].
    #[error("a repository name has at most {max} bytes, not {0}", max = Name::MAX_LENGTH)]
    TooLong(usize),
    /// Two slashes meet, or one stands at an end.
    #[error("repository name {0:?} has an empty component: single slashes between components are allowed")]
    EmptyComponent(String),
    /// A component holds an upper-case letter, as a CIDv0 or another base58 text does.
    #[error(
        "component {0:?} of the repository name has upper-case letters: only a-z, 0-9 and the separators \
         `.`, `_`, `__` and `-` are allowed, so an identifier has to be written in a lower-case base"
    )]
    UpperCase(String),
    /// A component holds a character that is neither alphanumeric nor a separator.
    #[error(
        "component {component:?} of the repository name has the character {character:?}: only a-z, 0-9 and \
         the separators `.`, `_`, `__` and `-` are allowed"
    )]
    Character {
        /// The component.
        component: String,
        /// The first character in it that is not allowed.
        character: char,
    },
    /// A component starts or ends with a separator, or joins separators that do not go together.
    #[error(
        "component {0:?} of the repository name has a misplaced separator: one `.`, one or two `_`, or any \
         number of `-` are allowed, between letters or digits"
    )]
    Separator(String),
}

/// A repository name, such as `library/alpine`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Name(String);

impl Name {
    /// The length, in bytes, that clients and registries agree on.
    pub const MAX_LENGTH: usize = 255;

    /// Returns the whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the parts between the slashes, of which there is at least one.
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
    // Looked for first, since it is the mistake that people make and it has a remedy.
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

/// Tells whether what stands between two alphanumeric characters may stand there; mostly it is nothing.
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
