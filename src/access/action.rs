use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Something that a client does to a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Read manifests, blobs, tags and referrers.
    Pull,
    /// Upload blobs and manifests, and move tags.
    Push,
    /// Delete manifests, tags and blobs.
    Delete,
    /// Attach signatures and other referrers, without the right to push images.
    Sign,
    /// Everything, also to delete tags that are immutable.
    Admin,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Pull, Self::Push, Self::Delete, Self::Sign, Self::Admin];

    fn bit(self) -> u8 {
        1 << self as u8
    }

    /// Returns its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Delete => "delete",
            Self::Sign => "sign",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Action {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|action| action.as_str() == text);
        found.ok_or_else(|| format!("invalid action {text:?}: expected pull, push, delete, sign or admin"))
    }
}

/// A set of actions. With `admin` it has all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Action>", into = "Vec<Action>")]
pub struct Actions(u8);

impl Actions {
    /// Every action.
    pub const EVERY: Self = Self(0b1_1111);

    /// Whether an action is among them.
    pub fn has(self, action: Action) -> bool {
        self.0 & (action.bit() | Action::Admin.bit()) != 0
    }

    /// Whether it has none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<Action> for Actions {
    fn from_iter<T: IntoIterator<Item = Action>>(actions: T) -> Self {
        Self(actions.into_iter().fold(0, |bits, action| bits | action.bit()))
    }
}

impl From<Vec<Action>> for Actions {
    fn from(actions: Vec<Action>) -> Self {
        actions.into_iter().collect()
    }
}

impl From<Actions> for Vec<Action> {
    fn from(actions: Actions) -> Self {
        Action::ALL.into_iter().filter(|action| actions.0 & action.bit() != 0).collect()
    }
}

impl fmt::Display for Actions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = Vec::from(*self).into_iter().map(Action::as_str).collect();
        f.write_str(&names.join(","))
    }
}
