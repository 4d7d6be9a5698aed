//! The directories of an `add`, in memory until all files came.

use std::collections::BTreeMap;

use futures::future::BoxFuture;

use crate::{
    content::{Adder, Entries, Root},
    rpc::error::Error,
};

/// Entries of all directories.
const MAX_ENTRIES: usize = 1 << 20;

/// The added files and directories, by path.
#[derive(Debug, Default)]
pub struct AddedTree {
    entries: BTreeMap<String, TreeEntry>,
    /// The file without a name, of which there can be one.
    unnamed: Option<Root>,
    count: usize,
}

#[derive(Debug)]
enum TreeEntry {
    File(Root),
    Directory(BTreeMap<String, TreeEntry>),
}

impl AddedTree {
    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.unnamed.is_none()
    }

    /// Adds a file or a link that is added already.
    pub fn add_file(&mut self, path: &[String], root: Root) -> Result<(), Error> {
        let Some((name, parents)) = path.split_last() else {
            self.unnamed = Some(root);
            return Ok(());
        };
        self.directory(parents)?.insert(name.clone(), TreeEntry::File(root));
        Ok(())
    }

    /// Adds a directory, unless it is there.
    pub fn add_directory(&mut self, path: &[String]) -> Result<(), Error> {
        self.directory(path).map(drop)
    }

    fn directory(&mut self, path: &[String]) -> Result<&mut BTreeMap<String, TreeEntry>, Error> {
        self.count += 1 + path.len();
        if self.count > MAX_ENTRIES {
            return Err(Error::failed(format!("too many files and directories: at most {MAX_ENTRIES}")));
        }
        path.iter().try_fold(&mut self.entries, |at, name| {
            match at.entry(name.clone()).or_insert_with(|| TreeEntry::Directory(BTreeMap::new())) {
                TreeEntry::Directory(below) => Ok(below),
                TreeEntry::File(_) => Err(Error::failed(format!("{name:?} is both a file and a directory"))),
            }
        })
    }

    /// Adds the directories, and tells `told` of each. Returns the roots: of each entry at the top, or of the one directory of
    /// all where that `wraps` them.
    pub async fn build(
        self,
        adder: &mut Adder,
        wraps: bool,
        told: &mut Vec<(String, Root)>,
    ) -> Result<Vec<Root>, Error> {
        let Self { mut entries, unnamed, .. } = self;
        if wraps {
            if let Some(root) = unnamed {
                entries.insert(root.cid.to_string(), TreeEntry::File(root));
            }
            return Ok(vec![directory(adder, String::new(), entries, told).await?]);
        }
        let mut roots: Vec<Root> = unnamed.into_iter().collect();
        for (name, entry) in entries {
            roots.push(match entry {
                TreeEntry::File(root) => root,
                TreeEntry::Directory(below) => directory(adder, name, below, told).await?,
            });
        }
        Ok(roots)
    }
}

fn directory<'a>(
    adder: &'a mut Adder,
    path: String,
    entries: BTreeMap<String, TreeEntry>,
    told: &'a mut Vec<(String, Root)>,
) -> BoxFuture<'a, Result<Root, Error>> {
    Box::pin(async move {
        let mut roots = Entries::new();
        for (name, entry) in entries {
            let root = match entry {
                TreeEntry::File(root) => root,
                TreeEntry::Directory(below) => {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
                    directory(adder, path, below, told).await?
                }
            };
            roots.insert(name, root);
        }
        let root = adder.directory(roots).await?;
        told.push((path, root));
        Ok(root)
    })
}
