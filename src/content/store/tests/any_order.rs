use proptest::prelude::*;

use super::*;

const SIZE: usize = 700 << 10;

/// Event in the history of a partial blob.
#[derive(Clone, Debug)]
enum Step {
    Write(prop::sample::Index),
    Checkpoint,
    /// Reopen as after a crash: bytes without a checkpoint are lost.
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => any::<prop::sample::Index>().prop_map(Step::Write),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Reopen),
    ]
}

/// Small leaves, so that there are many: of 10 KiB, and raw.
fn dag(bytes: &Bytes) -> Dag {
    use multihash_codetable::{Code, MultihashDigest};
    use ocipfs_unixfs::RAW;
    let mut offset = 0;
    let mut leaves = Vec::new();
    for chunk in bytes.chunks(10 << 10) {
        let cid = Cid::new_v1(RAW, Code::Sha2_256.digest(chunk));
        leaves.push((Leaf { cid, offset, length: chunk.len() as u64 }, bytes.slice_ref(chunk)));
        offset += chunk.len() as u64;
    }
    let root = Dag::new(Profile::Legacy, bytes).root();
    Dag {
        layout: BlobLayout { root, leaves: leaves.iter().map(|leaf| leaf.0).collect(), nodes: vec![] },
        leaves,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn any_order_of_writes_with_crashes_in_between_reads_back_equal(steps in prop::collection::vec(step(), 0..90)) {
        let dir = tempfile::tempdir().unwrap();
        let bytes = bytes(7, SIZE);
        let dag = dag(&bytes);
        let mut store = Store::open(dir.path()).unwrap();
        let mut partial = store.begin_partial(dag.root(), SIZE as u64).unwrap();
        let (mut written, mut saved) = (vec![false; dag.leaves.len()], vec![false; dag.leaves.len()]);
        for step in steps {
            match step {
                Step::Write(index) => {
                    let n = index.index(dag.leaves.len());
                    let (leaf, block) = &dag.leaves[n];
                    partial.write(leaf, block, 0..block.len()).unwrap();
                    written[n] = true;
                }
                Step::Checkpoint => {
                    partial.checkpoint().unwrap();
                    saved.clone_from(&written);
                }
                Step::Reopen => {
                    drop((partial, store));
                    store = Store::open(dir.path()).unwrap();
                    partial = store.begin_partial(dag.root(), SIZE as u64).unwrap();
                    written.clone_from(&saved);
                }
            }
            for ((leaf, block), is_written) in dag.leaves.iter().zip(&written) {
                prop_assert_eq!(partial.has(leaf), *is_written);
                prop_assert_eq!(store.get(&leaf.cid).unwrap(), is_written.then(|| block.clone()));
            }
        }
        for (leaf, block) in dag.leaves.iter().filter(|(leaf, _)| !partial.has(leaf)) {
            partial.write(leaf, block, 0..block.len()).unwrap();
        }
        let stored = partial.finish(&Digest::sha256_of(&bytes), &[], |_| Ok(())).unwrap();
        prop_assert_eq!(whole(&store, &stored), bytes);
        prop_assert!(dag.is_in(&store));
    }
}
