//! The signals that `serve` obeys: SIGINT and SIGTERM stop it, SIGHUP has its files read again.

use futures::future::{Either, join_all, pending, ready};
use tokio::signal::unix;

use super::notify::Notifier;
use crate::{cli::Exit, control::Failure, http::reloaded::Reload};

fn listen(kind: unix::SignalKind) -> Result<unix::Signal, Failure> {
    unix::signal(kind).map_err(|e| Failure::new(format!("no signal handler: {e}")))
}

/// SIGHUP, from the moment that it is made: one that comes before the node is ready is obeyed when it is.
pub struct Hangups {
    signal: unix::Signal,
    /// Whether the process was started to survive SIGHUP, as `nohup` does.
    was_ignored: bool,
}

impl Hangups {
    /// First of all: until then SIGHUP ends the process.
    pub fn listen() -> Result<Self, Exit> {
        let was_ignored = is_ignored(&std::fs::read_to_string("/proc/self/status").unwrap_or_default());
        Ok(Self { signal: listen(unix::SignalKind::hangup())?, was_ignored })
    }
}

/// Whether the state of a process, as `/proc` has it, says that SIGHUP is ignored: the lowest bit.
fn is_ignored(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask & 1 == 1))
}

/// SIGINT and SIGTERM, from the moment that it is made.
pub struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    hangups: Option<Hangups>,
}

impl Signals {
    pub fn listen(hangups: Hangups) -> Result<Self, Exit> {
        let (interrupt, terminate) = (unix::SignalKind::interrupt(), unix::SignalKind::terminate());
        let (interrupt, terminate) = (listen(interrupt)?, listen(terminate)?);
        Ok(Self { interrupt, terminate, hangups: Some(hangups) })
    }

    /// Waits for a signal that stops the process.
    pub async fn next(&mut self) {
        let hangup = match &mut self.hangups {
            Some(hangups) => Either::Left(hangups.signal.recv()),
            None => Either::Right(pending()),
        };
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = hangup => {}
        }
    }

    /// Reads the files again at each SIGHUP from now on. Without any, and without a service manager, SIGHUP stops the process, as
    /// elsewhere, unless it was started to survive it.
    pub fn reload(
        &mut self,
        files: Vec<Box<dyn Reload>>,
        notifier: Notifier,
    ) -> impl Future<Output = ()> + use<> {
        let has_use = !files.is_empty() || notifier.is_on();
        let obeyed = self.hangups.take_if(|hangups| has_use || hangups.was_ignored);
        let Some(mut hangups) = obeyed.filter(|_| has_use) else { return Either::Left(ready(())) };
        Either::Right(async move {
            while hangups.signal.recv().await.is_some() {
                notifier.reloading();
                join_all(files.iter().map(|files| files.reload())).await;
                notifier.ready();
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_that_it_was_started_to_ignore_sighup() {
        assert!(is_ignored("SigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\n"));
        assert!(!is_ignored("SigIgn:\t0000000000001000\nSigCgt:\t0000000000000001\n"));
        assert!(!is_ignored(""));
    }
}
