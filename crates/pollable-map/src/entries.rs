use std::task::{Context, Poll, Waker};

/// What polling one entry came to.
pub enum Polled<V> {
    /// It has something to give and goes on.
    Item(V),
    /// It has something to give and is done.
    Last(V),
    /// It is done.
    Done,
    /// It will wake the task.
    Pending,
}

/// Values by key, polled in turns.
pub struct Entries<K, T> {
    list: Vec<(K, T)>,
    /// Where the next poll begins, so that a busy entry does not starve the others.
    turn: usize,
    /// Of a task that saw nothing to do, for what is inserted since.
    waker: Option<Waker>,
    /// Whether the end is still to be told: once, when the last entry is done.
    filled: bool,
}

impl<K, T> Default for Entries<K, T> {
    fn default() -> Self {
        Self { list: Vec::new(), turn: 0, waker: None, filled: false }
    }
}

impl<K, T> Entries<K, T> {
    pub fn iter(&self) -> impl Iterator<Item = (&K, &T)> {
        self.list.iter().map(|(key, value)| (key, value))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut T)> {
        // Whoever holds a value may give it something to do.
        self.wake();
        self.list.iter_mut().map(|(key, value)| (&*key, value))
    }

    pub fn push(&mut self, key: K, value: T) {
        self.list.push((key, value));
        self.filled = true;
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Polls each entry at most once, and takes out those that are done; none tells that it was the last.
    pub fn poll<V>(
        &mut self,
        cx: &mut Context<'_>,
        mut poll: impl FnMut(&K, &mut T, &mut Context<'_>) -> Polled<V>,
    ) -> Poll<Option<V>> {
        for _ in 0..self.list.len() {
            if self.turn >= self.list.len() {
                self.turn = 0;
            }
            let (key, value) = &mut self.list[self.turn];
            match poll(key, value, cx) {
                Polled::Item(item) => {
                    self.turn += 1;
                    return Poll::Ready(Some(item));
                }
                Polled::Last(item) => {
                    self.list.remove(self.turn);
                    return Poll::Ready(Some(item));
                }
                Polled::Done => drop(self.list.remove(self.turn)),
                Polled::Pending => self.turn += 1,
            }
        }
        if self.list.is_empty() && std::mem::take(&mut self.filled) {
            return Poll::Ready(None);
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl<K: PartialEq, T> Entries<K, T> {
    pub fn get(&self, key: &K) -> Option<&T> {
        self.iter().find(|(k, _)| *k == key).map(|(_, value)| value)
    }

    pub fn get_mut(&mut self, key: &K) -> Option<&mut T> {
        self.iter_mut().find(|(k, _)| *k == key).map(|(_, value)| value)
    }

    pub fn remove(&mut self, key: &K) -> Option<T> {
        let at = self.list.iter().position(|(k, _)| k == key)?;
        Some(self.list.remove(at).1)
    }
}
