//! Paths below a CID.

use std::{
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
};

use ocipfs_block::Cid;
use serde::{Deserialize, Serialize};

/// The most names of a path.
const MAX_DEPTH: usize = 64;

/// An invalid path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// The first component is not a CID.
    #[error("{text:?} does not begin with a CID: {why}")]
    Cid {
        /// The path that was read.
        text: String,
        /// Message of the parser.
        why: String,
    },
    /// A component is empty, `.` or `..`, or there are too many.
    #[error("invalid path {0:?}: components must not be empty, \".\" or \"..\", at most {MAX_DEPTH} of them")]
    Path(String),
}

/// A CID and the path of a file below it: `bafy.../foo-0.1.0.tar.gz`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CidPath {
    root: Cid,
    names: Vec<String>,
    /// The CID whose providers have the content, where its own root is not announced. It does not change what the path
    /// means.
    announced: Option<Box<Cid>>,
}

impl PartialEq for CidPath {
    fn eq(&self, other: &Self) -> bool {
        (&self.root, &self.names) == (&other.root, &other.names)
    }
}

impl Eq for CidPath {}

impl Hash for CidPath {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.root, &self.names).hash(state);
    }
}

impl CidPath {
    /// The CID that the path begins with.
    pub fn root(&self) -> &Cid {
        &self.root
    }

    /// The names below the root, outermost first.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The last name, where there is one.
    pub fn file_name(&self) -> Option<&str> {
        self.names.last().map(String::as_str)
    }

    /// The path of what is in this directory, under names that a path may hold.
    pub fn below<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Self {
        let names = self.names.iter().cloned().chain(names.into_iter().map(Into::into)).collect();
        Self { names, ..self.clone() }
    }

    /// Returns the path with `announced` as the CID that its providers are found by: only the top of a tree
    /// is announced.
    pub fn found_by(self, announced: Cid) -> Self {
        Self { announced: Some(Box::new(announced)), ..self }
    }

    /// The CID whose providers have the content.
    pub fn announced(&self) -> Cid {
        self.announced.as_deref().copied().unwrap_or(self.root)
    }

    /// A file in the directory `root`.
    pub fn in_directory(root: Cid, name: &str) -> Result<Self, PathError> {
        format!("{root}/{name}").parse()
    }
}

impl From<Cid> for CidPath {
    fn from(root: Cid) -> Self {
        Self { root, names: Vec::new(), announced: None }
    }
}

impl FromStr for CidPath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let (root, path) = text.split_once('/').map_or((text, None), |(root, path)| (root, Some(path)));
        let root =
            Cid::from_str(root).map_err(|e| PathError::Cid { text: short(root), why: e.to_string() })?;
        let names: Vec<String> = path.into_iter().flat_map(|path| path.split('/')).map(Into::into).collect();
        let illegal = |name: &String| matches!(name.as_str(), "" | "." | "..") || name.contains('\0');
        if names.len() > MAX_DEPTH || names.iter().any(illegal) {
            return Err(PathError::Path(short(text)));
        }
        Ok(Self { root, names, announced: None })
    }
}

fn short(text: &str) -> String {
    text.chars().take(120).collect()
}

impl fmt::Display for CidPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.root)?;
        self.names.iter().try_for_each(|name| write!(f, "/{name}"))
    }
}

impl TryFrom<String> for CidPath {
    type Error = PathError;

    fn try_from(text: String) -> Result<Self, PathError> {
        text.parse()
    }
}

impl From<CidPath> for String {
    fn from(path: CidPath) -> Self {
        path.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CID: &str = "QmbSCQoNkbvuYXpjUsERkG13em9WXeSiw5m5omLUnrcTT4";

    #[test]
    fn a_cid_path_is_parsed_and_formatted() {
        for (text, names) in [
            (CID.to_string(), vec![]),
            (format!("{CID}/foo-0.1.0.tar.gz"), vec!["foo-0.1.0.tar.gz"]),
            (format!("{CID}/a/b c"), vec!["a", "b c"]),
        ] {
            let path: CidPath = text.parse().unwrap();
            assert_eq!(path.names(), names);
            assert_eq!(path.to_string(), text);
            assert_eq!(path.file_name(), names.last().copied());
        }
    }

    #[test]
    fn path_below_appends_names() {
        let path: CidPath = format!("{CID}/a").parse().unwrap();
        assert_eq!(path.below(["b", "c"]), format!("{CID}/a/b/c").parse().unwrap());
        assert_eq!(path.below([]), path);
    }

    #[test]
    fn an_invalid_cid_or_path_is_rejected() {
        for text in ["", "/", "foo", "foo/bar", "Qmfoo"] {
            assert!(matches!(text.parse::<CidPath>(), Err(PathError::Cid { .. })), "{text:?}");
        }
        let deep = format!("{CID}{}", "/a".repeat(65));
        for text in
            [format!("{CID}/"), format!("{CID}/../x"), format!("{CID}//x"), format!("{CID}/./x"), deep]
        {
            assert!(matches!(text.parse::<CidPath>(), Err(PathError::Path(_))), "{text:?}");
        }
    }
}
