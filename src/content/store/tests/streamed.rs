use super::*;

#[test]
fn streamed_through_file_leaves_no_rows_and_is_not_served() {
    let (dir, store) = temp();
    let bytes = bytes(1, 3 * MIB);
    let dag = Dag::new(Profile::UnixfsV1, &bytes);
    let passing = store.stream_through(dag.root(), bytes.len() as u64).unwrap();
    for Block { cid, data } in &dag.layout.nodes {
        passing.insert_node(*cid, data.clone()).unwrap();
    }
    for (leaf, block) in &dag.leaves {
        passing.write(leaf, block, 0..block.len()).unwrap();
        assert_eq!(passing.read_at(leaf.offset, block.len()).unwrap(), block);
        passing.forget(0..leaf.offset).unwrap();
    }
    passing.checkpoint().unwrap();
    assert!(dag.is_gone_from(&store) && store.partial().unwrap().is_empty());
    assert!(incoming(dir.path()).is_empty());
    drop(passing);
    assert_eq!(store.stat().unwrap(), Default::default());
}
