use super::*;
use crate::content::store::{
    Origin,
    index::{GcRoot, Index, release_root, retain_root},
};

const PUSHED: [Option<Origin>; 2] = [Some(Origin::Pushed); 2];
const ADDED: [Option<Origin>; 2] = [Some(Origin::Added); 2];

#[test]
fn a_pushed_block_is_shared_only_while_a_command_keeps_it_despite_pulls() {
    let (dir, store) = temp();
    let (database, index) = (store.database(), Index::new(store.database()));
    let content = bytes(1, 3 * MIB);
    let dag = Dag::new(Profile::UnixfsV1, &content);
    put(&store, &content, &[&dag]);
    let (root, leaf) = (dag.root(), dag.leaves[0].0.cid);
    let origins = || [root, leaf].map(|cid| store.origin(&cid).unwrap());
    database.write(|write| retain_root(write, "repository/app/blobs/x", &root)).unwrap();
    assert_eq!(origins(), PUSHED);
    // Whatever a client was led to pull, and whatever a followed name means.
    index.retain(&leaf, &GcRoot::new(false, &[root], vec![])).unwrap();
    database.write(|write| retain_root(write, "follow/k51", &root)).unwrap();
    assert_eq!(origins(), PUSHED);
    index.retain(&root, &GcRoot::new(true, &[root], vec![])).unwrap();
    assert_eq!(origins(), ADDED);
    index.release(&root).unwrap();
    assert_eq!(origins(), PUSHED);
    // Deleted, and not yet collected.
    database.write(|write| release_root(write, "repository/app/blobs/x", &root)).unwrap();
    assert_eq!(origins(), PUSHED);
    // Damaged: its right windows are as public as before.
    database.write(|write| retain_root(write, "repository/app/blobs/x", &root)).unwrap();
    let path = blob_path(dir.path(), &content);
    std::fs::File::options().write(true).open(path).unwrap().set_len(2 << 20).unwrap();
    assert!(store.demote(&store.file(&root).unwrap().unwrap()).unwrap());
    assert_eq!((origins(), store.get(&leaf).unwrap().is_some()), (PUSHED, true));
    index.retain(&root, &GcRoot::new(true, &[root], vec![])).unwrap();
    assert_eq!(origins(), ADDED);
    assert_eq!(store.origin(&"bafkqaaa".parse().unwrap()).unwrap(), None);
}
