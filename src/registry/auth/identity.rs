//! The sender of a request, once it is known.

use std::sync::Arc;

use crate::{
    access::{Scopes, User},
    http::{IssuedToken, htpasswd::Login, oidc::OidcLogin},
};

/// Whom credentials stand for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Identity {
    /// A client without a login.
    #[default]
    Anonymous,
    /// A user of the file of users.
    User(Login),
    /// A user whom the certificate of the connection names.
    Certificate(String),
    /// A token of this node.
    Issued(Arc<IssuedToken>),
    /// A user of another issuer.
    Oidc(OidcLogin),
}

impl Identity {
    /// Returns the name for logs, messages and rate limits.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Anonymous => None,
            Self::User(login) => Some(login.user()),
            Self::Certificate(user) => Some(user),
            Self::Issued(token) => Some(&token.name),
            Self::Oidc(login) => login.user.name.as_deref(),
        }
    }

    /// Returns the user that rules are about. A token of this node is none: it says itself what it is for.
    pub fn user(&self) -> User {
        match self {
            Self::Anonymous | Self::Issued(_) => User::default(),
            Self::User(login) => User::named(login.user()),
            Self::Certificate(user) => User::named(user),
            Self::Oidc(login) => login.user.clone(),
        }
    }

    /// Returns the token of this node, if it is one.
    pub fn issued(&self) -> Option<&Arc<IssuedToken>> {
        match self {
            Self::Issued(token) => Some(token),
            Self::Anonymous | Self::User(_) | Self::Certificate(_) | Self::Oidc(_) => None,
        }
    }
}

/// What a request shows of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shown {
    /// No credentials.
    #[default]
    Nothing,
    /// Credentials that are wrong or expired.
    Wrong,
    /// Credentials that stand for the identity.
    Valid,
}

/// The sender of one request.
#[derive(Clone, Debug, Default)]
pub struct Visitor {
    pub identity: Identity,
    /// What its token is for.
    pub scopes: Scopes,
    pub shown: Shown,
}

impl Visitor {
    /// One whose credentials stand for an identity.
    pub fn valid(identity: Identity, scopes: Scopes) -> Self {
        Self { identity, scopes, shown: Shown::Valid }
    }

    /// One whose credentials stand for nothing.
    pub fn wrong() -> Self {
        Self { shown: Shown::Wrong, ..Self::default() }
    }
}
