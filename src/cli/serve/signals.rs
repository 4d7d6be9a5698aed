//! The signals that `serve` obeys: SIGINT and SIGTERM stop it, SIGHUP has its files read again.

use futures::future::join_all;
use tokio::signal::unix;

use super::notify::Notifier;
use crate::{cli::Exit, control::Failure, http::reloaded::Reload};

fn listen(kind: unix::SignalKind) -> Result<unix::Signal, Failure> {
    unix::signal(kind).map_err(|e| Failure::new(format!("no signal handler: {e}")))
}

/// SIGINT and SIGTERM, from the moment that it is made.
pub struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
}

impl Signals {
    pub fn listen() -> Result<Self, Exit> {
        let (interrupt, terminate) = (unix::SignalKind::interrupt(), unix::SignalKind::terminate());
        Ok(Self { interrupt: listen(interrupt)?, terminate: listen(terminate)? })
    }

    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Reads the files again at each SIGHUP. Without any, and without a service manager, SIGHUP ends the process, as elsewhere.
pub fn reload(files: Vec<Box<dyn Reload>>, notifier: Notifier) -> Result<impl Future<Output = ()>, Exit> {
    let mut hangups = match files.is_empty() && !notifier.is_on() {
        true => None,
        false => Some(listen(unix::SignalKind::hangup())?),
    };
    Ok(async move {
        while let Some(hangups) = &mut hangups
            && hangups.recv().await.is_some()
        {
            notifier.reloading();
            join_all(files.iter().map(|files| files.reload())).await;
            notifier.ready();
        }
    })
}
