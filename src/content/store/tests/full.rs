use std::process::Command;

use super::*;

/// A small file system of its own, gone with the test.
struct Disk(TempDir);

impl Disk {
    fn mount(mib: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={mib}m");
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).status();
        assert!(mount.unwrap().success());
        Self(dir)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
#[ignore = "mounts a tmpfs, for which it has to be root"]
fn full_disk_rejects_writes_and_keeps_stored_blobs() {
    let disk = Disk::mount(96);
    let dir = disk.0.path().join("node");
    let store = Store::open(&dir).unwrap();
    let stored_bytes = bytes(1, 2 * MIB);
    let dag = Dag::new(Profile::UnixfsV1, &stored_bytes);
    let stored = put(&store, &stored_bytes, &[&dag]);
    let other = Dag::new(Profile::UnixfsV1, &bytes(2, 40 * MIB));
    let partial = store.begin_partial(other.root(), 40 * MIB as u64).unwrap();
    let (leaf, block) = &other.leaves[0];
    partial.write(leaf, block, 0..block.len()).unwrap();

    // Less than the headroom: nothing is begun or committed.
    let ballast = disk.0.path().join("ballast");
    std::fs::write(&ballast, vec![1; 70 * MIB]).unwrap();
    assert!(matches!(store.draft(), Err(Error::Full)));
    assert!(matches!(store.put_blocks(&[]), Err(Error::Full)));
    assert!(matches!(partial.checkpoint(), Err(Error::Full)));
    assert!(dag.is_in(&store) && store.get(&leaf.cid).unwrap().is_some());

    // Nothing at all: the index itself cannot grow, and is opened again.
    let full = std::fs::write(disk.0.path().join("rest"), vec![1; 40 * MIB]);
    assert!(full.is_err());
    let grown = store.database().write(|write| {
        let mut table = write.open_table(redb::TableDefinition::<u64, &[u8]>::new("ballast"))?;
        (0..64).try_for_each(|n| table.insert(n, &*vec![1; MIB]).map(drop))?;
        Ok(())
    });
    assert!(matches!(grown, Err(Error::Full)), "{grown:?}");
    assert!(dag.is_in(&store) && whole(&store, &stored) == stored_bytes);
    let (leaf, block) = &other.leaves[5];
    assert!(matches!(partial.write(leaf, block, 0..block.len()), Err(Error::Full)));

    // And with room again all goes on where it was.
    std::fs::remove_file(&ballast).unwrap();
    std::fs::remove_file(disk.0.path().join("rest")).unwrap();
    partial.write(leaf, block, 0..block.len()).unwrap();
    partial.checkpoint().unwrap();
    assert!(store.remove(&dag.root()).unwrap());
    put(&store, &stored_bytes, &[&dag]);
    drop((partial, store));
    let store = Store::open(&dir).unwrap();
    assert!(dag.is_in(&store));
    assert_eq!(store.stat().unwrap().partial_bytes, 2 * MIB as u64);
}
