//! Streams by key.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures::{Stream, StreamExt};

use crate::entries::{Entries, Polled};

/// Streams by key, polled as one; a stream that ends is taken out. It ends when the last is done, and goes on when one is added.
pub struct StreamMap<K, T>(Entries<K, T>);

impl<K, T> Default for StreamMap<K, T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, T> StreamMap<K, T> {
    /// An empty map.
    pub fn new() -> Self {
        Self(Entries::default())
    }

    /// The keys.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.0.iter().map(|(key, _)| key)
    }

    /// The streams.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|(_, value)| value)
    }

    /// The streams, to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut().map(|(_, value)| value)
    }
}

impl<K: PartialEq, T> StreamMap<K, T> {
    /// Adds a stream, unless there is one of this key.
    pub fn insert(&mut self, key: K, stream: T) -> bool {
        let new = !self.contains_key(&key);
        if new {
            self.0.push(key, stream);
        }
        new
    }

    /// Whether there is a stream of this key.
    pub fn contains_key(&self, key: &K) -> bool {
        self.0.get(key).is_some()
    }

    /// The stream of this key.
    pub fn get(&self, key: &K) -> Option<&T> {
        self.0.get(key)
    }

    /// The stream of this key, to be changed.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut T> {
        self.0.get_mut(key)
    }

    /// The stream of this key, made where it is missing.
    pub fn get_mut_or_default(&mut self, key: &K) -> &mut T
    where
        K: Clone,
        T: Default,
    {
        if !self.contains_key(key) {
            self.insert(key.clone(), T::default());
        }
        self.0.get_mut(key).expect("it was just inserted")
    }

    /// Takes a stream out; its key may come again at once.
    pub fn remove(&mut self, key: &K) -> Option<T> {
        self.0.remove(key)
    }
}

impl<K: Clone + Unpin, T: Stream + Unpin> Stream for StreamMap<K, T> {
    type Item = (K, T::Item);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll(cx, |key, stream, cx| match stream.poll_next_unpin(cx) {
            Poll::Ready(Some(item)) => Polled::Item((key.clone(), item)),
            Poll::Ready(None) => Polled::Done,
            Poll::Pending => Polled::Pending,
        })
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, stream};

    use super::*;

    #[test]
    fn a_key_that_was_removed_can_come_back() {
        let mut map = StreamMap::new();
        assert!(map.insert(1, stream::pending::<u8>().boxed()));
        assert!(!map.insert(1, stream::iter([7]).boxed()));
        assert!(map.next().now_or_never().is_none());
        assert!(map.remove(&1).is_some() && !map.contains_key(&1));
        assert!(map.insert(1, stream::iter([7]).boxed()));
        assert_eq!(map.next().now_or_never(), Some(Some((1, 7))));
        assert_eq!(map.next().now_or_never(), Some(None), "the last one ended");
        assert!(!map.contains_key(&1), "a stream that ended is taken out");
        assert!(map.next().now_or_never().is_none(), "and one may be added");
    }

    #[test]
    fn a_busy_stream_does_not_starve_another() {
        let mut map = StreamMap::new();
        map.insert(1, stream::repeat(1).boxed());
        map.insert(2, stream::repeat(2).boxed());
        let seen: Vec<_> =
            (0..4).filter_map(|_| map.next().now_or_never().flatten()).map(|(key, _)| key).collect();
        assert_eq!(seen, [1, 2, 1, 2]);
    }

    #[tokio::test]
    async fn what_is_inserted_wakes_whoever_waits() {
        let map = std::sync::Arc::new(std::sync::Mutex::new(StreamMap::new()));
        let waiting = map.clone();
        let next = tokio::spawn(std::future::poll_fn(move |cx| waiting.lock().unwrap().poll_next_unpin(cx)));
        tokio::task::yield_now().await;
        map.lock().unwrap().insert(1, stream::iter([7]));
        assert_eq!(next.await.unwrap(), Some((1, 7)));
    }
}
