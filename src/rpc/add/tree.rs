//! The directories of an `add`, in memory until all files came.

use std::collections::BTreeMap;

use futures::future::BoxFuture;

use crate::{
    content::{Adder, Entries, Metadata, Root},
    rpc::error::Error,
};

/// Entries of all directories.
const MAX_ENTRIES: usize = 1 << 20;

/// The added files and directories, by path.
#[derive(Debug, Default)]
pub struct AddedTree {
    top: Directory,
    /// The file without a name, of which there can be one.
    unnamed: Option<Root>,
    /// Whether a directory without a name has all of it.
    is_unnamed_directory: bool,
    /// Mode and time of a directory that is named only by what is in it.
    implied: Metadata,
    /// Directories without entries are left out, but for those at the top.
    omits_empty: bool,
    count: usize,
}

#[derive(Debug)]
enum TreeEntry {
    File(Root),
    Directory(Directory),
}

impl TreeEntry {
    fn omit_empty(&mut self) {
        if let Self::Directory(below) = self {
            below.omit_empty();
        }
    }
}

/// A directory, and its mode and time.
#[derive(Debug, Default)]
struct Directory {
    entries: BTreeMap<String, TreeEntry>,
    metadata: Metadata,
}

impl Directory {
    /// Leaves out the directories below it that have no entries.
    fn omit_empty(&mut self) {
        self.entries
            .retain(|_, entry| !matches!(entry, TreeEntry::Directory(below) if below.entries.is_empty()));
        self.entries.values_mut().for_each(TreeEntry::omit_empty);
    }
}

impl AddedTree {
    /// Begins without entries; directories that are named only by what is in them have this mode and time.
    pub fn new(implied: Metadata) -> Self {
        Self { implied, ..Self::default() }
    }

    /// Leaves out directories without entries, but for those at the top. As in Kubo, a directory stays that has only such.
    pub fn omit_empty(&mut self) {
        self.omits_empty = true;
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.top.entries.is_empty() && self.unnamed.is_none() && !self.is_unnamed_directory
    }

    /// Adds a file or a link that is added already.
    pub fn add_file(&mut self, path: &[String], root: Root) -> Result<(), Error> {
        let Some((name, parents)) = path.split_last() else {
            self.unnamed = Some(root);
            return Ok(());
        };
        self.directory(parents)?.entries.insert(name.clone(), TreeEntry::File(root));
        Ok(())
    }

    /// Adds a directory, unless it is there.
    pub fn add_directory(&mut self, path: &[String], metadata: Metadata) -> Result<(), Error> {
        self.is_unnamed_directory |= path.is_empty();
        self.directory(path)?.metadata = metadata;
        Ok(())
    }

    fn directory(&mut self, path: &[String]) -> Result<&mut Directory, Error> {
        self.count += 1 + path.len();
        if self.count > MAX_ENTRIES {
            return Err(Error::failed(format!("too many files and directories: at most {MAX_ENTRIES}")));
        }
        let metadata = self.implied;
        let implied = || Directory { entries: BTreeMap::new(), metadata };
        path.iter().try_fold(&mut self.top, |at, name| {
            match at.entries.entry(name.clone()).or_insert_with(|| TreeEntry::Directory(implied())) {
                TreeEntry::Directory(below) => Ok(below),
                TreeEntry::File(_) => Err(Error::failed(format!("{name:?} is both a file and a directory"))),
            }
        })
    }

    /// Adds the directories, and tells `told` of each. Returns the roots: of each entry at the top, or of the one directory of
    /// all where they are `wrapped`.
    pub async fn build(
        self,
        adder: &mut Adder,
        wrapped: Option<Metadata>,
        told: &mut Vec<(String, Root)>,
    ) -> Result<Vec<Root>, Error> {
        let Self { mut top, unnamed, is_unnamed_directory, omits_empty, .. } = self;
        let is_one = wrapped.is_some() || is_unnamed_directory;
        match omits_empty {
            true if is_one => top.omit_empty(),
            true => top.entries.values_mut().for_each(TreeEntry::omit_empty),
            false => {}
        }
        if is_one {
            if let Some(root) = unnamed {
                top.entries.insert(root.cid.to_string(), TreeEntry::File(root));
            }
            top.metadata = wrapped.filter(|_| !is_unnamed_directory).unwrap_or(top.metadata);
            return Ok(vec![directory(adder, String::new(), top, told).await?]);
        }
        let mut roots: Vec<Root> = unnamed.into_iter().collect();
        for (name, entry) in top.entries {
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
    below: Directory,
    told: &'a mut Vec<(String, Root)>,
) -> BoxFuture<'a, Result<Root, Error>> {
    Box::pin(async move {
        let mut roots = Entries::new();
        for (name, entry) in below.entries {
            let root = match entry {
                TreeEntry::File(root) => root,
                TreeEntry::Directory(below) => {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
                    directory(adder, path, below, told).await?
                }
            };
            roots.insert(name, root);
        }
        adder.set_metadata(below.metadata);
        let root = adder.directory(roots).await?;
        told.push((path, root));
        Ok(root)
    })
}
