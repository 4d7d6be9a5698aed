//! What all HTTP listeners have in common: connections and their limits, where a request comes from, and users.

pub(crate) mod access_log;
mod access_rules;
pub(crate) mod acme;
pub(crate) mod basic;
pub mod closing;
mod drain;
pub(crate) mod events;
mod hosts;
pub(crate) mod htpasswd;
pub(crate) mod issued;
pub(crate) mod listener;
mod lock;
pub mod metrics;
pub(crate) mod oidc;
pub(crate) mod origin;
pub(crate) mod page_visitor;
mod policy_file;
mod public_url;
pub(crate) mod reloaded;
mod source;
pub(crate) mod tls;
pub(crate) mod viewer;

pub use access_rules::{AccessRules, Error as AccessRulesError};
pub(crate) use drain::{DRAIN_TIMEOUT, MAX_DRAIN_BYTES, drain};
pub use htpasswd::{Error as UsersError, Users};
pub use issued::{Error as TokensError, IssuedToken, IssuedTokens};
pub use policy_file::{Error as PolicyFileError, PolicyFile};
pub use public_url::{NoPublicUrl, PublicUrl};
