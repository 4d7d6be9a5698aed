//! The links of a block, whatever it is a part of.

use bytes::Bytes;
use ocipfs_block::Cid;

use super::{
    dag_node::{DAG_PB, RAW},
    data::{Data, SYMLINK},
    inline,
};
use crate::Error;

/// A link of a dag-pb node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its name, empty in files.
    pub name: String,
    /// Where it leads.
    pub cid: Cid,
    /// The bytes of the blocks behind it, as it declares them.
    pub size: u64,
}

/// The fields of a dag-pb node, or the bytes of a raw block without links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    /// Its data; none of a node without.
    pub data: Option<Bytes>,
    /// Its links.
    pub links: Vec<Link>,
}

impl Fields {
    /// Decodes a block, which need not be of UnixFS.
    ///
    /// # Errors
    /// Fails if the block is neither raw nor dag-pb.
    pub fn decode(cid: &Cid, block: Bytes) -> Result<Self, Error> {
        let invalid = |why: String| Error::Invalid { cid: *cid, why };
        match cid.codec() {
            RAW => Ok(Self { data: Some(block), links: Vec::new() }),
            DAG_PB => {
                let node = inline::decode(block).map_err(invalid)?;
                let links = node.links.into_iter().map(|link| Link {
                    name: link.name.unwrap_or_default(),
                    cid: link.cid,
                    size: link.size.unwrap_or_default(),
                });
                Ok(Self { data: node.data, links: links.collect() })
            }
            other => Err(invalid(format!("codec 0x{other:x} is neither raw nor dag-pb"))),
        }
    }
}

/// Returns the target of a symbolic link; none of another block.
///
/// # Errors
/// Fails if the block cannot be decoded.
pub fn symlink_target(cid: &Cid, block: Bytes) -> Result<Option<Bytes>, Error> {
    if cid.codec() != DAG_PB {
        return Ok(None);
    }
    let Some(data) = Fields::decode(cid, block)?.data else { return Ok(None) };
    let data = Data::decode(&data).map_err(|why| Error::Invalid { cid: *cid, why: why.into() })?;
    Ok((data.kind == SYMLINK).then_some(data.bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Profile;

    #[test]
    fn fields_of_blocks_and_targets_of_links_are_read_as_they_were_written() {
        let options = Profile::Legacy.options();
        let (root, block) = options.symlink("a/b");
        assert_eq!(root.cid.to_string(), "QmYjXrHqJyafcUuFEqBCgnrZDXgAZcD5QVaMJQ1PZN3nKh");
        assert_eq!(symlink_target(&block.cid, block.data).unwrap(), Some("a/b".into()));
        let (leaf, block) = options.leaf_block("hello".into());
        assert_eq!(symlink_target(&block.cid, block.data).unwrap(), None);
        let (directory, block) = options.directory("x", &leaf);
        let fields = Fields::decode(&directory.cid, block.data).unwrap();
        assert_eq!(fields.links, [Link { name: "x".into(), cid: leaf.cid, size: leaf.dag_size }]);
        let other = Cid::new_v1(0x71, *leaf.cid.hash());
        assert!(Fields::decode(&other, Bytes::new()).is_err());
    }
}
