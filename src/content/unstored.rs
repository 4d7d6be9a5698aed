//! Fetched blocks that could not be stored, because there was no room. Their readers get them all the same; a task that fetches
//! content to keep it is told.

use std::sync::{Arc, OnceLock};

use super::{Content, Error};

tokio::task_local! {
    static CURRENT: Unstored;
}

/// Why a block could not be stored, of those that a task fetches to keep them.
#[derive(Clone, Default)]
pub struct Unstored(Option<Arc<OnceLock<Error>>>);

impl Unstored {
    /// Returns the one of this task, which may be none.
    pub fn current() -> Self {
        CURRENT.try_with(Self::clone).unwrap_or_default()
    }

    /// Notes that a block could not be stored.
    pub fn note(&self, why: &Error) {
        if let Some(first) = &self.0 {
            let _ = first.set(why.clone());
        }
    }
}

impl Content {
    /// Runs `fetch`, which reads content that is to be kept. Returns also why a block of it could not be stored.
    pub async fn fetch_to_keep<T>(&self, fetch: impl Future<Output = T>) -> (T, Option<Error>) {
        let first = Arc::new(OnceLock::new());
        let fetched = CURRENT.scope(Unstored(Some(first.clone())), fetch).await;
        self.wait_for_blocks().await;
        (fetched, first.get().cloned())
    }
}
