//! Locks of values that stay whole even where a thread panicked.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
