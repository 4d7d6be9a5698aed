//! Trusted owners of the control socket: only they may own it and answer on it, since requests include
//! private keys.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::Path,
};

use tokio::net::{UnixListener, UnixStream};

use super::Failure;

/// The users whose socket a command of a node directory speaks to: its own, root, and the owner of that directory.
#[derive(Debug)]
pub struct Trusted([u32; 3]);

impl Trusted {
    /// Returns those of a node directory.
    pub fn of(data_dir: &Path) -> Self {
        let own = rustix::process::geteuid().as_raw();
        let owner = fs::metadata(data_dir).map_or(own, |data| data.uid());
        Self([own, 0, owner])
    }

    /// Refuses a directory for the socket that another user could have prepared.
    pub fn check_dir(&self, dir: &Path) -> Result<(), Failure> {
        let data = fs::symlink_metadata(dir).map_err(|e| {
            Failure::new(format!("cannot use the directory {} for the control socket: {e}", dir.display()))
        })?;
        let mode = data.permissions().mode() & 0o7777;
        let why = match data.uid() {
            _ if !data.is_dir() => "it is not a directory".to_string(),
            uid if !self.0.contains(&uid) => format!("it belongs to the user with id {uid}"),
            _ if mode & 0o077 != 0 => format!("other users can use it (mode {mode:04o}, expected 0700)"),
            _ => return Ok(()),
        };
        Err(Failure::new(format!("refused the directory {} for the control socket: {why}", dir.display()))
            .hint("remove it, or choose a node directory with a shorter path (--data-dir), which then holds the socket"))
    }

    /// Refuses to speak to a process of another user.
    pub fn check_peer(&self, stream: &UnixStream) -> Result<(), Failure> {
        let uid = stream.peer_cred().map_err(Failure::new)?.uid();
        if self.0.contains(&uid) {
            return Ok(());
        }
        Err(Failure::new(format!("the control socket is answered by a process of the user with id {uid}"))
            .hint("run the command as that user if the node is theirs, else remove the socket"))
    }
}

/// Binds a socket that no other user could ever open: it is made in a directory of its own and moved to its place.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    // No longer than the socket's own name, since the length of a path is limited.
    let private = path.with_file_name(".s");
    let _ = fs::remove_dir_all(&private);
    fs::DirBuilder::new().mode(0o700).create(&private)?;
    let new = private.join("s");
    let bound = UnixListener::bind(&new).and_then(|listener| {
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600))?;
        fs::rename(&new, path)?;
        Ok(listener)
    });
    fs::remove_dir_all(&private)?;
    bound
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_socket_directory_with_insecure_permissions_is_rejected() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let trusted = Trusted::of(dir.path());
        trusted.check_dir(dir.path()).unwrap();
        let (open, link, file) = (dir.path().join("open"), dir.path().join("link"), dir.path().join("file"));
        fs::create_dir(&open).unwrap();
        for mode in [0o777, 0o750, 0o701] {
            fs::set_permissions(&open, fs::Permissions::from_mode(mode)).unwrap();
            assert!(trusted.check_dir(&open).unwrap_err().message.contains("other users"), "{mode:o}");
        }
        std::os::unix::fs::symlink(dir.path(), &link).unwrap();
        fs::write(&file, "").unwrap();
        for other in [&link, &file] {
            assert!(trusted.check_dir(other).unwrap_err().message.contains("not a directory"));
        }
        let stranger = Trusted([u32::MAX; 3]);
        assert!(stranger.check_dir(dir.path()).unwrap_err().message.contains("belongs to the user"));
    }

    #[tokio::test]
    async fn a_control_socket_has_private_permissions_and_its_peer_uid_is_checked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        let listener = bind(&path).unwrap();
        assert_eq!(fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let stream = UnixStream::connect(&path).await.unwrap();
        listener.accept().await.unwrap();
        Trusted::of(dir.path()).check_peer(&stream).unwrap();
        let refused = Trusted([u32::MAX; 3]).check_peer(&stream).unwrap_err();
        assert!(refused.message.contains("answered by a process of the user"), "{}", refused.message);
    }
}
