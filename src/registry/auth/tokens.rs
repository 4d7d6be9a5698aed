//! Tokens of the token endpoint, in place of passwords, in memory.

use std::{
    collections::{HashMap, VecDeque},
    mem::Discriminant,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::identity::Identity;
use crate::access::Scopes;

/// Lifetime of a token as clients are told; the registry accepts it for `GRACE` longer.
pub const LIFETIME: Duration = Duration::from_secs(300);
const GRACE: Duration = Duration::from_secs(60);
/// Tokens that are valid at one time. Beyond that the oldest of the login with the most is dropped: one login cannot end the
/// tokens of others that have fewer.
const MAX_TOKENS: usize = 10_000;
/// Tokens of one login; beyond that the oldest of them is dropped.
const MAX_TOKENS_OF_ONE: usize = 100;
/// Token of anonymous clients.
pub const ANONYMOUS: &str = "anybody";

/// Tokens of logins. Clones share them.
#[derive(Clone, Default)]
pub struct Tokens(Arc<Mutex<Issues>>);

#[derive(Default)]
struct Issues {
    by_token: HashMap<String, Issue>,
    /// The tokens of each login, the oldest first.
    by_owner: HashMap<Owner, VecDeque<String>>,
}

/// A kind of login, and its name: users of different kinds may have the same.
type Owner = (Discriminant<Identity>, String);

/// What a token stands for, and when it expires.
struct Issue {
    session: TokenSession,
    end: Instant,
}

/// A login, and what the token of it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSession {
    pub identity: Identity,
    pub scopes: Scopes,
}

impl Tokens {
    /// Issues a token for a login.
    pub fn issue(&self, session: TokenSession, now: Instant) -> String {
        let token = Uuid::new_v4().simple().to_string();
        let issue = Issue { session, end: now + LIFETIME + GRACE };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).add(token.clone(), issue, now);
        token
    }

    /// Returns what a token stands for; none if it is unknown or expired.
    pub fn find(&self, token: &str, now: Instant) -> Option<TokenSession> {
        let tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let issue = tokens.by_token.get(token).filter(|issue| issue.end > now)?;
        Some(issue.session.clone())
    }
}

impl Issues {
    fn add(&mut self, token: String, issue: Issue, now: Instant) {
        if self.by_token.len() >= MAX_TOKENS {
            self.remove_expired(now);
        }
        let owner = owner(&issue.session.identity);
        if self.by_owner.get(&owner).is_some_and(|tokens| tokens.len() >= MAX_TOKENS_OF_ONE) {
            self.remove_oldest_of(&owner);
        } else if self.by_token.len() >= MAX_TOKENS
            && let Some(most) = self.by_owner.iter().max_by_key(|(_, tokens)| tokens.len())
        {
            let most = most.0.clone();
            self.remove_oldest_of(&most);
        }
        self.by_owner.entry(owner).or_default().push_back(token.clone());
        self.by_token.insert(token, issue);
    }

    fn remove_expired(&mut self, now: Instant) {
        self.by_token.retain(|_, issue| issue.end > now);
        let Self { by_token, by_owner } = self;
        by_owner.retain(|_, tokens| {
            tokens.retain(|token| by_token.contains_key(token));
            !tokens.is_empty()
        });
    }

    fn remove_oldest_of(&mut self, owner: &Owner) {
        let Some(tokens) = self.by_owner.get_mut(owner) else { return };
        if let Some(oldest) = tokens.pop_front() {
            self.by_token.remove(&oldest);
        }
        if tokens.is_empty() {
            self.by_owner.remove(owner);
        }
    }
}

fn owner(identity: &Identity) -> Owner {
    (std::mem::discriminant(identity), identity.name().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::htpasswd::Login;

    fn session(user: &str) -> TokenSession {
        TokenSession { identity: Identity::Certificate(user.into()), scopes: Scopes::default() }
    }

    #[test]
    fn a_token_expires_after_its_lifetime() {
        let (tokens, now) = (Tokens::default(), Instant::now());
        let first = tokens.issue(session("alice"), now);
        assert_eq!(tokens.find(&first, now), Some(session("alice")));
        assert_eq!(tokens.find(&first, now + LIFETIME + GRACE), None);
        assert_eq!(tokens.find("", now), None);
        for n in 0..MAX_TOKENS {
            tokens.issue(session(&n.to_string()), now);
        }
        let last = tokens.issue(session("alice"), now + Duration::from_secs(3600));
        let issues = tokens.0.lock().unwrap();
        assert_eq!((issues.by_token.len(), issues.by_owner.len()), (1, 1));
        drop(issues);
        assert_eq!(tokens.find(&last, now), Some(session("alice")));
    }

    #[test]
    fn a_login_with_many_tokens_ends_its_own_and_those_of_no_other() {
        let (tokens, now) = (Tokens::default(), Instant::now());
        let of_alice = tokens.issue(session("alice"), now);
        // Of another kind of login, with the same name.
        let user = TokenSession { identity: Identity::User(Login::default()), scopes: Scopes::default() };
        let of_user = tokens.issue(user, now);
        let of_bob: Vec<String> = (0..2 * MAX_TOKENS).map(|_| tokens.issue(session("bob"), now)).collect();
        let valid = |token: &&String| tokens.find(token, now).is_some();
        assert_eq!(of_bob.iter().rev().take_while(valid).count(), MAX_TOKENS_OF_ONE);
        assert_eq!(of_bob.iter().filter(valid).count(), MAX_TOKENS_OF_ONE);
        assert!(valid(&&of_alice) && valid(&&of_user));
        // With tokens of many logins, the one with the most loses them first.
        for n in 0..MAX_TOKENS - 10 {
            tokens.issue(session(&n.to_string()), now);
        }
        assert!(valid(&&of_alice) && valid(&&of_user));
        assert!(of_bob.iter().filter(valid).count() < MAX_TOKENS_OF_ONE);
        assert_eq!(tokens.0.lock().unwrap().by_token.len(), MAX_TOKENS);
    }
}
