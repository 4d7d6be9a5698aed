//! Whether the node lives, and whether clients should be sent to it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, timeout};

use crate::control::Instance;

/// How long the store and the swarm's task may take to answer a check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);
/// After so long without an answer no client is sent here.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// After so long a restart is the remedy: it costs every transfer, so a slow disk alone must not cause it.
const LIVE_WITHIN: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Starting,
    Ready,
    Draining,
}

#[derive(Debug, Default)]
struct State {
    stage: Stage,
    /// When the last check succeeded.
    answered: Option<Instant>,
    /// Why the last check failed.
    failing: Option<String>,
}

/// The health of a node, through its whole life. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<State>>);

impl Health {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends clients here from now on, while checks succeed.
    pub fn set_ready(&self) {
        self.state().stage = Stage::Ready;
    }

    /// Tells load balancers to stop sending clients here: the node stops soon.
    pub fn set_draining(&self) {
        self.state().stage = Stage::Draining;
    }

    /// Says whether the node has opened its directory and its listeners.
    pub fn started(&self) -> Result<(), String> {
        match self.state().stage {
            Stage::Starting => Err("starting: the node directory is being opened".into()),
            Stage::Ready | Stage::Draining => Ok(()),
        }
    }

    /// Says whether the process is worth keeping. One that starts or stops is.
    pub fn live(&self, now: Instant) -> Result<(), String> {
        self.state().answered_within(LIVE_WITHIN, now)
    }

    /// Says whether clients should be sent here.
    pub fn ready(&self, now: Instant) -> Result<(), String> {
        let state = self.state();
        match state.stage {
            Stage::Starting => Err("starting: the node directory is being opened".into()),
            Stage::Draining => Err("stopping: clients are to use another node".into()),
            Stage::Ready => state.answered_within(READY_WITHIN, now),
        }
    }

    /// Checks the instance once. Returns whether it answers.
    pub async fn check(&self, instance: &Instance) -> bool {
        let checked = check(instance).await;
        let mut state = self.state();
        match checked {
            Ok(()) => {
                (state.answered, state.failing) = (Some(Instant::now()), None);
                true
            }
            Err(why) => {
                if state.failing.as_ref() != Some(&why) {
                    tracing::warn!("the node does not answer its own check: {why}");
                }
                state.failing = Some(why);
                false
            }
        }
    }
}

impl State {
    fn answered_within(&self, limit: Duration, now: Instant) -> Result<(), String> {
        let Some(answered) = self.answered else { return Ok(()) };
        let silent = now.saturating_duration_since(answered);
        match silent > limit {
            true => Err(format!(
                "no answer for {} s: {}",
                silent.as_secs(),
                self.failing.as_deref().unwrap_or("a check has not ended")
            )),
            false => Ok(()),
        }
    }
}

/// Asks the store and the swarm's task for something cheap.
async fn check(instance: &Instance) -> Result<(), String> {
    let content = instance.content();
    let read = timeout(CHECK_TIMEOUT, content.store().run(|store| store.used_bytes()));
    let read = read.await.map_err(|_| "the store did not answer in time".to_owned())?;
    read.map_err(|error| format!("the store cannot be read: {error}"))?;
    match timeout(CHECK_TIMEOUT, content.node().answers()).await {
        Ok(true) => Ok(()),
        Ok(false) => Err("the swarm's task has ended".into()),
        Err(_) => Err("the swarm's task did not answer in time".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn answered(health: &Health, at: Instant) {
        health.state().answered = Some(at);
    }

    #[test]
    fn a_node_is_ready_between_its_start_and_its_stop_and_alive_all_the_time() {
        let (health, now) = (Health::default(), Instant::now());
        assert!(health.started().is_err() && health.ready(now).is_err() && health.live(now).is_ok());
        answered(&health, now);
        assert!(health.ready(now).unwrap_err().contains("starting"), "a check alone does not make it ready");
        health.set_ready();
        assert!(health.started().is_ok() && health.ready(now).is_ok() && health.live(now).is_ok());
        health.set_draining();
        assert!(health.ready(now).unwrap_err().contains("stopping"));
        assert!(health.started().is_ok() && health.live(now).is_ok());
    }

    #[test]
    fn a_node_that_does_not_answer_is_first_not_ready_and_then_not_alive() {
        let (health, begun) = (Health::default(), Instant::now());
        health.set_ready();
        answered(&health, begun);
        assert!(health.ready(begun + READY_WITHIN).is_ok());
        let late = begun + READY_WITHIN + SECOND;
        assert!(health.ready(late).unwrap_err().contains("31 s") && health.live(late).is_ok());
        health.state().failing = Some("the store cannot be read: it is gone".into());
        let dead = begun + LIVE_WITHIN + SECOND;
        assert!(health.live(dead).unwrap_err().contains("it is gone"));
        answered(&health, dead);
        assert!(health.ready(dead).is_ok() && health.live(dead).is_ok());
    }
}
