//! Two processes never write one node directory.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::DirBuilderExt,
    path::Path,
};

use crate::control::Failure;

/// Held as long as the value lives; the system lets go of it when the process dies.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held, not read")] File);

/// Makes the node directory where it is missing. It has keys: other users cannot look into it.
pub fn make_data_dir(data_dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir)
}

/// Makes the node directory where it is missing and locks it.
pub fn lock(data_dir: &Path) -> Result<Lock, Failure> {
    let unusable = |e: io::Error| {
        Failure::new(format!("cannot use the node directory {}: {e}", data_dir.display()))
            .hint("choose another with --data-dir, or give this user the right to write there")
    };
    make_data_dir(data_dir).map_err(unusable)?;
    let path = data_dir.join("lock");
    let mut file =
        File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut owner = String::new();
            let _ = (&mut file).take(20).read_to_string(&mut owner);
            let message = format!("the node directory {} is in use by process {owner}", data_dir.display());
            return Err(
                Failure::new(message).hint("stop that process, or choose another directory with --data-dir")
            );
        }
        Err(TryLockError::Error(e)) => return Err(unusable(e)),
    }
    file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())).map_err(unusable)?;
    Ok(Lock(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_directory_is_locked_by_one_process() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("a/b");
        let first = lock(&inside).unwrap();
        let refused = lock(&inside).unwrap_err();
        assert!(refused.message.contains(&format!("process {}", std::process::id())), "{refused}");
        assert!(refused.hint.is_some());
        drop(first);
        lock(&inside).unwrap();
    }

    #[test]
    fn a_file_as_node_directory_is_rejected() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(lock(file.path()).unwrap_err().message.contains("cannot use the node directory"));
    }
}
