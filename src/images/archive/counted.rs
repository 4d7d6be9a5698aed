//! Counts the bytes of an archive as they are read.

use std::io::{self, Read};

/// Told the bytes read so far.
pub type Progress = Box<dyn FnMut(u64) + Send>;

/// Counts what is read from several files, one after the other.
pub struct Counter {
    done: u64,
    progress: Progress,
}

impl Counter {
    pub fn new(progress: Progress) -> Self {
        Self { done: 0, progress }
    }

    /// Counts bytes that were read, or need not be.
    pub fn add(&mut self, bytes: u64) {
        self.done += bytes;
        (self.progress)(self.done);
    }

    /// Counts the next file as it comes: `file` is told how much of it is there.
    pub fn file<T>(&mut self, file: impl FnOnce(&mut (dyn FnMut(u64) + Send)) -> T) -> T {
        let Self { done, progress } = self;
        let (before, mut here) = (*done, 0);
        let value = file(&mut |bytes| {
            here = bytes;
            progress(before + bytes);
        });
        *done = before + here;
        value
    }

    /// Counts what is read from `inner`.
    pub fn reader<R: Read>(&mut self, inner: R) -> CountingReader<&mut Self, R> {
        CountingReader { inner, counter: self }
    }

    /// Counts what is read from the only file.
    pub fn into_reader<R: Read>(self, inner: R) -> CountingReader<Self, R> {
        CountingReader { inner, counter: self }
    }
}

/// Counts what is read from one file.
pub struct CountingReader<C, R> {
    inner: R,
    counter: C,
}

impl<C: std::borrow::BorrowMut<Counter>, R: Read> Read for CountingReader<C, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.counter.borrow_mut().add(length as u64);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn bytes_of_several_files_are_counted_together() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let progress = {
            let told = told.clone();
            Box::new(move |done| told.lock().unwrap().push(done))
        };
        let mut counter = Counter::new(progress);
        io::copy(&mut counter.reader(&b"abc"[..]), &mut io::sink()).unwrap();
        counter.add(10);
        counter.file(|here| (here(5), here(7)));
        counter.add(1);
        let mut told = std::mem::take(&mut *told.lock().unwrap());
        // The end of a file is a read of nothing.
        told.dedup();
        assert_eq!(told, [3, 13, 18, 20, 21]);
    }
}
