//! Who may do what: one evaluator for the registry, the gateway, the RPC and what peers get. Pure: it reads no file and knows no
//! request; `http::access_rules` reads the file, `registry::auth` knows who asks.
//!
//! ```text
//! file (access.toml) ──► Rules ──► allows(user, action, repository)
//!                          ├─► Immutable   tags that are not moved
//!                          ├─► Rates       of requests, for Buckets
//!                          └─► Oidc        issuers whose tokens stand for users
//! Scopes                   what one token is for, of what its user may do
//! ```

mod action;
mod buckets;
mod claims;
mod file;
mod pattern;
mod rules;
mod scope;
mod user;

#[cfg(test)]
pub(crate) mod tests;

pub use action::{Action, Actions};
pub use buckets::{Buckets, Rate};
pub use claims::{ClaimedUser, Oidc};
pub use file::Error;
pub use pattern::Pattern;
pub use rules::{Grant, Rules};
pub use scope::{Scope, Scopes};
pub use user::{ANONYMOUS, AUTHENTICATED, User};
