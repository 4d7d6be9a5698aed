use std::fmt;

use serde::Deserialize;

/// How many of its keys a policy needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Require {
    /// Each of them.
    #[default]
    All,
    /// One of them.
    Any,
}

/// Whether content is served to all who may pull it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is signed as the policies say, or none is about it.
    Passed,
    /// It is not.
    Withheld(Withheld),
}

impl Verdict {
    /// Whether the content is served.
    pub fn is_passed(&self) -> bool {
        *self == Self::Passed
    }

    /// Returns why the content is not served to all, if it is not.
    pub fn withheld(self) -> Option<Withheld> {
        match self {
            Self::Passed => None,
            Self::Withheld(why) => Some(why),
        }
    }
}

/// Why content is served only to those who may sign it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withheld {
    /// The repository.
    pub repository: String,
    /// The number of the policy in its file, from 1.
    pub policy: usize,
    /// The keys that have not signed.
    pub keys: Vec<String>,
    /// Whether all of them are needed, or one.
    pub require: Require,
    /// Whether a signature was valid before.
    pub expired: bool,
}

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { repository, policy, keys, require, expired } = self;
        let quoted: Vec<String> = keys.iter().map(|key| format!("{key:?}")).collect();
        let join = if *require == Require::Any { " or " } else { " and " };
        write!(
            f,
            "policy {policy} of the signature policies requires a valid signature by {} for {repository}",
            quoted.join(join)
        )?;
        if *expired {
            f.write_str("; the time of an earlier one is over")?;
        }
        Ok(())
    }
}
