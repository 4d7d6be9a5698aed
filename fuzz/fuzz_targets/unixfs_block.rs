//! Any bytes are a block of UnixFS or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ocipfs_unixfs::DagNode;

fuzz_target!(|bytes: &[u8]| {
    let cid = "bafybeihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku".parse().expect("a CID");
    if let Ok(node) = DagNode::decode(&cid, bytes.to_vec().into()) {
        let _ = (node.kind(), node.size());
    }
});
