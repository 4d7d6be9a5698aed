//! Futures by key, and without keys.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use futures::{FutureExt, Stream};

use crate::entries::{Entries, Polled};

/// Futures by key, polled as one stream of results. It ends when the last is done, and goes on when one is added.
pub struct FutureMap<K, T>(Entries<K, T>);

impl<K, T> Default for FutureMap<K, T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, T> FutureMap<K, T> {
    /// An empty map.
    pub fn new() -> Self {
        Self(Entries::default())
    }
}

impl<K: PartialEq, T> FutureMap<K, T> {
    /// Adds a future, unless there is one of this key.
    pub fn insert(&mut self, key: K, future: T) -> bool {
        let new = !self.contains_key(&key);
        if new {
            self.0.push(key, future);
        }
        new
    }

    /// Whether there is a future of this key.
    pub fn contains_key(&self, key: &K) -> bool {
        self.0.get(key).is_some()
    }

    /// The future of this key, to be changed.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut T> {
        self.0.get_mut(key)
    }

    /// Takes a future out; its key may come again at once.
    pub fn remove(&mut self, key: &K) -> Option<T> {
        self.0.remove(key)
    }
}

impl<K: Clone + Unpin, T: Future + Unpin> Stream for FutureMap<K, T> {
    type Item = (K, T::Output);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll(cx, |key, future, cx| match future.poll_unpin(cx) {
            Poll::Ready(output) => Polled::Last((key.clone(), output)),
            Poll::Pending => Polled::Pending,
        })
    }
}

/// Futures without keys.
pub mod set {
    use super::{Context, Future, FutureMap, Pin, Poll, Stream};
    use futures::StreamExt;

    /// Futures polled as one stream of results.
    pub struct FutureSet<T> {
        map: FutureMap<u64, T>,
        next: u64,
    }

    impl<T> Default for FutureSet<T> {
        fn default() -> Self {
            Self::new()
        }
    }

    impl<T> FutureSet<T> {
        /// An empty set.
        pub fn new() -> Self {
            Self { map: FutureMap::new(), next: 0 }
        }

        /// Adds a future.
        pub fn insert(&mut self, future: T) -> bool {
            self.next += 1;
            self.map.insert(self.next, future)
        }
    }

    impl<T: Future + Unpin> Stream for FutureSet<T> {
        type Item = T::Output;

        fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            self.map.poll_next_unpin(cx).map(|next| next.map(|(_, output)| output))
        }
    }
}
