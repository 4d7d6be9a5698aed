//! Users in a file of `htpasswd -B`: a name, a colon and the bcrypt hash of a password in each line.

mod table;

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use ocipfs_oci::Digest;
use tokio::sync::Semaphore;

use table::UserTable;
pub use table::{Error, Stamp};

/// Logins that need no second look.
const CACHE_ENTRIES: usize = 1_000;
/// bcrypt is slow by intent: so many are computed at once.
const CONCURRENCY: usize = 2;
/// Logins that are computed or wait for it: some seconds of work at usual costs.
const MAX_QUEUED: usize = 32;
/// bcrypt does not look at what comes after, so two longer passwords would be the same.
const MAX_PASSWORD_BYTES: usize = 72;
/// Between two looks at the file.
const RELOAD_INTERVAL: Duration = Duration::from_secs(1);

/// A user, and the hash that the password matched: good for as long as the file has both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Login {
    user: String,
    hash: String,
}

impl Login {
    /// Returns the name of the user.
    pub fn user(&self) -> &str {
        &self.user
    }
}

/// Why a login fails.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// The user is unknown, or the password is another.
    #[error("wrong user name or password")]
    Wrong,
    /// Not all of it would count.
    #[error("password is too long: {0} bytes, limit {MAX_PASSWORD_BYTES} (bcrypt)")]
    TooLong(usize),
    /// Others wait already.
    #[error("too many concurrent logins: the limit is {MAX_QUEUED}; try again later")]
    Busy,
}

/// Users, by their names. Clones share what is remembered.
#[derive(Clone)]
pub struct Users(Arc<UsersInner>);

struct UsersInner {
    path: PathBuf,
    file: Mutex<UsersFile>,
    known: Mutex<HashSet<Digest>>,
    queue: Arc<Semaphore>,
    computing: Arc<Semaphore>,
}

/// Users file as it was last read.
struct UsersFile {
    table: Arc<UserTable>,
    stamp: Option<Stamp>,
    looked: Instant,
    /// Why its newest content is not used.
    failing: Option<String>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Users {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let (table, stamp) = UserTable::read(path)?;
        if table.is_empty() {
            return Err(Error::Empty(path.display().to_string()));
        }
        let file = UsersFile { table: Arc::new(table), stamp, looked: Instant::now(), failing: None };
        Ok(Self(Arc::new(UsersInner {
            path: path.into(),
            file: Mutex::new(file),
            known: Mutex::default(),
            queue: Arc::new(Semaphore::new(MAX_QUEUED)),
            computing: Arc::new(Semaphore::new(CONCURRENCY)),
        })))
    }

    /// Reads the file again if it was changed; looks at most once a second.
    pub async fn refresh(&self) {
        if locked(&self.0.file).looked.elapsed() >= RELOAD_INTERVAL {
            self.look().await;
        }
    }

    /// Reads the file again at once.
    pub async fn reload(&self) {
        locked(&self.0.file).stamp = None;
        self.look().await;
    }

    async fn look(&self) {
        let users = self.clone();
        let _ = tokio::task::spawn_blocking(move || users.read_changed()).await;
    }

    /// Keeps the users it has where the file cannot be read: it may be half written.
    fn read_changed(&self) {
        let path = &self.0.path;
        let mut file = locked(&self.0.file);
        file.looked = Instant::now();
        if file.stamp.is_some() && file.stamp == Stamp::of(path) {
            return;
        }
        match UserTable::read(path) {
            Ok((table, stamp)) => {
                if *file.table != table {
                    tracing::info!(path = %path.display(), users = table.len(), "reloaded the users");
                }
                (file.table, file.stamp, file.failing) = (Arc::new(table), stamp, None);
            }
            Err(error) => {
                let why = error.to_string();
                if file.failing.as_ref() != Some(&why) {
                    tracing::warn!("cannot reload the users, the previous ones stay: {why}");
                }
                (file.stamp, file.failing) = (None, Some(why));
            }
        }
    }

    fn table(&self) -> Arc<UserTable> {
        locked(&self.0.file).table.clone()
    }

    /// Whether there is a user of this name.
    pub fn has(&self, user: &str) -> bool {
        self.table().hash(user).is_some()
    }

    /// Whether a login from before is one still.
    pub fn still_has(&self, login: &Login) -> bool {
        self.table().hash(&login.user) == Some(&login.hash)
    }

    /// Checks a user's password.
    pub async fn login(&self, user: &str, password: &str) -> Result<Login, LoginError> {
        if password.len() > MAX_PASSWORD_BYTES {
            return Err(LoginError::TooLong(password.len()));
        }
        let table = self.table();
        let own = table.hash(user);
        let hash = own.or_else(|| table.decoy(user)).ok_or(LoginError::Wrong)?.to_string();
        // Neither a hash nor a user's name holds a colon.
        let proof = Digest::sha256_of(format!("{hash}:{user}:{password}").as_bytes());
        let login = own.map(|_| Login { user: user.into(), hash: hash.clone() }).ok_or(LoginError::Wrong);
        if login.is_ok() && locked(&self.0.known).contains(&proof) {
            return login;
        }
        if !self.verify(password.into(), hash).await? {
            return Err(LoginError::Wrong);
        }
        if login.is_ok() {
            self.remember(proof);
        }
        login
    }

