//! Users in a file of `htpasswd -B`: a name, a colon and the bcrypt hash of a password in each line.

mod table;

use std::{
    collections::HashSet,
    path::Path,
    sync::{Arc, Mutex},
};

use ocipfs_oci::Digest;
use tokio::sync::Semaphore;

use super::{
    lock::locked,
    reloaded::{Reload, Reloaded},
};
pub use table::Error;
use table::UserTable;

/// Logins that need no second look.
const CACHE_ENTRIES: usize = 1_000;
/// bcrypt is slow by intent: so many are computed at once.
const CONCURRENCY: usize = 2;
/// Logins that are computed or wait for it: some seconds of work at usual costs.
const MAX_QUEUED: usize = 32;
/// bcrypt does not look at what comes after, so two longer passwords would be the same.
const MAX_PASSWORD_BYTES: usize = 72;

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
    table: Reloaded<UserTable>,
    known: Mutex<HashSet<Digest>>,
    queue: Arc<Semaphore>,
    computing: Arc<Semaphore>,
}

impl Users {
    /// Reads a file. It has users at first; if it loses them all later, every login fails.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let table = Reloaded::read("the users", path, UserTable::read)?;
        if table.get().is_empty() {
            return Err(Error::Empty(path.display().to_string()));
        }
        Ok(Self(Arc::new(UsersInner {
            table,
            known: Mutex::default(),
            queue: Arc::new(Semaphore::new(MAX_QUEUED)),
            computing: Arc::new(Semaphore::new(CONCURRENCY)),
        })))
    }

    /// Reads the file again if it was changed; looks at most once a second.
    pub async fn refresh(&self) {
        self.0.table.refresh().await;
    }

    /// Returns the file, to be read again on SIGHUP.
    pub(crate) fn file(&self) -> Box<dyn Reload> {
        Box::new(self.0.table.clone())
    }

    fn table(&self) -> Arc<UserTable> {
        self.0.table.get()
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

    #[test]
    fn a_disconnected_client_frees_its_slot_only_when_bcrypt_has_finished() {
        // The only thread for such work is busy until the test lets it go.
        let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
        let (busy, is_free) = std::sync::mpsc::channel::<()>();
        runtime.spawn_blocking(move || is_free.recv());
        runtime.block_on(async {
            let file = file(&[("me", "secret")]);
            let users = Users::read(file.path()).unwrap();
            let gone = Box::pin(users.login("me", "other"));
            // Polled once, it has begun.
            assert!(futures::FutureExt::now_or_never(gone).is_none());
            assert_eq!(users.0.computing.available_permits(), CONCURRENCY - 1);
            assert_eq!(users.0.queue.available_permits(), MAX_QUEUED - 1);
            drop(busy);
            drop(users.0.computing.acquire_many(CONCURRENCY as u32).await.unwrap());
            assert_eq!(users.0.queue.available_permits(), MAX_QUEUED);
        });
    }

    #[tokio::test]
    async fn a_htpasswd_reload_revokes_removed_users_and_changed_passwords() {
        let file = file(&[("me", "secret"), ("gone", "secret")]);
        let users = Users::read(file.path()).unwrap();
        let me = users.login("me", "secret").await.unwrap();
        let gone = users.login("gone", "secret").await.unwrap();
        write(&file, &[("me", "other")]);
        users.0.table.reload().await;
        assert_eq!(users.login("me", "secret").await, Err(LoginError::Wrong));
        assert_eq!(users.login("gone", "secret").await, Err(LoginError::Wrong));
        assert!(users.login("me", "other").await.is_ok());
        assert!(!users.still_has(&me) && !users.still_has(&gone));
        // A file that is half written changes nothing; one without users has none.
        std::fs::write(file.path(), "me:$2y$").unwrap();
        users.0.table.reload().await;
        assert!(users.login("me", "other").await.is_ok());
        std::fs::write(file.path(), "").unwrap();
        users.0.table.reload().await;
        assert_eq!(users.login("me", "other").await, Err(LoginError::Wrong));
    }
}
