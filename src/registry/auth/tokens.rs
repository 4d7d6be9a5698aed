//! Tokens of the token endpoint, in place of passwords, in memory.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::identity::Identity;
use crate::access::Scopes;

/// Lifetime of a token as clients are told; the registry accepts it for `GRACE` longer.
pub const LIFETIME: Duration = Duration::from_secs(300);
const GRACE: Duration = Duration::from_secs(60);
/// Tokens that are valid at one time; beyond that the oldest is dropped.
const MAX_TOKENS: usize = 10_000;
/// Token of anonymous clients.
pub const ANONYMOUS: &str = "anybody";

/// Tokens of logins. Clones share them.
#[derive(Clone, Default)]
pub struct Tokens(Arc<Mutex<HashMap<String, Issue>>>);

/// What a token stands for, and when it expires.
struct Issue {
    session: Session,
    end: Instant,
}

/// A login, and what the token of it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub identity: Identity,
    pub scopes: Scopes,
}

impl Tokens {
    /// Issues a token for a login.
    pub fn issue(&self, session: Session, now: Instant) -> String {
        let token = Uuid::new_v4().simple().to_string();
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= MAX_TOKENS {
            tokens.retain(|_, issue| issue.end > now);
        }
        if tokens.len() >= MAX_TOKENS
            && let Some(oldest) =
                tokens.iter().min_by_key(|(_, issue)| issue.end).map(|(token, _)| token.clone())
        {
            tokens.remove(&oldest);
        }
        tokens.insert(token.clone(), Issue { session, end: now + LIFETIME + GRACE });
        token
    }

    /// Returns what a token stands for; none if it is unknown or expired.
    pub fn find(&self, token: &str, now: Instant) -> Option<Session> {
        let tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let issue = tokens.get(token).filter(|issue| issue.end > now)?;
        Some(issue.session.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::htpasswd::Login;

    #[test]
    fn a_token_expires_after_its_lifetime_and_the_oldest_is_evicted_first() {
        let (tokens, now) = (Tokens::default(), Instant::now());
        let me = || Session { identity: Identity::User(Login::default()), scopes: Scopes::default() };
        let first = tokens.issue(me(), now);
        assert_eq!(tokens.find(&first, now), Some(me()));
        assert_eq!(tokens.find(&first, now + LIFETIME + GRACE), None);
        assert_eq!(tokens.find("", now), None);
        for n in 0..MAX_TOKENS as u64 {
            tokens.issue(me(), now + Duration::from_millis(n + 1));
        }
        assert_eq!(tokens.find(&first, now), None);
        let last = tokens.issue(me(), now + Duration::from_secs(3600));
        assert_eq!(tokens.0.lock().unwrap().len(), 1);
        assert_eq!(tokens.find(&last, now), Some(me()));
    }
}
