//! Tells a command how far its operation is, at a bounded rate.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::Notes;
use crate::control::{Note, Progress, Unit};

/// Time between two messages of a phase, but for its first and its last one.
const INTERVAL: Duration = Duration::from_millis(200);

/// Measures a phase of an operation. Clones measure the same phase.
#[derive(Clone)]
pub struct Meter {
    notes: Notes,
    phase: Arc<Mutex<Phase>>,
}

/// A phase, and when it was told last.
struct Phase {
    progress: Progress,
    told: Instant,
}

impl Meter {
    /// Begins a phase, of so many units where their number is known.
    pub fn begin(notes: &Notes, phase: &str, unit: Unit, total: Option<u64>) -> Self {
        let progress = Progress { phase: phase.into(), done: 0, total, unit };
        let _ = notes.send(Note::Progress(progress.clone()));
        let phase = Arc::new(Mutex::new(Phase { progress, told: Instant::now() }));
        Self { notes: notes.clone(), phase }
    }

    /// Tells that so much is done; less than before counts as before.
    pub fn set(&self, done: u64) {
        self.tell(|phase| phase.set(done, Instant::now()));
    }

    /// Tells that so much is done of a total that grows while more is found.
    pub fn set_of(&self, done: u64, total: u64) {
        self.tell(|phase| {
            let known = phase.progress.total.get_or_insert_default();
            *known = total.max(*known);
            phase.set(done, Instant::now())
        });
    }

    /// Tells that so much more is done.
    pub fn add(&self, more: u64) {
        self.tell(|phase| phase.set(phase.progress.done.saturating_add(more), Instant::now()));
    }

    /// Returns how much is done.
    pub fn done(&self) -> u64 {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner).progress.done
    }

    /// Ends the phase, of which all is done.
    pub fn finish(&self) {
        self.tell(|phase| Some(phase.finish()));
    }

    fn tell(&self, change: impl FnOnce(&mut Phase) -> Option<Progress>) {
        // Sent under the lock, so that messages keep their order.
        let mut phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(progress) = change(&mut phase) {
            let _ = self.notes.send(Note::Progress(progress));
        }
    }
}

impl Phase {
    /// Returns what is told at this time, if a message is due.
    fn set(&mut self, done: u64, now: Instant) -> Option<Progress> {
        let Self { progress, told } = self;
        progress.done = progress.done.max(done);
        progress.total = progress.total.map(|total| total.max(progress.done));
        if now.saturating_duration_since(*told) < INTERVAL {
            return None;
        }
        *told = now;
        Some(progress.clone())
    }

    /// A known total may include what turned out to be not needed; an unknown one is known now.
    fn finish(&mut self) -> Progress {
        let all = self.progress.total.unwrap_or(self.progress.done);
        self.progress.done = all;
        self.progress.total = Some(all);
        self.progress.clone()
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    fn phase(total: Option<u64>) -> (Phase, Instant) {
        let now = Instant::now();
        (Phase { progress: Progress { total, ..Progress::default() }, told: now }, now)
    }

    #[test]
    fn progress_is_told_five_times_a_second_at_most() {
        let (mut phase, begun) = phase(Some(10_000));
        let told = (1..=10_000).filter_map(|ms| phase.set(ms, begun + Duration::from_millis(ms)));
        let told: Vec<u64> = told.map(|progress| progress.done).collect();
        assert_eq!(told, (1..=50).map(|number| number * 200).collect::<Vec<_>>());
    }

    #[test]
    fn progress_never_goes_back_nor_beyond_its_total() {
        let (mut phase, begun) = phase(Some(10));
        let later = |number| begun + INTERVAL * number;
        assert_eq!(phase.set(7, later(1)).unwrap().done, 7);
        assert_eq!(phase.set(5, later(2)).unwrap().done, 7);
        let beyond = phase.set(12, later(3)).unwrap();
        assert_eq!((beyond.done, beyond.total), (12, Some(12)));
    }

    #[test]
    fn the_first_and_the_last_message_of_a_phase_are_always_sent() {
        for (total, last) in [(Some(10), 10), (None, 3)] {
            let (notes, mut noted) = mpsc::unbounded_channel();
            let meter = Meter::begin(&notes, "import", Unit::Bytes, total);
            meter.add(1);
            meter.set(3);
            meter.finish();
            drop((notes, meter));
            let mut told = Vec::new();
            while let Ok(Note::Progress(progress)) = noted.try_recv() {
                told.push((progress.done, progress.total));
            }
            assert_eq!(told.first(), Some(&(0, total)));
            assert_eq!(told.last(), Some(&(last, Some(last))));
        }
    }
}