    /// Computes bcrypt in turn. It keeps its place when the client goes away, since the work goes on.
    async fn verify(&self, password: String, hash: String) -> Result<bool, LoginError> {
        let place = self.0.queue.clone().try_acquire_owned().map_err(|_| LoginError::Busy)?;
        let turn = self.0.computing.clone().acquire_owned().await.map_err(|_| LoginError::Busy)?;
        let verify = move || {
            let _held = (place, turn);
            bcrypt::verify(password, &hash).unwrap_or(false)
        };
        Ok(tokio::task::spawn_blocking(verify).await.unwrap_or(false))
    }

    fn remember(&self, proof: Digest) {
        let mut known = locked(&self.0.known);
        if known.len() >= CACHE_ENTRIES {
            known.clear();
        }
        known.insert(proof);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(lines: &[(&str, &str)]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        write(&file, lines);
        file
    }

    fn write(file: &tempfile::NamedTempFile, lines: &[(&str, &str)]) {
        let line =
            |(user, password): &(&str, &str)| format!("{user}:{}\n", bcrypt::hash(password, 4).unwrap());
        std::fs::write(file.path(), lines.iter().map(line).collect::<String>()).unwrap();
    }

    #[tokio::test]
    async fn a_login_needs_the_right_user_and_password() {
        let file = file(&[("me", "secret")]);
        let users = Users::read(file.path()).unwrap();
        for _ in 0..2 {
            assert!(users.login("me", "secret").await.is_ok());
            for (user, password) in [("me", "other"), ("you", "secret"), ("me", "")] {
                assert_eq!(users.login(user, password).await, Err(LoginError::Wrong));
            }
        }
    }

    #[tokio::test]
    async fn passwords_over_the_72_byte_limit_of_bcrypt_are_rejected() {
        let longest = "x".repeat(72);
        let file = file(&[("me", &longest)]);
        let users = Users::read(file.path()).unwrap();
        assert!(users.login("me", &longest).await.is_ok());
        assert_eq!(users.login("me", &format!("{longest}y")).await, Err(LoginError::TooLong(73)));
    }

    #[tokio::test]
    async fn logins_beyond_the_bcrypt_queue_are_rejected_as_busy_except_cached_ones() {
        let file = file(&[("me", "secret"), ("new", "secret")]);
        let users = Users::read(file.path()).unwrap();
        users.login("me", "secret").await.unwrap();
        let _all = users.0.queue.clone().try_acquire_many_owned(MAX_QUEUED as u32).unwrap();
        assert_eq!(users.login("new", "secret").await, Err(LoginError::Busy));
        assert_eq!(users.login("nobody", "secret").await, Err(LoginError::Busy));
        assert!(users.login("me", "secret").await.is_ok());
    }

    #[tokio::test]
    async fn a_disconnected_client_frees_its_slot_only_when_bcrypt_has_finished() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("me:{}\n", bcrypt::hash("secret", 10).unwrap())).unwrap();
        let users = Users::read(file.path()).unwrap();
        let gone = Box::pin(users.login("me", "other"));
        // Polled once, it has begun.
        assert!(futures::FutureExt::now_or_never(gone).is_none());
        assert_eq!(users.0.computing.available_permits(), CONCURRENCY - 1);
        drop(users.0.computing.acquire_many(CONCURRENCY as u32).await.unwrap());
        assert_eq!(users.0.queue.available_permits(), MAX_QUEUED);
    }

    #[tokio::test]
    async fn a_htpasswd_reload_revokes_removed_users_and_changed_passwords() {
        let file = file(&[("me", "secret"), ("gone", "secret")]);
        let users = Users::read(file.path()).unwrap();
        let me = users.login("me", "secret").await.unwrap();
        let gone = users.login("gone", "secret").await.unwrap();
        write(&file, &[("me", "other")]);
        users.look().await;
        assert_eq!(users.login("me", "secret").await, Err(LoginError::Wrong));
        assert_eq!(users.login("gone", "secret").await, Err(LoginError::Wrong));
        assert!(users.login("me", "other").await.is_ok());
        assert!(!users.still_has(&me) && !users.still_has(&gone));
        // A file that is half written changes nothing; one without users has none.
        std::fs::write(file.path(), "me:$2y$").unwrap();
        users.reload().await;
        assert!(users.login("me", "other").await.is_ok());
        std::fs::write(file.path(), "").unwrap();
        users.look().await;
        assert_eq!(users.login("me", "other").await, Err(LoginError::Wrong));
    }

    #[tokio::test]
    async fn the_htpasswd_file_is_checked_once_a_second_and_reloaded_only_if_changed() {
        let file = file(&[("me", "secret")]);
        let users = Users::read(file.path()).unwrap();
        write(&file, &[("you", "secret")]);
        users.refresh().await;
        assert!(users.table().hash("you").is_none(), "a second is not over");
        locked(&users.0.file).looked = Instant::now().checked_sub(RELOAD_INTERVAL).unwrap();
        users.refresh().await;
        assert!(users.table().hash("you").is_some());
        let before = users.table();
        locked(&users.0.file).stamp = Stamp::of(file.path());
        users.look().await;
        assert!(Arc::ptr_eq(&before, &users.table()));
    }
}
