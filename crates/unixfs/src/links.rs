//! The links of a block, whatever it is a part of.

use bytes::Bytes;
use ocipfs_block::Cid;

use super::{
    dag_cbor::{DAG_CBOR, cbor_links},
    dag_node::{DAG_PB, RAW},
    data::{Data, SYMLINK},
    inline,
};
use crate::{Error, metadata::Metadata};

/// A link of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its name, empty in files and in DAG-CBOR.
    pub name: String,
    /// Where it leads.
    pub cid: Cid,
    /// The bytes of the blocks behind it, as it declares them; in DAG-CBOR it does not.
    pub size: u64,
}

/// The fields of a dag-pb node, the bytes of a raw block without links, or the links of DAG-CBOR.
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
    /// Fails if the block is neither raw, dag-pb nor DAG-CBOR, or invalid.
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
            DAG_CBOR => {
                let links = cbor_links(&block).map_err(invalid)?.into_iter();
                let links = links.map(|cid| Link { name: String::new(), cid, size: 0 });
                Ok(Self { data: None, links: links.collect() })
            }
            other => Err(invalid(format!("codec 0x{other:x} is neither raw, dag-pb nor dag-cbor"))),
        }
    }
}

/// Returns the CIDs that a block links to, in their order; none for a codec without links. A dag-pb node need not be UnixFS.
///
/// # Errors
/// Fails if a dag-pb node or DAG-CBOR is invalid.
pub fn links(cid: &Cid, block: Bytes) -> Result<Vec<Cid>, Error> {
    match cid.codec() {
        DAG_PB | DAG_CBOR => Ok(Fields::decode(cid, block)?.links.into_iter().map(|link| link.cid).collect()),
        _ => Ok(Vec::new()),
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

/// Returns the mode and the time of a file, a directory or a link, which its root has.
///
/// # Errors
/// Fails if the block cannot be decoded.
pub fn metadata(cid: &Cid, block: Bytes) -> Result<Metadata, Error> {
    if cid.codec() != DAG_PB {
        return Ok(Metadata::default());
    }
    let Some(data) = Fields::decode(cid, block)?.data else { return Ok(Metadata::default()) };
    let data = Data::decode(&data).map_err(|why| Error::Invalid { cid: *cid, why: why.into() })?;
    Ok(data.metadata)
}

#[cfg(test)]
mod tests {
    use ipld_dagpb::{PbLink, PbNode};
    use multihash_codetable::{Code, MultihashDigest};

    use super::*;
    use crate::{DagOptions, Profile};

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
        let other = Cid::new_v1(0x72, *leaf.cid.hash());
        assert!(Fields::decode(&other, Bytes::new()).is_err());
    }

    #[test]
    fn mode_and_time_are_read_as_they_were_written() {
        for (mode, mtime) in [
            (None, None),
            (Some(0o4644), None),
            (Some(0), Some((5, 0))),
            (None, Some((-5, 999_999_999))),
            (None, Some((1 << 40, 1))),
        ] {
            let written = Metadata { mode, mtime };
            let options = DagOptions { metadata: written, ..Profile::Legacy.options() };
            let (root, block) = options.symlink("a");
            assert_eq!(metadata(&root.cid, block.data).unwrap(), written);
        }
        let raw = Cid::new_v1(RAW, Code::Sha2_256.digest(b"x"));
        assert_eq!(metadata(&raw, "x".into()).unwrap(), Metadata::default());
    }

    #[test]
    fn links_of_a_node_without_unixfs_data_are_read() {
        let cids = |block: Vec<u8>, codec| {
            links(&Cid::new_v1(codec, Code::Sha2_256.digest(&block)), block.into()).map_err(|_| ())
        };
        let cid = |n: u8| Cid::new_v1(RAW, Code::Sha2_256.digest(&[n]));
        let link = |n: u8| PbLink { cid: cid(n), name: Some(String::new()), size: Some(1) };
        let node = PbNode { links: vec![link(2), link(1), link(2)], data: None }.into_bytes();
        assert_eq!(cids(node.to_vec(), DAG_PB), Ok([2, 1, 2].map(cid).to_vec()));
        assert_eq!(cids(node.to_vec(), RAW), Ok(vec![]));
        assert_eq!(cids(b"no node".to_vec(), DAG_PB), Err(()));
        assert_eq!(cids(b"\xf6".to_vec(), DAG_CBOR), Ok(vec![]));
        assert_eq!(cids(b"\xff".to_vec(), DAG_CBOR), Err(()));
    }
}
