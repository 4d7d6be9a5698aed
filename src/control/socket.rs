//! Where the control socket of a node directory is.

use std::{
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use ocipfs_oci::Digest;

/// Maximum length of the path in a Unix socket address.
const MAX_PATH_BYTES: usize = 107;

/// The socket's path: in the node directory, or a short one derived from it where that is too long.
pub fn path(data_dir: &Path) -> PathBuf {
    all(data_dir).swap_remove(0)
}

/// Every path that the socket may have: the process that bound it may have had no directory at run time.
pub fn all(data_dir: &Path) -> Vec<PathBuf> {
    paths(data_dir, std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from))
}

/// The first is where a socket is bound. `runtime` is the user's own directory, which other users cannot write to.
fn paths(data_dir: &Path, runtime: Option<PathBuf>) -> Vec<PathBuf> {
    let full = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.into());
    let inside = full.join("control.sock");
    if inside.as_os_str().len() <= MAX_PATH_BYTES {
        return vec![inside];
    }
    let name = &Digest::sha256_of(full.as_os_str().as_bytes()).hex()[..16];
    let below = |dir: PathBuf| dir.join(format!("ocipfs-{name}")).join("sock");
    let runtime = runtime.filter(|dir| dir.is_absolute() && dir.is_dir()).map(below);
    let runtime = runtime.filter(|path| path.as_os_str().len() <= MAX_PATH_BYTES);
    runtime.into_iter().chain([below(std::env::temp_dir())]).collect()
}

/// Whether the socket is elsewhere than in the node directory.
pub fn is_elsewhere(data_dir: &Path) -> bool {
    path(data_dir).file_name().is_some_and(|name| name == "sock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_node_directory_path_has_its_own_short_control_socket_path() {
        assert_eq!(path(Path::new("/data")), Path::new("/data/control.sock"));
        let (one, two) = (format!("/{}/1", "d".repeat(120)), format!("/{}/2", "d".repeat(120)));
        let (one, two) = (Path::new(&one), Path::new(&two));
        assert!(path(one).as_os_str().len() <= MAX_PATH_BYTES && is_elsewhere(one));
        assert_eq!(path(one), path(one));
        assert_ne!(path(one), path(two));
        let own = tempfile::tempdir().unwrap();
        let [first, second] = paths(one, Some(own.path().into())).try_into().unwrap();
        assert!(first.starts_with(own.path()) && second.starts_with(std::env::temp_dir()));
        assert_eq!(paths(one, Some("relative".into())), [second]);
    }
}
