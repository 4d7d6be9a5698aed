//! Paths below a CID.

use std::{
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
};

use bytes::Bytes;
use ocipfs_block::{Block, Cid, inline_text, long_inline_text};
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
    search_root: Option<Box<Cid>>,
    /// The block of the root, where it is the CID itself that carries it and a `Cid` has no room for it.
    inline_root: Option<Bytes>,
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

    /// The block of the root, where the path begins with a CID that carries more bytes than a `Cid` has room for; the root is
    /// the CID of the same block with its sha2-256 then.
    pub fn inline_root(&self) -> Option<Block> {
        self.inline_root.clone().map(|data| Block { cid: self.root, data })
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

    /// Returns the path with `search_root` as the CID that its providers are found by: only the top of a tree
    /// is announced.
    pub fn with_search_root(self, search_root: Cid) -> Self {
        Self { search_root: Some(Box::new(search_root)), ..self }
    }

    /// The CID whose providers have the content.
    pub fn search_root(&self) -> Cid {
        self.search_root.as_deref().copied().unwrap_or(self.root)
    }

    /// A file in the directory `root`.
    pub fn in_directory(root: Cid, name: &str) -> Result<Self, PathError> {
        format!("{root}/{name}").parse()
    }
}

impl From<Cid> for CidPath {
    fn from(root: Cid) -> Self {
        Self { root, names: Vec::new(), search_root: None, inline_root: None }
    }
}

impl FromStr for CidPath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let (root, path) = text.split_once('/').map_or((text, None), |(root, path)| (root, Some(path)));
        let (root, inline_root) =
            parse_root(root).map_err(|why| PathError::Cid { text: short(root), why })?;
        let names: Vec<String> = path.into_iter().flat_map(|path| path.split('/')).map(Into::into).collect();
        let illegal = |name: &String| matches!(name.as_str(), "" | "." | "..") || name.contains('\0');
        if names.len() > MAX_DEPTH || names.iter().any(illegal) {
            return Err(PathError::Path(short(text)));
        }
        Ok(Self { root, names, search_root: None, inline_root })
    }
}

fn parse_root(text: &str) -> Result<(Cid, Option<Bytes>), String> {
    match long_inline_text(text).map_err(|error| error.to_string())? {
        Some(block) => Ok((block.cid, Some(block.data))),
        None => Ok((Cid::from_str(text).map_err(|error| error.to_string())?, None)),
    }
}

fn short(text: &str) -> String {
    text.chars().take(120).collect()
}

impl fmt::Display for CidPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.inline_root() {
            Some(block) => f.write_str(&inline_text(&block))?,
            None => write!(f, "{}", self.root)?,
        }
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
    use multihash_codetable::{Code, MultihashDigest};

    use super::*;
    use crate::RAW;

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
    fn a_path_may_begin_with_a_cid_that_carries_up_to_128_bytes() {
        for length in [65, 100, 128, 129] {
            let data = Bytes::from(vec![b'x'; length]);
            let root = Cid::new_v1(RAW, Code::Sha2_256.digest(&data));
            let block = Block { cid: root, data };
            let text = format!("{}/a", inline_text(&block));
            let parsed = text.parse::<CidPath>();
            if length > 128 {
                let Err(PathError::Cid { why, .. }) = parsed else { panic!("{length} bytes are accepted") };
                assert!(why.contains("129 bytes: at most 128"), "{why}");
                continue;
            }
            let path = parsed.unwrap();
            assert_eq!((*path.root(), path.inline_root(), path.to_string()), (root, Some(block), text));
            assert_eq!(path.below(["b"]).inline_root(), path.inline_root());
            assert_eq!(CidPath::from(root).inline_root(), None);
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
