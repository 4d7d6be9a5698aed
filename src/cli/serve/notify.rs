//! Tells systemd how the service is (sd_notify(3)): ready, reloading, stopping, and alive for its watchdog.

use std::{
    env, io,
    os::unix::net::{SocketAddr, UnixDatagram},
    sync::Arc,
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};

/// The manager that started the process, if it wants to be told. Clones share its socket.
#[derive(Clone, Debug, Default)]
pub struct Notifier {
    socket: Option<Arc<UnixDatagram>>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// Reads `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    pub fn from_environment() -> Self {
        let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
        let Some(path) = variable("NOTIFY_SOCKET") else { return Self::default() };
        let socket = connect(&path).inspect_err(|error| {
            tracing::warn!("cannot tell the service manager at {path} how the node is: {error}");
        });
        let is_own = variable("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let watchdog = variable("WATCHDOG_USEC").filter(|_| is_own).and_then(|usec| usec.parse().ok());
        Self { socket: socket.ok().map(Arc::new), watchdog: watchdog.map(Duration::from_micros) }
    }

    /// Whether a manager is told.
    pub fn is_on(&self) -> bool {
        self.socket.is_some()
    }

    /// Returns within what time the manager expects [`Self::alive`]; it restarts the node otherwise.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    pub fn ready(&self) {
        self.send("READY=1\nSTATUS=Serving");
    }

    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    pub fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=Finishing transfers");
    }

    pub fn alive(&self) {
        if self.watchdog.is_some() {
            self.send("WATCHDOG=1");
        }
    }

    fn send(&self, state: &str) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = socket.send(state.as_bytes()) {
            tracing::debug!("cannot tell the service manager how the node is: {error}");
        }
    }
}

/// A path, or a name in the abstract namespace after `@`.
fn connect(path: &str) -> io::Result<UnixDatagram> {
    let address = match path.strip_prefix('@') {
        Some(name) => abstract_address(name)?,
        None => SocketAddr::from_pathname(path)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    // The node does not wait for its manager.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(target_os = "linux")]
fn abstract_address(name: &str) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt;
    SocketAddr::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn abstract_address(_: &str) -> io::Result<SocketAddr> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_manager_is_told_by_datagrams_of_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let socket = connect(path.to_str().unwrap()).unwrap();
        let notifier = Notifier { socket: Some(Arc::new(socket)), watchdog: None };
        notifier.alive();
        notifier.ready();
        notifier.reloading();
        let mut buffer = [0; 200];
        let mut next = || {
            let length = manager.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..length].to_vec()).unwrap()
        };
        assert!(next().starts_with("READY=1\n"), "without a watchdog nothing is said to it");
        let reloading = next();
        let micros = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(micros.parse::<u64>().unwrap() > 0);
        assert!(connect("/nowhere/notify").is_err());
    }
}
