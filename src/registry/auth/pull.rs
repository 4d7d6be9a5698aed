use std::str::FromStr;

use serde::Deserialize;

/// Clients that may pull, where there are no access rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Pull {
    /// Every client that reaches the registry.
    #[default]
    Everybody,
    /// Users only.
    Users,
}

impl FromStr for Pull {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "everybody" => Ok(Self::Everybody),
            "users" => Ok(Self::Users),
            _ => Err(format!("invalid value {text:?}: expected `everybody` or `users`")),
        }
    }
}

impl TryFrom<String> for Pull {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}
