//! The file `api`, by which Kubo's clients find the RPC.

use std::{
    fs, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};

/// A file with the address of a listener; dropped, it is removed.
#[derive(Debug)]
pub struct ApiFile {
    path: PathBuf,
    text: String,
}

impl ApiFile {
    /// Writes `api` into a directory, which is created if it is missing.
    ///
    /// # Errors
    /// Fails if the file cannot be written.
    pub fn write(dir: &Path, address: SocketAddr) -> io::Result<Self> {
        let file = Self { path: dir.join("api"), text: multiaddr(address) };
        fs::create_dir_all(dir)?;
        let beside = dir.join("api.new");
        fs::write(&beside, &file.text)?;
        fs::rename(beside, &file.path)?;
        Ok(file)
    }
}

impl Drop for ApiFile {
    fn drop(&mut self) {
        // Another daemon may have replaced it.
        if fs::read_to_string(&self.path).is_ok_and(|text| text == self.text)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), "cannot remove the file: {error}");
        }
    }
}

/// Returns the address as clients on this machine dial it.
pub fn multiaddr(mut address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    let version = if address.is_ipv4() { "ip4" } else { "ip6" };
    format!("/{version}/{}/tcp/{}", address.ip(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_file_has_a_multiaddr_and_is_removed_unless_another_daemon_replaced_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("repo/api");
        for (address, text) in [
            ("127.0.0.1:5001", "/ip4/127.0.0.1/tcp/5001"),
            ("0.0.0.0:80", "/ip4/127.0.0.1/tcp/80"),
            ("[::1]:5001", "/ip6/::1/tcp/5001"),
            ("[::]:5001", "/ip6/::1/tcp/5001"),
        ] {
            let file = ApiFile::write(&dir.path().join("repo"), address.parse().unwrap()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            drop(file);
            assert!(!path.exists());
        }
        let file = ApiFile::write(&dir.path().join("repo"), "127.0.0.1:1".parse().unwrap()).unwrap();
        fs::write(&path, "/ip4/127.0.0.1/tcp/2").unwrap();
        drop(file);
        assert!(path.exists());
    }
}
