//! Writes a file and a directory as blocks, and walks from the directory's CID to the file's bytes.

use std::{collections::HashMap, error::Error};

use ocipfs_unixfs::{DagNode, Document, Profile};

fn main() -> Result<(), Box<dyn Error>> {
    let profile = Profile::UnixfsV1;
    let file = Document::file("hello, UnixFS\n".into(), profile);
    let directory = Document::directory("hello.txt", &file.root, profile);
    println!("{}/hello.txt", directory.root.cid);

    let blocks = file.blocks.into_iter().chain(directory.blocks);
    let blocks: HashMap<_, _> = blocks.map(|block| (block.cid, block.data)).collect();
    let mut cids = vec![directory.root.cid];
    while let Some(cid) = cids.pop() {
        match DagNode::decode(&cid, blocks[&cid].clone())? {
            DagNode::Directory(links) => cids.extend(links.into_iter().map(|(_, cid)| cid)),
            file => println!("{cid}: {}, {} bytes", file.kind(), file.size()),
        }
    }
    Ok(())
}
