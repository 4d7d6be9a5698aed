//! Files that `serve` reads again when they change: users, authorizations, certificates, rules.
//!
//! A [`Reloaded`] value is made of one file or of several that belong together. It is read again
//!
//! - by [`Reloaded::refresh`], which a request calls before it uses the value: at most once a second, and only if a file changed,
//! - by [`Reloaded::reload`], at once, which `serve` calls on SIGHUP (`src/cli/serve/signals.rs` has the list).
//!
//! Files that cannot be read keep the previous value, since they may be half written. The reason is logged once.

mod stamp;

use std::{
    fmt::Display,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use tokio::sync::watch;

use super::lock::locked;
use stamp::Stamp;

/// Between two looks at the files.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// Something that SIGHUP reads again.
pub trait Reload: Send + Sync {
    /// Reads the files again at once.
    fn reload(&self) -> BoxFuture<'_, ()>;
}

/// A value read from files, as they were when they were last read without an error. Clones share it.
pub struct Reloaded<T>(Arc<Files<T>>);

impl<T> Clone for Reloaded<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

type Reader<T> = Box<dyn Fn(&[PathBuf]) -> Result<T, String> + Send + Sync>;

struct Files<T> {
    /// What log lines call the value, such as `the users`.
    what: &'static str,
    paths: Vec<PathBuf>,
    read: Reader<T>,
    /// Held while the files are read, so that an older state never replaces a newer one.
    reading: Mutex<()>,
    state: Mutex<State<T>>,
    changed: watch::Sender<()>,
}

struct State<T> {
    value: Arc<T>,
    /// None if the files have to be read again even if they look the same.
    stamp: Option<Stamp>,
    looked: Instant,
    /// Why the newest content of the files is not used.
    failing: Option<String>,
}

impl<T: PartialEq + Send + Sync + 'static> Reloaded<T> {
    /// Reads a file. `what` is the name of its content in log lines, with its article.
    pub fn read<E: Display>(
        what: &'static str,
        path: &Path,
        read: impl Fn(&Path) -> Result<T, E> + Send + Sync + 'static,
    ) -> Result<Self, E> {
        Self::read_all(what, vec![path.into()], move |paths| read(&paths[0]))
    }

    /// Reads several files that make one value, such as a certificate and its key.
    pub fn read_all<E: Display>(
        what: &'static str,
        paths: Vec<PathBuf>,
        read: impl Fn(&[PathBuf]) -> Result<T, E> + Send + Sync + 'static,
    ) -> Result<Self, E> {
        let stamp = Stamp::settled(&paths);
        let value = read(&paths)?;
        let all = Self::starting_with(what, paths, value, None, read);
        locked(&all.0.state).stamp = stamp;
        Ok(all)
    }

    /// Starts with a value until the files are read for the first time; `failing` is why they were not, if that was told already.
    pub fn starting_with<E: Display>(
        what: &'static str,
        paths: Vec<PathBuf>,
        value: T,
        failing: Option<String>,
        read: impl Fn(&[PathBuf]) -> Result<T, E> + Send + Sync + 'static,
    ) -> Self {
        let state = State { value: Arc::new(value), stamp: None, looked: Instant::now(), failing };
        let read: Reader<T> = Box::new(move |paths| read(paths).map_err(|error| error.to_string()));
        let (reading, state, changed) = (Mutex::default(), Mutex::new(state), watch::Sender::default());
        Self(Arc::new(Files { what, paths, read, reading, state, changed }))
    }

    /// Returns the value as it was last read.
    pub fn get(&self) -> Arc<T> {
        locked(&self.0.state).value.clone()
    }

    /// Wakes when the value is another.
    pub fn changed(&self) -> watch::Receiver<()> {
        self.0.changed.subscribe()
    }

    /// Reads the files again if they changed; looks at most once a second.
    pub async fn refresh(&self) {
        {
            let mut state = locked(&self.0.state);
            if Instant::now().saturating_duration_since(state.looked) < REFRESH_INTERVAL {
                return;
            }
            state.looked = Instant::now();
        }
        self.look().await;
    }

    /// Reads the files again at once.
    pub async fn reload(&self) {
        locked(&self.0.state).stamp = None;
        self.look().await;
    }

    async fn look(&self) {
        let files = self.0.clone();
        // The value stays as it is where the reader panics.
        let _ = tokio::task::spawn_blocking(move || files.read_changed()).await;
    }
}

