//! An answer that is computed once for all visitors, however many poll.

use std::time::Duration;

use tokio::{sync::Mutex, time::Instant};

/// The last answer, and when it was computed. Those that come while it is computed wait for it.
pub struct Cached<T>(Mutex<Option<(Instant, T)>>);

impl<T> Default for Cached<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Cached<T> {
    /// Returns an answer that is at most `age` old.
    pub async fn get<E>(&self, age: Duration, make: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let mut last = self.0.lock().await;
        if let Some((at, value)) = &*last
            && at.elapsed() < age
        {
            return Ok(value.clone());
        }
        let value = make.await?;
        *last = Some((Instant::now(), value.clone()));
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_computed_again_only_when_it_is_old_and_an_error_is_not_kept() {
        let (cached, age) = (Cached::default(), Duration::from_secs(4));
        let get = async |value: Result<u8, ()>| cached.get(age, async move { value }).await;
        assert_eq!(get(Err(())).await, Err(()));
        assert_eq!(get(Ok(1)).await, Ok(1));
        assert_eq!(get(Ok(2)).await, Ok(1));
        tokio::time::advance(age).await;
        assert_eq!(get(Ok(3)).await, Ok(3));
    }
}
