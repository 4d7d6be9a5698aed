//! Tokens in place of passwords, in memory.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use uuid::Uuid;

use crate::http::htpasswd::Login;

/// Lifetime of a token as clients are told; the registry accepts it for `GRACE` longer.
pub const LIFETIME: Duration = Duration::from_secs(300);
const GRACE: Duration = Duration::from_secs(60);
/// Tokens that are valid at one time; beyond that the oldest is dropped.
const MAX_TOKENS: usize = 10_000;
/// Token of anonymous clients.
pub const ANONYMOUS: &str = "anybody";

/// Tokens of users. Clones share them.
#[derive(Clone, Default)]
pub struct Tokens(Arc<Mutex<HashMap<String, Grant>>>);

/// Login that a token stands for, and when the token expires.
struct Grant {
    login: Login,
    end: Instant,
}

/// Holder of a token.
#[derive(Debug, PartialEq, Eq)]
pub enum Holder {
    /// This user, if the file of users still has the login.
    User(Login),
    /// A client without a login.
    Anonymous,
}

impl Tokens {
    /// Issues a token for a login.
    pub fn issue(&self, login: Login, now: Instant) -> String {
        let token = Uuid::new_v4().simple().to_string();
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= MAX_TOKENS {
            tokens.retain(|_, grant| grant.end > now);
        }
        if tokens.len() >= MAX_TOKENS
            && let Some(oldest) =
                tokens.iter().min_by_key(|(_, grant)| grant.end).map(|(token, _)| token.clone())
        {
            tokens.remove(&oldest);
        }
        tokens.insert(token.clone(), Grant { login, end: now + LIFETIME + GRACE });
        token
    }

    /// Returns the holder of a token; none if it is unknown or expired.
    pub fn holder(&self, token: &str, now: Instant) -> Option<Holder> {
        if token == ANONYMOUS {
            return Some(Holder::Anonymous);
        }
        let tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let grant = tokens.get(token).filter(|grant| grant.end > now)?;
        Some(Holder::User(grant.login.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_expires_after_its_lifetime_and_the_oldest_is_evicted_first() {
        let (tokens, now) = (Tokens::default(), Instant::now());
        let me = || Login::default();
        let first = tokens.issue(me(), now);
        assert_eq!(tokens.holder(&first, now), Some(Holder::User(me())));
        assert_eq!(tokens.holder(&first, now + LIFETIME + GRACE), None);
        assert_eq!(tokens.holder(ANONYMOUS, now), Some(Holder::Anonymous));
        assert_eq!(tokens.holder("", now), None);
        for n in 0..MAX_TOKENS as u64 {
            tokens.issue(me(), now + Duration::from_millis(n + 1));
        }
        assert_eq!(tokens.holder(&first, now), None);
        let last = tokens.issue(me(), now + Duration::from_secs(3600));
        assert_eq!(tokens.0.lock().unwrap().len(), 1);
        assert_eq!(tokens.holder(&last, now), Some(Holder::User(me())));
    }
}
