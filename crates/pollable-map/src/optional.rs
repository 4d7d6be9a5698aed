//! A future or a stream that may be there.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use futures::{FutureExt, Stream, StreamExt};

/// A future or a stream that may be there; while it is not, it is pending.
pub struct Optional<T> {
    task: Option<T>,
    waker: Option<Waker>,
}

impl<T> Default for Optional<T> {
    fn default() -> Self {
        Self { task: None, waker: None }
    }
}

impl<T> Optional<T> {
    /// One that is there.
    pub fn new(task: T) -> Self {
        Self { task: Some(task), waker: None }
    }

    /// Whether it is there.
    pub fn is_some(&self) -> bool {
        self.task.is_some()
    }

    /// Whether it is not there.
    pub fn is_none(&self) -> bool {
        self.task.is_none()
    }

    /// It, if it is there.
    pub fn as_ref(&self) -> Option<&T> {
        self.task.as_ref()
    }

    /// It, to be changed.
    pub fn as_mut(&mut self) -> Option<&mut T> {
        self.task.as_mut()
    }

    /// Takes it out.
    pub fn take(&mut self) -> Option<T> {
        self.task.take()
    }

    /// Puts another in its place.
    pub fn replace(&mut self, task: T) -> Option<T> {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        self.task.replace(task)
    }

    fn pending<V>(&mut self, cx: &Context<'_>) -> Poll<V> {
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl<T: Future + Unpin> Future for Optional<T> {
    type Output = T::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T::Output> {
        match self.task.as_mut().map(|task| task.poll_unpin(cx)) {
            Some(Poll::Ready(output)) => {
                self.task = None;
                Poll::Ready(output)
            }
            _ => self.pending(cx),
        }
    }
}

impl<T: Stream + Unpin> Stream for Optional<T> {
    type Item = T::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T::Item>> {
        match self.task.as_mut().map(|task| task.poll_next_unpin(cx)) {
            Some(Poll::Ready(Some(item))) => Poll::Ready(Some(item)),
            Some(Poll::Ready(None)) => {
                self.task = None;
                Poll::Ready(None)
            }
            _ => self.pending(cx),
        }
    }
}
