//! What a scrape reads.

use std::sync::{Mutex, OnceLock, PoisonError};

use tokio::time::Instant;

use super::{health::Health, sample::Sample};
use crate::control::Instance;

/// The node that is observed, once it is open.
pub struct Observed {
    health: Health,
    instance: OnceLock<Instance>,
    sample: Mutex<Option<Sample>>,
}

impl Observed {
    pub fn new(health: Health) -> Self {
        Self { health, instance: OnceLock::new(), sample: Mutex::default() }
    }

    pub fn is_ready(&self) -> bool {
        self.health.ready(Instant::now()).is_ok()
    }

    pub fn instance(&self) -> Option<&Instance> {
        self.instance.get()
    }

    pub fn set_instance(&self, instance: Instance) {
        let _ = self.instance.set(instance);
    }

    pub fn sample(&self) -> Option<Sample> {
        *self.sample.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_sample(&self, sample: Sample) {
        *self.sample.lock().unwrap_or_else(PoisonError::into_inner) = Some(sample);
    }
}