impl<T: PartialEq + Send + Sync + 'static> Reload for Reloaded<T> {
    fn reload(&self) -> BoxFuture<'_, ()> {
        Box::pin(Reloaded::reload(self))
    }
}

impl<T: PartialEq> Files<T> {
    fn read_changed(&self) {
        let _reading = locked(&self.reading);
        let known = locked(&self.state).stamp.take();
        if known.is_some() && known == Stamp::of(&self.paths) {
            locked(&self.state).stamp = known;
            return;
        }
        // Before the files are read: what changes meanwhile has another stamp.
        let stamp = Stamp::settled(&self.paths);
        let read = (self.read)(&self.paths);
        let mut state = locked(&self.state);
        match read {
            Ok(value) => {
                if *state.value != value {
                    tracing::info!(path = %self.paths[0].display(), "reloaded {}", self.what);
                    state.value = Arc::new(value);
                    self.changed.send_replace(());
                }
                (state.stamp, state.failing) = (stamp, None);
            }
            Err(why) => {
                if state.failing.as_ref() != Some(&why) {
                    tracing::warn!("cannot reload {}, the previous state stays: {why}", self.what);
                }
                (state.stamp, state.failing) = (None, Some(why));
            }
        }
    }
}

#[cfg(test)]
impl<T> Reloaded<T> {
    /// Has the next refresh look at the files.
    pub(in crate::http) fn make_due(&self) {
        locked(&self.0.state).looked = Instant::now().checked_sub(REFRESH_INTERVAL).unwrap();
    }

    /// Has the next refresh come too soon after the last look, even if the caller is held up for a while.
    fn make_recent(&self) {
        locked(&self.0.state).looked = Instant::now() + REFRESH_INTERVAL * 60;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &Path) -> Result<String, std::io::Error> {
        std::fs::read_to_string(path)
    }

    #[tokio::test]
    async fn a_changed_file_is_read_again_once_a_second_and_at_once_on_reload() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "one").unwrap();
        let value = Reloaded::read("the text", file.path(), text).unwrap();
        std::fs::write(file.path(), "two").unwrap();
        value.make_recent();
        value.refresh().await;
        assert_eq!(*value.get(), "one", "a second is not over");
        value.make_due();
        value.refresh().await;
        assert_eq!(*value.get(), "two");
        std::fs::write(file.path(), "three").unwrap();
        value.reload().await;
        assert_eq!(*value.get(), "three");
    }

    #[tokio::test]
    async fn an_unchanged_file_is_not_read_again() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "one").unwrap();
        let value = Reloaded::read("the text", file.path(), text).unwrap();
        let before = value.get();
        locked(&value.0.state).stamp = Stamp::of(&value.0.paths);
        value.look().await;
        assert!(Arc::ptr_eq(&before, &value.get()));
        assert!(locked(&value.0.state).stamp.is_some());
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_read_keeps_the_previous_value_until_it_can() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "one").unwrap();
        let value = Reloaded::read("the text", &path, text).unwrap();
        std::fs::remove_file(&path).unwrap();
        value.reload().await;
        assert_eq!(*value.get(), "one");
        std::fs::write(&path, "two").unwrap();
        value.make_due();
        value.refresh().await;
        assert_eq!(*value.get(), "two");
        assert!(Reloaded::read("the text", Path::new("/nowhere"), text).is_err());
    }

    #[tokio::test]
    async fn files_that_belong_together_are_read_together() {
        let dir = tempfile::tempdir().unwrap();
        let paths = ["certificate", "key"].map(|name| dir.path().join(name));
        paths.iter().for_each(|path| std::fs::write(path, "1").unwrap());
        let joined = |paths: &[PathBuf]| paths.iter().map(|path| text(path)).collect::<Result<String, _>>();
        let value = Reloaded::read_all("the pair", paths.to_vec(), joined).unwrap();
        std::fs::write(&paths[1], "2").unwrap();
        value.make_due();
        value.refresh().await;
        assert_eq!(*value.get(), "12");
    }
}
