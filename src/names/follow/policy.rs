use std::{fmt, str::FromStr};

use serde::Deserialize;

/// How much of followed names is fetched before it is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Prefetch {
    /// Nothing.
    None,
    /// Which images there are, and their manifests.
    #[default]
    Manifests,
    /// All that is tagged, with its layers.
    All,
}

impl FromStr for Prefetch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "manifests" => Ok(Self::Manifests),
            "all" => Ok(Self::All),
            _ => Err(format!("invalid prefetch policy {text:?}: expected `none`, `manifests` or `all`")),
        }
    }
}

impl TryFrom<String> for Prefetch {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Prefetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Manifests => "manifests",
            Self::All => "all",
        })
    }
}

impl Prefetch {
    /// How much of a repository is here when it is complete.
    pub fn depth(self) -> Depth {
        match self {
            Self::None => Depth::Index,
            Self::Manifests => Depth::Manifests,
            Self::All => Depth::Blobs,
        }
    }
}

/// How much of a repository is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// The documents that say which images there are.
    Index,
    /// The manifests, too.
    Manifests,
    /// All blobs.
    Blobs,
}

impl Depth {
    /// Returns the number that stands for it in a row.
    pub(super) fn row(self) -> u8 {
        self as u8
    }

    /// Returns what a number in a row stands for.
    pub(super) fn of(row: u8) -> Self {
        match row {
            0 => Self::Index,
            1 => Self::Manifests,
            _ => Self::Blobs,
        }
    }
}
